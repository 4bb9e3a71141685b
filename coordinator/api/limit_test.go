package api

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

func (w *world) limit(status, submit int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.limits = auth.NewLimiter(status, submit)
}

// TestStatusIsLimited is seed S2: 100 a minute for each key, and what the answer
// to the next one says.
func TestStatusIsLimited(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	w.limit(100, 0)
	path := "/v2/jobs/" + n.job.String() + "/status"
	as := func(path string) answer { return w.get(path, "Authorization", n.admin) }
	for i := range 97 {
		a := as(path)
		if r := `"status";r=` + strconv.Itoa(99-i) + ";t="; a.status != 200 || a.header.Get("RateLimit-Policy") != `"status";q=100;w=60` || !strings.HasPrefix(a.header.Get("RateLimit"), r) {
			t.Fatalf("request %d: %d, %s", i+1, a.status, a.header.Get("RateLimit"))
		}
	}
	// A batch, a stream and a list count once each.
	batch := w.post("/v2/jobs/status/batch", `{"jobIds": ["`+n.job.String()+`", "job_a", "job_b"]}`, "Authorization", n.admin)
	stream := as(path + "/stream")
	if list := as("/v2/jobs"); batch.status != 200 || stream.status != 200 || list.status != 200 {
		t.Fatalf("%d, %d, %d", batch.status, stream.status, list.status)
	}
	if !strings.HasPrefix(stream.header.Get("RateLimit"), `"status";r=`) {
		t.Errorf("a stream begins with RateLimit %q", stream.header.Get("RateLimit"))
	}
	var a answer
	for range 5 { // a token may have come back meanwhile
		if a = as(path); a.status != 200 {
			break
		}
	}
	e := a.fault(t)
	after, _ := e.Details["retryAfter"].(float64)
	if a.status != 429 || e.Code != protocol.CodeRateLimit || e.Message != "Too many status check requests" || len(e.Details) != 4 ||
		e.Details["limit"] != 100.0 || e.Details["window"] != "1m" || after < 1 || e.Details["recommendation"] != "Use webhooks or SSE for real-time updates" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a.header.Get("Retry-After") != strconv.Itoa(int(after)) || !strings.HasPrefix(a.header.Get("RateLimit"), `"status";r=0;t=`) {
		t.Errorf("Retry-After %q, RateLimit %q", a.header.Get("Retry-After"), a.header.Get("RateLimit"))
	}
	// Another key, another class and the bootstrap key go on.
	other := w.key(protocol.KeyRequest{Org: "org_a", Permissions: within()}).Key
	if a := w.get(path, "Authorization", other); a.status != 200 {
		t.Errorf("another key of the organisation: %d", a.status)
	}
	n.submit("ep")
	for range 150 {
		if a := w.get("/v2/jobs"); a.status != 200 || a.header.Get("RateLimit") != "" {
			t.Fatalf("the bootstrap key: %d, %s", a.status, a.header.Get("RateLimit"))
		}
	}
}

func TestSubmitIsLimited(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	w.limit(0, 2)
	n.submit("ep")
	n.submit("ep")
	a := w.post("/v2/endpoints/ep/runasync", `{"input": {}}`, "Authorization", n.admin)
	if e := a.fault(t); a.status != 429 || e.Code != protocol.CodeRateLimit || e.Details["limit"] != 2.0 || a.header.Get("RateLimit-Policy") != `"submit";q=2;w=60` {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.get("/v2/jobs", "Authorization", n.admin); a.status != 200 || a.header.Get("RateLimit") != "" {
		t.Errorf("a class without a limit: %d, %s", a.status, a.header.Get("RateLimit"))
	}
}

// TestAHeldAnswerSaysWhatIsLeft: the answer of a request that left its handler has
// the headers of its class, once.
func TestAHeldAnswerSaysWhatIsLeft(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	w.limit(100, 0)
	id := n.submit("ep")
	for _, wait := range []string{"1ms", "300ms"} {
		a := w.get("/v2/jobs/"+id.String()+"/status?wait="+wait, "Authorization", n.admin)
		if a.status != 200 || len(a.header.Values("RateLimit")) != 1 {
			t.Errorf("held for %s: %d, %q", wait, a.status, a.header.Values("RateLimit"))
		}
	}
}

// TestRelayIsBelievedOfPeersOnly: a client that says that a coordinator relays its
// request is counted as any other.
func TestRelayIsBelievedOfPeersOnly(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	w.limit(1, 0)
	for i, want := range []int{200, 429} {
		if a := w.get("/v2/jobs", "Authorization", n.admin, protocol.HeaderRelay, "5"); a.status != want {
			t.Errorf("request %d: %d", i+1, a.status)
		}
	}
}

// TestKeysAreNotGuessed: an address that sends many wrong keys is not told any
// more whether the next one is right; who knows a key with an id goes on.
func TestKeysAreNotGuessed(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	w.server.deps.Failures = auth.NewFailures(3)
	wrong := n.admin[:len(n.admin)-1] + "x"
	for range 3 {
		if a := w.get("/v2/jobs", "Authorization", wrong); a.status != 401 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	for _, key := range []string{wrong, "", "Bearer " + testKey} {
		a := w.get("/v2/jobs", "Authorization", key)
		if e := a.fault(t); a.status != 429 || e.Code != protocol.CodeRateLimit || e.Details["limit"] != 3.0 || a.header.Get("Retry-After") == "" {
			t.Errorf("%.20s: %d %s", key, a.status, a.body)
		}
	}
	if a := w.get("/v2/jobs", "Authorization", n.admin); a.status != 200 {
		t.Errorf("a valid key: %d", a.status)
	}
	if a := w.get("/healthz", "Authorization", ""); a.status != 200 {
		t.Errorf("a route without a key: %d", a.status)
	}
	if w.server.deps.Failures.Exhausted(netip.MustParseAddr("192.0.2.9"), time.Now()) != 0 {
		t.Error("another address is refused")
	}
}
