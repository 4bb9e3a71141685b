package api

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"windlass/protocol"
)

// ask asks for grants for what an attempt made.
func (a *agent) ask(got protocol.Assignment, output string, files map[string]string) answer {
	a.w.t.Helper()
	req := protocol.GrantRequest{Agent: a.id, Incarnation: a.life, Job: got.Job, Attempt: got.Attempt}
	if output != "" {
		req.Output = &protocol.BlobRef{SHA256: sha(output), Size: int64(len(output))}
	}
	for name, content := range files {
		req.Files = append(req.Files, protocol.OutputFile{Name: name, SHA256: sha(content), Size: int64(len(content))})
	}
	b, err := protocol.EncodeJSON(req)
	if err != nil {
		a.w.t.Fatal(err)
	}
	return a.w.post(protocol.PathOutputs, string(b))
}

// upload stores what an attempt made, as granted.
func (a *agent) upload(got protocol.Assignment, output string, files map[string]string) {
	a.w.t.Helper()
	var grants protocol.GrantResponse
	if r := a.ask(got, output, files); r.status != 200 {
		a.w.t.Fatalf("%d %s", r.status, r.body)
	} else {
		r.json(a.w.t, &grants)
	}
	contents := map[string]string{sha(output): output}
	for _, content := range files {
		contents[sha(content)] = content
	}
	for _, g := range grants.Grants {
		if r := a.w.do("PUT", protocol.PathOutputs+"/"+g.SHA256, contents[g.SHA256], protocol.HeaderGrant, g.Token); r.status != 200 {
			a.w.t.Fatalf("%d %s", r.status, r.body)
		}
	}
}

func outputFile(name, content string) protocol.OutputFile {
	return protocol.OutputFile{Name: name, SHA256: sha(content), Size: int64(len(content))}
}

// fetch follows a signed URL without a key.
func (w *world) fetch(raw string) answer {
	w.t.Helper()
	return w.get(strings.TrimPrefix(raw, "http://windlass.test"), "Authorization", "")
}

type shownOutput struct {
	Result    string              `json:"result"`
	OutputURL string              `json:"outputUrl"`
	Size      string              `json:"size"`
	SizeBytes int64               `json:"sizeBytes"`
	Format    string              `json:"format"`
	Files     []protocol.FileInfo `json:"files"`
}

func shownOf(t *testing.T, raw json.RawMessage) (out shownOutput) {
	t.Helper()
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatalf("%s: %v", raw, err)
	}
	return out
}

// TestOutputFiles: acceptance 134 to 136, 144, 145.
func TestOutputFiles(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	pdf, notes := "%PDF "+strings.Repeat("x", 2500), "three notes"
	a.upload(got, "", map[string]string{"report v2.pdf": pdf, "résumé.txt": notes})
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(`{"result": "saved", "nested":{"size":1}}`),
		Files: []protocol.OutputFile{outputFile("report v2.pdf", pdf), outputFile("résumé.txt", notes)}})
	answered := w.get("/v2/jobs/" + id.String() + "/status")
	var doc protocol.JobStatus
	answered.json(t, &doc)
	if !strings.Contains(string(answered.body), `"output":{"result":"saved","nested":{"size":1},"outputUrl":"http://windlass.test/v2/outputs/`) {
		t.Errorf("%s", answered.body)
	}
	out := shownOf(t, doc.Output)
	if out.Size != "2.4KB" || out.SizeBytes != int64(len(pdf)) || out.Format != "pdf" || len(out.Files) != 2 || out.Files[0].URL != out.OutputURL ||
		out.Files[1].Name != "résumé.txt" || out.Files[1].Size != "11B" || len(doc.Files) != 2 || doc.OutputExpiresAt.Sub(doc.CompletedAt) < protocol.OutputTerm {
		t.Errorf("%+v %v", out, doc.OutputExpiresAt)
	}
	file := w.fetch(out.OutputURL)
	if file.status != 200 || string(file.body) != pdf || file.header.Get("Content-Type") != "application/pdf" ||
		!strings.HasPrefix(file.header.Get("Content-Disposition"), `attachment; filename="report v2.pdf"`) ||
		file.header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(file.header.Get("Content-Security-Policy"), "sandbox") {
		t.Errorf("%d %v", file.status, file.header)
	}
	if file := w.fetch(out.Files[1].URL); string(file.body) != notes || !strings.Contains(file.header.Get("Content-Disposition"), "UTF-8''r%C3%A9sum%C3%A9.txt") {
		t.Errorf("%d %v %s", file.status, file.header, file.body)
	}
	// The URL is the same whenever it is asked for; what the handler returned is not touched.
	if again := w.jobStatus(id, ""); string(again.Output) != string(doc.Output) {
		t.Errorf("%s, then %s", doc.Output, again.Output)
	}
	if own := w.get("/v2/jobs/" + id.String() + "/output"); string(own.body) != `{"result":"saved","nested":{"size":1}}` {
		t.Errorf("%s", own.body)
	}
	var org protocol.Org
	w.get("/v2/orgs/org_default").json(t, &org)
	if org.StorageUsed != int64(len(pdf)+len(notes)) {
		t.Errorf("%d bytes are stored", org.StorageUsed)
	}
	// Run again, the job has another output, and the URL leads nowhere.
	w.post("/v2/jobs/"+id.String()+"/retry", "")
	if file := w.fetch(out.OutputURL); file.status != 404 {
		t.Errorf("the output of before: %d %s", file.status, file.body)
	}
}

