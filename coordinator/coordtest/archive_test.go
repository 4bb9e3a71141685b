package coordtest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

// told is what one node answers about the jobs on every route.
func (n *Node) told(t *testing.T, ids []protocol.JobID) map[string]string {
	t.Helper()
	out := make(map[string]string)
	note := func(method, path, body string) {
		req, err := http.NewRequestWithContext(t.Context(), method, n.URL+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+Key)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		raw, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		text := regexp.MustCompile(`"requestId":"[^"]*"`).ReplaceAllString(string(raw), "")
		out[method+" "+path] = fmt.Sprint(res.StatusCode, res.Header.Get("ETag"), text)
	}
	var texts []string
	for _, id := range ids {
		texts = append(texts, `"`+id.String()+`"`)
		for _, route := range []string{"/status?include=logs,metrics,resources", "/output", "/logs", "/events", "/explain", "/status/stream"} {
			note("GET", jobPath(id)+route, "")
		}
	}
	note("POST", "/v2/jobs/status/batch", `{"jobIds":[`+strings.Join(texts, ",")+`]}`)
	note("GET", "/v2/jobs?limit=100", "")
	note("GET", "/v2/jobs?limit=2", "")
	return out
}

// metric reads one line of /metrics.
func (n *Node) metric(ctx context.Context, name string) string {
	req, err := http.NewRequestWithContext(ctx, "GET", n.URL+"/metrics", nil)
	if err != nil {
		return err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+Key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return err.Error()
	}
	for line := range strings.SplitSeq(string(raw), "\n") {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			return rest
		}
	}
	return ""
}

// TestHistoryOfThreeCoordinators: what was archived answers as before on each of
// three nodes, after a restart, on a node whose disk was wiped, and runs again.
func TestHistoryOfThreeCoordinators(t *testing.T) {
	p := StartPeers(t, 3)
	p.PutEndpoint(endpoint)
	for _, n := range p.Nodes {
		n.cfg.Archive.After = protocol.Duration(time.Minute)
	}
	var ids []protocol.JobID
	for i := range 6 {
		n := p.Nodes[i%3]
		id := submit(t, n, fmt.Sprintf(`{"n":%d,"large":%q}`, i, strings.Repeat("x", i*8<<10)))
		repeat(t, func() error {
			_, err := n.Client.Cancel(t.Context(), id)
			return err
		})
		ids = append(ids, id)
	}
	before := p.Nodes[0].told(t, ids)
	if len(before) != 6*6+3 {
		t.Fatalf("%d answers", len(before))
	}
	same := func(when string) {
		t.Helper()
		for _, n := range p.Nodes {
			for what, got := range n.told(t, ids) {
				if got != before[what] {
					t.Errorf("%s, at %s: %s:\n got %s\nwant %s", when, n.URL, what, got, before[what])
				}
			}
		}
	}
	same("in memory")
	p.Sleep(2 * time.Hour)
	for _, n := range p.Nodes {
		p.Await("the jobs are archived", func(ctx context.Context) bool {
			return n.metric(ctx, "windlass_archive_jobs") == "6" && n.metric(ctx, "windlass_jobs_ended") == "0"
		})
	}
	same("archived")
	p.Sleep(0)
	for _, n := range p.Nodes {
		p.Await("a coordinator follows", func(ctx context.Context) bool { return n.Client.Health(ctx) == nil })
	}
	same("after a restart")

	wiped := p.Followers()[0]
	wiped.Stop()
	if err := os.RemoveAll(wiped.cfg.Data); err != nil {
		t.Fatal(err)
	}
	wiped.Start()
	p.Await("the wiped node follows", func(ctx context.Context) bool {
		return wiped.Client.Health(ctx) == nil && wiped.metric(ctx, "windlass_archive_jobs") == "6"
	})
	same("after a disk was wiped")

	for i, n := range p.Nodes {
		if s, err := n.Client.Retry(t.Context(), ids[i]); err != nil || s.Status != protocol.StatusQueued {
			t.Errorf("retried at %s: %v, %v", n.URL, s.Status, err)
		}
		for _, reader := range p.Nodes {
			if s, err := reader.Client.Status(t.Context(), ids[i], client.StatusOptions{}); err != nil || s.Status != protocol.StatusQueued {
				t.Errorf("a job that runs again at %s: %v, %v", reader.URL, s.Status, err)
			}
		}
	}
}
