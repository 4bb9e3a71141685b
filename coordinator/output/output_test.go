package output

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"windlass/coordinator/state"
	"windlass/protocol"
)

var secret = Secret(bytes.Repeat([]byte{7}, 32)) //nolint:gochecknoglobals // a constant

func completed(out *state.Outcome) *state.Job {
	out.Attempt, out.EndedMs = 3, 1_000_000
	return &state.Job{ID: protocol.JobID{1, 2, 3}, Status: protocol.StatusCompleted, Outcome: out}
}

func view(inline int) View {
	return View{Secret: secret, Base: "https://w.example", NowMs: 1_000_001, Inline: inline}
}

func withFiles(inline string, names ...string) *state.Job {
	o := &state.Outcome{Output: state.Payload{Inline: []byte(inline)}, OutputsUntilMs: 2_000_000}
	for i, name := range names {
		o.Files = append(o.Files, state.File{Name: name, Blob: state.Blob{SHA256: [32]byte{byte(i)}, Size: 2_516_582}})
	}
	return completed(o)
}

func TestOutputIsTheHandlersOwn(t *testing.T) {
	for _, own := range []string{`{"a": 1}`, `[1, 2]`, `"x"`, `null`, `{}`} {
		if got := view(100).Document(withFiles(own)); string(got) != own {
			t.Errorf("%s became %s", own, got)
		}
	}
	if got := view(100).Document(completed(&state.Outcome{})); got != nil {
		t.Errorf("nothing became %s", got)
	}
}

func TestFilesAreDescribedBehindIt(t *testing.T) {
	const described = `"outputUrl":"U","size":"2.4MB","sizeBytes":2516582,"format":"pdf","files":[{"name":"a.pdf","size":"2.4MB","sizeBytes":2516582,"format":"pdf","url":"U"}]}`
	for own, want := range map[string]string{
		`{"result": "saved" , "n":{"format":1}}`: `{"result": "saved" , "n":{"format":1},` + described,
		` { } `:                                  `{` + described,
		`"done"`:                                 `{"result":"done",` + described,
		`[1]`:                                    `{"result":[1],` + described,
		``:                                       `{` + described,
		`{"outputUrl":"mine","files":[],"size":7}`: `{"outputUrl":"mine","files":[],"size":7,"sizeBytes":2516582,"format":"pdf"}`,
	} {
		j := withFiles(own, "a.pdf")
		kept := string(j.Outcome.Output.Inline)
		got := string(view(1000).Document(j))
		u := URL(secret, "https://w.example", j, 0, 0)
		if !json.Valid([]byte(got)) || strings.ReplaceAll(got, u, "U") != want {
			t.Errorf("%s\nbecame %s\nwant   %s", own, got, want)
		}
		if string(j.Outcome.Output.Inline) != kept {
			t.Errorf("the row became %s", j.Outcome.Output.Inline)
		}
	}
}

func TestLargeOutputIsAFileToo(t *testing.T) {
	var out struct {
		URL   string `json:"outputUrl"`
		Files []protocol.FileInfo
	}
	if err := json.Unmarshal(view(3).Document(withFiles(`{"a": 1}`, "a.pdf")), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Files) != 2 || out.Files[0].URL != out.URL || out.Files[1].Name != "output.json" || out.Files[1].SizeBytes != 8 {
		t.Errorf("%+v", out)
	}
	if got := view(3).Document(withFiles(`{"a": 1}`)); strings.Contains(string(got), "files") || !strings.Contains(string(got), `"size":"8B"`) {
		t.Errorf("%s", got)
	}
}

func TestPartialOfAFailedJob(t *testing.T) {
	j := withFiles("", "a.mp4")
	j.Status, j.Outcome.Partial = protocol.StatusFailed, json.RawMessage(`{"frames":3}`)
	u := URL(secret, "https://w.example", j, 0, 0)
	if got := string(view(100).Partial(j)); got != `{"frames":3,"outputFiles":["`+u+`"]}` {
		t.Errorf("%s", got)
	}
	v := view(100)
	v.NowMs = 2_000_000 // deleted
	if got := string(v.Partial(j)); got != `{"frames":3}` {
		t.Errorf("%s", got)
	}
}

// ticket reads a URL as the server does.
func ticket(t *testing.T, raw string) (Ticket, bool) {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(u.Path, "/")
	q := u.Query()
	return Open(secret, parts[3], q.Get("part"), q.Get("expires"), q.Get("signature"))
}

func TestURLsOpen(t *testing.T) {
	j := withFiles(`{}`, "a b.pdf", "ü.txt")
	for part, name := range map[int]string{Whole: "output.json", 0: "a%20b.pdf", 1: "%C3%BC.txt"} {
		u := URL(secret, "https://w.example", j, part, 0)
		got, ok := ticket(t, u)
		if want := (Ticket{Job: j.ID, Attempt: 3, Part: part, Expires: 2000}); !ok || got != want || !strings.Contains(u, "/"+name+"?") {
			t.Errorf("%s: %+v %t", u, got, ok)
		}
	}
	if u := URL(Secret{}, "", j, 0, 0); u != "" {
		t.Errorf("signed without a secret: %s", u)
	}
	if u := URL(secret, "", j, 0, 2_000_000); u != "" {
		t.Errorf("signed after it was deleted: %s", u)
	}
}

// FuzzOpen: nothing but what was signed opens, however it is written.
func FuzzOpen(f *testing.F) {
	id := protocol.JobID{1}.String()
	good := Ticket{Job: protocol.JobID{1}, Attempt: 3, Part: 0, Expires: 2000}
	q, _ := url.ParseQuery(good.query(secret))
	f.Add(id, q.Get("part"), q.Get("expires"), q.Get("signature"))
	f.Add(id, "3.-1", "2000", q.Get("signature"))
	f.Add("job_x", "3", "-1", "")
	f.Fuzz(func(t *testing.T, job, part, expires, signature string) {
		got, ok := Open(secret, job, part, expires, signature)
		if ok && got != good {
			t.Fatalf("%s %s %s %s opens as %+v", job, part, expires, signature, got)
		}
		if _, ok := Open(Secret{}, job, part, expires, signature); ok {
			t.Fatal("opened without a secret")
		}
	})
}

func FuzzGrant(f *testing.F) {
	good := Grant{SHA256: [32]byte{1}, Size: 5, ExpiresMs: 9}
	f.Add(good.Token(secret))
	f.Add("")
	f.Fuzz(func(t *testing.T, token string) {
		if g, ok := ReadGrant(secret, token); ok && g != good {
			t.Fatalf("%q is a grant: %+v", token, g)
		}
		if _, ok := ReadGrant(Secret{}, token); ok {
			t.Fatal("read without a secret")
		}
	})
}

func TestLabelsKeepSignaturesApart(t *testing.T) {
	g := Grant{SHA256: [32]byte{1}, Size: 5, ExpiresMs: 9}
	if got, ok := ReadGrant(secret, g.Token(secret)); !ok || got != g {
		t.Errorf("%+v %t", got, ok)
	}
	other := secret
	other[0]++
	if _, ok := ReadGrant(other, g.Token(secret)); ok {
		t.Error("another secret reads it")
	}
}