// TestForgedOutputURLs: every part of a URL is signed, and what was not is as if
// it were not there (S16, I21).
func TestForgedOutputURLs(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	a := w.agent()
	made := func() (string, protocol.JobID) {
		id := w.submit("ep", `{"input": {}}`)
		got := a.take()
		a.upload(got, "", map[string]string{"a.txt": "one", "b.txt": "two"})
		a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(`{}`),
			Files: []protocol.OutputFile{outputFile("a.txt", "one"), outputFile("b.txt", "two")}})
		return shownOf(t, w.jobStatus(id, "").Output).OutputURL, id
	}
	good, id := made()
	_, other := made()
	if a := w.fetch(good); a.status != 200 || string(a.body) != "one" {
		t.Fatalf("%d %s", a.status, a.body)
	}
	unknown := w.fetch("/v2/outputs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/a.txt?part=1.0&expires=9999999999&signature=AAAAAAAAAAAAAAAAAAAAAA")
	u, err := url.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	forged := func(change func(u *url.URL, q url.Values)) string {
		v, c := *u, url.Values{}
		for k := range q {
			c.Set(k, q.Get(k))
		}
		change(&v, c)
		v.RawQuery = c.Encode()
		return v.String()
	}
	for name, raw := range map[string]string{
		"another job":       forged(func(u *url.URL, _ url.Values) { u.Path = "/v2/outputs/" + other.String() + "/a.txt" }),
		"another file":      forged(func(u *url.URL, q url.Values) { u.Path = "/v2/outputs/" + id.String() + "/b.txt"; q.Set("part", "1.1") }),
		"another name":      forged(func(u *url.URL, _ url.Values) { u.Path = "/v2/outputs/" + id.String() + "/x.html" }),
		"another attempt":   forged(func(_ *url.URL, q url.Values) { q.Set("part", "2.0") }),
		"the output":        forged(func(_ *url.URL, q url.Values) { q.Set("part", "1.-1") }),
		"a later expiry":    forged(func(_ *url.URL, q url.Values) { q.Set("expires", "9999999999") }),
		"no signature":      forged(func(_ *url.URL, q url.Values) { q.Del("signature") }),
		"a short signature": forged(func(_ *url.URL, q url.Values) { q.Set("signature", q.Get("signature")[:10]) }),
		"no number":         forged(func(_ *url.URL, q url.Values) { q.Set("part", "1") }),
	} {
		got := w.fetch(raw)
		if got.status != 404 || string(withoutID(got.body)) != string(withoutID(unknown.body)) {
			t.Errorf("%s: %d %s", name, got.status, got.body)
		}
	}
}

// withoutID takes the request's id out of an error.
func withoutID(body []byte) []byte {
	var e map[string]any
	if json.Unmarshal(body, &e) != nil {
		return body
	}
	delete(e, "requestId")
	b, _ := json.Marshal(e)
	return b
}

func TestLargeOutputIsAURL(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	large := `"` + strings.Repeat("y", 200<<10) + `"`
	a.upload(got, large, nil)
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, OutputRef: &protocol.BlobRef{SHA256: sha(large), Size: int64(len(large))}})
	doc := w.jobStatus(id, "")
	out := shownOf(t, doc.Output)
	if out.Format != "json" || out.Size != "200KB" || out.Files != nil || doc.Files != nil {
		t.Errorf("%s", doc.Output)
	}
	for _, file := range []answer{w.fetch(out.OutputURL), w.get("/v2/jobs/" + id.String() + "/output")} {
		if file.status != 200 || string(file.body) != large || file.header.Get("Content-Type") != "application/json" {
			t.Errorf("%d, %d bytes", file.status, len(file.body))
		}
	}
	// Where less is shown inline, an output in the log has a URL as well.
	id = w.submit("ep", `{"input": {}}`)
	small := `"` + strings.Repeat("z", 5<<10) + `"`
	a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(small)})
	var page protocol.Page[protocol.JobStatus]
	w.get("/v2/jobs?limit=1").json(t, &page)
	if page.Data[0].JobID != id {
		t.Fatal("not the newest job")
	}
	if file := w.fetch(shownOf(t, page.Data[0].Output).OutputURL); string(file.body) != small {
		t.Errorf("%d %s", file.status, file.body)
	}
	if doc := w.jobStatus(id, ""); string(doc.Output) != small || !doc.OutputExpiresAt.IsZero() {
		t.Errorf("%s %v", doc.Output, doc.OutputExpiresAt)
	}
}

