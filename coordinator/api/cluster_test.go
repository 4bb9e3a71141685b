package api

import (
	"testing"

	"windlass/protocol"
)

func TestClusterStatus(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	for range 3 {
		w.submit("ep", `{"input": {}}`)
	}
	w.agent().take()
	var doc, again protocol.ClusterStatus
	w.get("/v2/cluster").json(t, &doc)
	want := protocol.ClusterStatus{Node: "test-node", Leader: true, Term: 7, Agents: 1, Jobs: protocol.ClusterJobs{Queued: 2, Running: 1},
		Index: w.store.View().Index(), ClockMs: w.store.View().ClockMs(), Bytes: w.store.View().Bytes()}
	if doc != want || doc.Bytes <= 0 {
		t.Errorf("got %+v, want %+v", doc, want)
	}
	w.get("/v2/cluster?digest=true").json(t, &doc)
	w.get("/v2/cluster?digest=1").json(t, &again)
	if len(doc.Digest) != 64 || doc != again {
		t.Errorf("digests %+v and %+v", doc, again)
	}
	if a := w.get("/v2/cluster?digest=maybe"); a.status != 422 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
