package api

import (
	"context"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"windlass/protocol"
)

// behind is a cluster whose leader is another world.
type behind struct {
	leading
	leader *world
	turns  atomic.Int32
}

func (b *behind) Leads() (Leadership, bool) { return Leadership{}, false }

func (b *behind) Seek() Seek { return b }

func (b *behind) Leader() (string, bool) { return "leader", true }

func (b *behind) Turn(context.Context, bool) (Leader, error) {
	if b.turns.Add(1) > 100 {
		return Leader{}, protocol.NewError(protocol.CodeNoLeader, "nobody leads").With("outcome", "none")
	}
	return Leader{Address: "leader"}, nil
}

func (b *behind) Dial(context.Context, Leader) (net.Conn, error) { return b.leader.peers.Dial() }

// pair returns a follower and its leader, whose states differ: what the follower
// answers about live jobs is the leader's.
func pair(t *testing.T) (follower, leader *world, c *behind) {
	t.Helper()
	follower, leader = newWorld(t), newWorld(t)
	c = &behind{leader: leader}
	follower.mu.Lock()
	follower.leader = protocol.NewError(protocol.CodeNoLeader, "a follower")
	follower.mu.Unlock()
	follower.server.deps.Cluster = c
	leader.endpoint("ep", "")
	t.Cleanup(func() { // pipes in memory do not notice a deadline that is set while they are read
		follower.server.lines.mu.Lock()
		defer follower.server.lines.mu.Unlock()
		for _, ln := range follower.server.lines.idle {
			ln.Close()
		}
	})
	return follower, leader, c
}

func TestTheLeaderAnswersWhatIsLive(t *testing.T) {
	w, leader, _ := pair(t)
	id := leader.submit("ep", `{"input": {}}`)
	path := "/v2/jobs/" + id.String()
	for _, p := range []string{path + "/status", path + "/explain", path + "/events", path + "/logs", "/v2/jobs", "/v2/agents"} {
		if a, b := w.get(p), leader.get(p); a.status != http.StatusOK || string(a.body) != string(b.body) || a.header.Get("ETag") != b.header.Get("ETag") {
			t.Errorf("%s: %d %s, the leader says %s", p, a.status, a.body, b.body)
		}
	}
	if a := w.post("/v2/jobs/status/batch", `{"jobIds": ["`+id.String()+`"]}`); a.status != http.StatusOK || !strings.Contains(string(a.body), id.String()) {
		t.Errorf("batch: %d %s", a.status, a.body)
	}
	etag := leader.get(path + "/status").header.Get("ETag")
	if a := w.get(path+"/status", "If-None-Match", etag); a.status != http.StatusNotModified || len(a.body) != 0 {
		t.Errorf("unchanged: %d %s", a.status, a.body)
	}
	if a := w.get("/v2/jobs/"+protocol.NewJobID(time.Now()).String()+"/status/stream", "X-Request-Id", "mine"); a.status != http.StatusNotFound || a.fault(t).RequestID != "mine" {
		t.Errorf("the stream of no job: %d %s", a.status, a.body)
	}
	if a := w.do("GET", path+"/status", "", "Authorization", "Bearer wrong"); a.status != http.StatusUnauthorized {
		t.Errorf("a wrong key: %d", a.status)
	}
}

func TestAHeldRequestIsHeldAtTheLeader(t *testing.T) {
	w, leader, _ := pair(t)
	id := leader.submit("ep", `{"input": {}}`)
	seen := leader.jobStatus(id, "").Revision
	got, streamed := make(chan answer, 1), make(chan answer, 1)
	go func() { got <- w.get("/v2/jobs/" + id.String() + "/status?wait=50s&revision=" + seen) }()
	go func() { streamed <- w.get("/v2/jobs/" + id.String() + "/status/stream") }()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for leader.server.held.Load() == 0 || leader.board.Stats().Streams < 2 {
		<-tick.C
	}
	leader.post("/v2/jobs/"+id.String()+"/cancel", "")
	var doc protocol.JobStatus
	a := <-got
	if a.json(t, &doc); doc.Status != protocol.StatusCancelled {
		t.Errorf("the poll: %d %s", a.status, a.body)
	}
	if a := <-streamed; !strings.Contains(string(a.body), `"status":"cancelled"`) || strings.Count(string(a.body), "retry:") != 1 {
		t.Errorf("the stream: %d %s", a.status, a.body)
	}
}

func TestALeaderThatDoesNotServeYetIsAskedAgain(t *testing.T) {
	w, leader, c := pair(t)
	id := leader.submit("ep", `{"input": {}}`)
	leader.mu.Lock()
	leader.leader = protocol.NewError(protocol.CodeNoLeader, "not yet")
	leader.mu.Unlock()
	a := w.get("/v2/jobs/" + id.String() + "/status")
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || c.turns.Load() <= 1 {
		t.Errorf("%d %s after %d turns", a.status, a.body, c.turns.Load())
	}
}

func TestNothingIsRelayedTwice(t *testing.T) {
	w, leader, c := pair(t)
	id := leader.submit("ep", `{"input": {}}`)
	for _, p := range []string{"/v2/jobs/" + id.String() + "/status", "/v2/jobs", "/v2/jobs/" + id.String() + "/status/stream"} {
		if a := w.relayed(p, "5"); a.status != http.StatusServiceUnavailable || a.fault(t).Code != protocol.CodeNoLeader {
			t.Errorf("%s: %d %s", p, a.status, a.body)
		}
	}
	if n := c.turns.Load(); n != 0 {
		t.Errorf("the leader was looked for %d times", n)
	}
}

func TestTheWaitThatPassedElsewhereCounts(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	done := make(chan answer, 1)
	go func() { done <- w.relayed("/v2/jobs/"+id.String()+"/status?wait=60s", "60000") }()
	select {
	case <-done:
	case <-ctx.Done():
		t.Error("it waits the whole time again")
	}
}

func TestABrokenLineIsReplaced(t *testing.T) {
	w, leader, _ := pair(t)
	id := leader.submit("ep", `{"input": {}}`)
	path := "/v2/jobs/" + id.String() + "/status"
	w.get(path)
	w.server.lines.mu.Lock()
	for _, ln := range w.server.lines.idle {
		ln.Close() // as the leader does with one that nobody used for long
	}
	idle := len(w.server.lines.idle)
	w.server.lines.mu.Unlock()
	if a := w.get(path); a.status != http.StatusOK || idle != 1 {
		t.Errorf("%d %s, %d lines were idle", a.status, a.body, idle)
	}
}

// relayed asks as another coordinator does that relays a request.
func (w *world) relayed(path, waited string, header ...string) answer {
	w.t.Helper()
	transport := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return w.peers.Dial() }}
	defer transport.CloseIdleConnections()
	return w.via(&http.Client{Transport: transport}, "GET", path, "", append(header, protocol.HeaderRelay, waited)...)
}