// TestPartialFiles: acceptance 156, 157.
func TestPartialFiles(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", `, "policy": {"maxAttempts": 2}`)
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	for n := range 2 {
		got := a.take()
		a.upload(got, "", map[string]string{"partial_output_1.mp4": "frames"})
		a.finish(got, protocol.Finish{Outcome: protocol.OutcomeFailed, RunMs: 1, Retryable: true, Partial: json.RawMessage(`{"processedFrames":15420,"totalFrames":34200}`),
			Error: &protocol.JobError{Code: protocol.CodeResource, Message: "GPU memory limit exceeded"}, Files: []protocol.OutputFile{outputFile("partial_output_1.mp4", "frames")}})
		doc := w.jobStatus(id, "")
		var partial struct {
			Frames int      `json:"processedFrames"`
			Files  []string `json:"outputFiles"`
		}
		if err := json.Unmarshal(doc.PartialResults, &partial); err != nil {
			t.Fatal(err)
		}
		if partial.Frames != 15420 || len(partial.Files) != 1 || doc.Output != nil || doc.Error == nil || doc.OutputExpiresAt.IsZero() {
			t.Fatalf("attempt %d: %s", n+1, doc.PartialResults)
		}
		if file := w.fetch(partial.Files[0]); string(file.body) != "frames" || file.header.Get("Content-Type") != "video/mp4" {
			t.Errorf("attempt %d: %d %s", n+1, file.status, file.body)
		}
	}
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusFailed {
		t.Errorf("%+v", doc)
	}
}

func TestStoredOutputsExpire(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	a.upload(got, "", map[string]string{"a.txt": "one"})
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(`{}`), Files: []protocol.OutputFile{outputFile("a.txt", "one")}})
	before := w.jobStatus(id, "")
	now := w.server.deps.NowMs
	w.server.deps.NowMs = func() int64 { return now() + protocol.OutputTerm.Milliseconds() }
	defer func() { w.server.deps.NowMs = now }()
	gone := w.fetch(shownOf(t, before.Output).OutputURL)
	if e := gone.fault(t); gone.status != 410 || e.Code != protocol.CodeOutputExpired || e.Details["outputExpiresAt"] == nil {
		t.Errorf("%d %s", gone.status, gone.body)
	}
	doc := w.jobStatus(id, "")
	out := shownOf(t, doc.Output)
	if out.OutputURL != "" || len(out.Files) != 1 || out.Files[0].URL != "" || out.Files[0].Name != "a.txt" || out.Size != "3B" || doc.OutputExpiresAt != before.OutputExpiresAt {
		t.Errorf("%s", doc.Output)
	}
}

