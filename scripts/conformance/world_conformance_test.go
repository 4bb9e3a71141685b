//go:build conformance

package conformance

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// world is a running `windlass dev` and the address that is asked.
type world struct {
	binary string
	addr   string // of the coordinator under test
	key    string
	gpu    *playedAgent
}

// patience bounds every wait for something that must come: a loaded machine, not the product.
const patience = 60 * time.Second

func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "windlass")
	cmd := exec.Command("go", "build", "-o", binary, "../../cmd/windlass")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	return binary
}

// start runs `windlass dev` until the test ends. With three coordinators a
// follower is asked.
func start(t *testing.T, binary string, coordinators string) *world {
	t.Helper()
	cmd := exec.Command(binary, "dev", "--http", "127.0.0.1:0", "--coordinators", coordinators)
	cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir())
	var log strings.Builder
	cmd.Stderr = &log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("windlass dev did not end cleanly: %v\n%s", err, log.String())
		}
	})
	w := &world{binary: binary}
	var addrs string
	lines := bufio.NewScanner(out)
	for (addrs == "" || w.key == "") && lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if v, ok := strings.CutPrefix(line, "export WINDLASS_ADDR="); ok {
			addrs = v
		}
		if v, ok := strings.CutPrefix(line, "export WINDLASS_API_KEY="); ok {
			w.key = v
		}
	}
	if addrs == "" || w.key == "" {
		t.Fatalf("windlass dev printed no address or no key\n%s", log.String())
	}
	w.pick(t, strings.Split(addrs, ","))
	return w
}

// pick chooses the only coordinator, or one that does not lead.
func (w *world) pick(t *testing.T, addrs []string) {
	t.Helper()
	for _, w.addr = range addrs {
		if len(addrs) == 1 || w.get(t, "/v2/cluster").doc["leader"] == false {
			return
		}
	}
	t.Fatal("every coordinator says that it leads")
}

// answer is one HTTP answer.
type answer struct {
	status int
	header http.Header
	raw    []byte
	doc    map[string]any // of a JSON object
}

type option func(*http.Request)

func header(name, value string) option {
	return func(r *http.Request) { r.Header.Set(name, value) }
}

// do sends one request; body is JSON text, or empty.
func (w *world) do(t *testing.T, method, path, body string, options ...option) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, w.addr+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	req.Header.Set("Content-Type", "application/json")
	for _, o := range options {
		o(req)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	a := answer{status: resp.StatusCode, header: resp.Header, raw: raw}
	if bytes.HasPrefix(bytes.TrimSpace(raw), []byte("{")) {
		if err := json.Unmarshal(raw, &a.doc); err != nil {
			t.Fatalf("%s %s: %v in %s", method, path, err, raw)
		}
	}
	return a
}

func (w *world) get(t *testing.T, path string, options ...option) answer {
	t.Helper()
	return w.do(t, "GET", path, "", options...)
}

// ok fails unless the answer is exactly 200.
func (a answer) ok(t *testing.T) answer {
	t.Helper()
	if a.status != http.StatusOK {
		t.Fatalf("status %d: %s", a.status, a.raw)
	}
	return a
}

// at returns the value at a dotted path, and whether it is there.
func (a answer) at(path string) (any, bool) {
	var v any = a.doc
	for name := range strings.SplitSeq(path, ".") {
		m, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// want fails unless the value at path is the wanted one, compared as JSON.
func (a answer) want(t *testing.T, path string, want any) answer {
	t.Helper()
	got, ok := a.at(path)
	gotJSON, wantJSON := canonical(got), canonical(want)
	if !ok || !bytes.Equal(gotJSON, wantJSON) {
		t.Errorf("%s = %s, want %s, in %s", path, gotJSON, wantJSON, a.raw)
	}
	return a
}

// canonical is the JSON of a value with its members in order.
func canonical(v any) []byte {
	b, _ := json.Marshal(v)
	var plain any
	_ = json.Unmarshal(b, &plain)
	b, _ = json.Marshal(plain)
	return b
}

// has fails unless every path is there.
func (a answer) has(t *testing.T, paths ...string) answer {
	t.Helper()
	for _, p := range paths {
		if _, ok := a.at(p); !ok {
			t.Errorf("%s is missing in %s", p, a.raw)
		}
	}
	return a
}

// lacks fails if a path is there.
func (a answer) lacks(t *testing.T, paths ...string) answer {
	t.Helper()
	for _, p := range paths {
		if v, ok := a.at(p); ok {
			t.Errorf("%s = %v should be absent in %s", p, v, a.raw)
		}
	}
	return a
}

func (a answer) text(t *testing.T, path string) string {
	t.Helper()
	v, _ := a.at(path)
	s, ok := v.(string)
	if !ok {
		t.Fatalf("%s is %v, not a text, in %s", path, v, a.raw)
	}
	return s
}

func (a answer) number(t *testing.T, path string) float64 {
	t.Helper()
	v, _ := a.at(path)
	n, ok := v.(float64)
	if !ok {
		t.Fatalf("%s is %v, not a number, in %s", path, v, a.raw)
	}
	return n
}

// submit sends a native submit.
func (w *world) submit(t *testing.T, endpoint, body string, options ...option) answer {
	t.Helper()
	return w.do(t, "POST", "/v2/endpoints/"+endpoint+"/runasync", body, options...)
}

// job submits an input and returns the job's id.
func (w *world) job(t *testing.T, endpoint, input string) string {
	t.Helper()
	return w.submit(t, endpoint, `{"input": `+input+`}`).ok(t).text(t, "jobId")
}

func (w *world) status(t *testing.T, job, query string) answer {
	t.Helper()
	return w.get(t, "/v2/jobs/"+job+"/status"+query).ok(t)
}

// until polls a job with held requests until accept says so.
func (w *world) until(t *testing.T, job, query string, accept func(answer) bool) answer {
	t.Helper()
	end := time.Now().Add(patience)
	revision := ""
	for {
		q := "?wait=5s&revision=" + revision
		if query != "" {
			q += "&" + strings.TrimPrefix(query, "?")
		}
		a := w.status(t, job, q)
		if accept(a) {
			return a
		}
		if time.Now().After(end) {
			t.Fatalf("job %s did not come there within %v: %s\n%s", job, patience, a.raw, w.get(t, "/v2/jobs/"+job+"/explain").raw)
		}
		revision = a.text(t, "revision")
		if s, _ := a.at("status"); terminal(s) {
			t.Fatalf("job %s has ended: %s", job, a.raw)
		}
	}
}

func terminal(state any) bool {
	return state == "completed" || state == "failed" || state == "cancelled" || state == "timeout"
}

// ended waits for the end of a job.
func (w *world) ended(t *testing.T, job, query string) answer {
	t.Helper()
	return w.until(t, job, query, func(a answer) bool { return terminal(a.doc["status"]) })
}

// apply creates or changes an endpoint.
func (w *world) apply(t *testing.T, document string) {
	t.Helper()
	var doc struct{ ID string }
	if err := json.Unmarshal([]byte(document), &doc); err != nil {
		t.Fatal(err)
	}
	w.do(t, "PUT", "/v2/endpoints/"+doc.ID, document).ok(t)
}
