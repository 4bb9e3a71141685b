package api

import (
	"testing"

	"windlass/protocol"
)

// TestExplainAgreesWithStatus: only the board knows that a leased job runs.
func TestExplainAgreesWithStatus(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	for _, started := range []int64{0, 5} {
		a.update(got, protocol.AttemptUpdate{StartedMs: started})
		var e protocol.Explain
		w.get("/v2/jobs/"+id.String()+"/explain").json(t, &e)
		if doc := w.jobStatus(id, ""); e.Status != doc.Status {
			t.Errorf("explain says %v, status %v", e.Status, doc.Status)
		}
	}
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusRunning {
		t.Errorf("the job is %v", doc.Status)
	}
}