// TestStorageQuota: acceptance 208 to 212.
func TestStorageQuota(t *testing.T) {
	w := newWorld(t)
	w.modern()
	if a := w.do("PUT", "/v2/orgs/org_default", `{"id": "org_default", "weight": 1, "storageQuota": 4096}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	w.endpoint("ep", "")
	a := w.agent()
	complete := func(size int) protocol.JobID {
		t.Helper()
		id := w.submit("ep", `{"input": {}}`)
		got := a.take()
		content := strings.Repeat("x", size)
		a.upload(got, "", map[string]string{"x": content})
		a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(`{}`), Files: []protocol.OutputFile{outputFile("x", content)}})
		return id
	}
	for _, size := range []int{1000, 1001, 1002} {
		complete(size)
	}
	// What would not fit is refused before it is sent.
	large := strings.Repeat("y", 2048)
	id := w.submit("ep", `{"input": {}}`)
	got := a.take()
	refused := a.ask(got, "", map[string]string{"y": large})
	e := refused.fault(t)
	if refused.status != 507 || e.Code != protocol.CodeStorageLimit || e.Message != "Output size would exceed storage quota" || e.Details["estimatedSize"] != "2KB" ||
		e.Details["remainingQuota"] != "1.1KB" || e.Details["remainingQuotaBytes"] != 1093.0 || e.Details["upgradeUrl"] != "http://windlass.test/v2/orgs/org_default" {
		t.Errorf("%d %s", refused.status, refused.body)
	}
	// Sent without asking, it fails the job in the log.
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage(`{}`), Files: []protocol.OutputFile{outputFile("y", large)}})
	doc := w.jobStatus(id, "")
	if doc.Status != protocol.StatusFailed || doc.Error.Code != protocol.CodeStorageLimit || doc.Error.Details["estimatedSize"] != "2KB" ||
		doc.Error.Details["upgradeUrl"] == nil || *doc.Retryable {
		t.Errorf("%+v", doc.Error)
	}
	complete(1000)
	// The next one is not expected to fit: its endpoint's jobs store some 1,000 bytes.
	waitFor(t, func() bool {
		size, ok := w.server.estimate.stored(protocol.OrgDefault, "ep")
		return ok && size >= 1000
	})
	submit := w.post("/v2/endpoints/ep/runasync", `{"input": {}}`)
	if e := submit.fault(t); submit.status != 507 || e.Code != protocol.CodeStorageLimit || e.Details["remainingQuotaBytes"] != 93.0 || e.Details["estimatedSize"] == nil || e.Details["upgradeUrl"] == nil {
		t.Errorf("%d %s", submit.status, submit.body)
	}
}

func TestUploadNeedsItsGrant(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	for name, req := range map[string]protocol.GrantRequest{
		"attempt":     {Agent: a.id, Incarnation: a.life, Job: got.Job, Attempt: 9},
		"incarnation": {Agent: a.id, Job: got.Job, Attempt: got.Attempt},
		"agent":       {Incarnation: a.life, Job: got.Job, Attempt: got.Attempt},
		"job":         {Agent: a.id, Incarnation: a.life, Attempt: got.Attempt},
	} {
		b, _ := protocol.EncodeJSON(req)
		if r := w.post(protocol.PathOutputs, string(b)); r.status != 409 || r.fault(t).Code != protocol.CodeStaleAttempt {
			t.Errorf("another %s: %d %s", name, r.status, r.body)
		}
	}
	for _, name := range []string{"../x", "a/b", "", ".", "a\x00b", strings.Repeat("x", 4096), "\u2025"} {
		if r := a.ask(got, "", map[string]string{name: "x"}); r.status != 422 {
			t.Errorf("name %q: %d", name, r.status)
		}
	}
	var grants protocol.GrantResponse
	a.ask(got, "", map[string]string{"a": "one", "b": "one"}).json(t, &grants)
	if len(grants.Grants) != 1 {
		t.Fatalf("%+v", grants)
	}
	g := grants.Grants[0]
	put := func(digest, content, token string) int {
		return w.do("PUT", protocol.PathOutputs+"/"+digest, content, protocol.HeaderGrant, token).status
	}
	for name, c := range map[string]struct {
		digest, content, token string
		want                   int
	}{
		"no grant":        {g.SHA256, "one", "", 403},
		"another digest":  {sha("two"), "two", g.Token, 403},
		"a forged grant":  {g.SHA256, "one", g.Token[:len(g.Token)-2] + "AA", 403},
		"a longer upload": {g.SHA256, "one1", g.Token, 422},
		"other bytes":     {g.SHA256, "two", g.Token, 422},
		"what is granted": {g.SHA256, "one", g.Token, 200},
	} {
		if got := put(c.digest, c.content, c.token); got != c.want {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
	now := w.server.deps.NowMs
	w.server.deps.NowMs = func() int64 { return now() + grantTerm.Milliseconds() }
	defer func() { w.server.deps.NowMs = now }()
	if got := put(g.SHA256, "one", g.Token); got != 403 {
		t.Errorf("an expired grant: %d", got)
	}
}

// TestWithoutASecretNothingIsSigned: not every coordinator runs this version yet.
func TestWithoutASecretNothingIsSigned(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	if r := a.ask(got, "", map[string]string{"a": "one"}); r.status != 503 {
		t.Errorf("%d %s", r.status, r.body)
	}
	large := `"` + strings.Repeat("y", 100<<10) + `"`
	w.do("PUT", protocol.PathBlob+sha(large), large)
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, OutputRef: &protocol.BlobRef{SHA256: sha(large), Size: int64(len(large))}})
	if out := shownOf(t, w.jobStatus(id, "").Output); out.OutputURL != "" || out.Size != "100KB" {
		t.Errorf("%+v", out)
	}
	if out := w.get("/v2/jobs/" + id.String() + "/output"); string(out.body) != large {
		t.Errorf("%d, %d bytes", out.status, len(out.body))
	}
}
