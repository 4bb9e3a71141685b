package api

import (
	"slices"
	"testing"

	"windlass/protocol"
)

func (w *world) explained(id protocol.JobID) (e protocol.Explain) {
	w.t.Helper()
	w.get("/v2/jobs/"+id.String()+"/explain").json(w.t, &e)
	return e
}

// TestExplainAgreesWithStatus: only the board knows that a leased job runs.
func TestExplainAgreesWithStatus(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	for _, started := range []int64{0, 5} {
		a.update(got, protocol.AttemptUpdate{StartedMs: started})
		if e, doc := w.explained(id), w.jobStatus(id, ""); e.Status != doc.Status {
			t.Errorf("explain says %v, status %v", e.Status, doc.Status)
		}
	}
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusRunning {
		t.Errorf("the job is %v", doc.Status)
	}
}

// TestExplainEstimatesTheStart: from how fast jobs of the endpoint ended, and
// never when no agent can run them.
func TestExplainEstimatesTheStart(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	first := w.submit("ep", `{"input": {}}`)
	if e := w.explained(first); e.ETA != nil || !e.Never || e.Position != 1 {
		t.Errorf("without agents and jobs that ended: %+v", e)
	}
	a := w.agent()
	for range enoughJobs {
		a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 4_000, Output: []byte("1")})
		w.submit("ep", `{"input": {}}`)
	}
	waitFor(t, func() bool { return w.server.estimate.duration(protocol.OrgDefault, "ep") != nil })
	a.take() // and keeps it
	id := w.submit("ep", `{"input": {}}`)
	e := w.explained(id)
	if e.Never || e.ETA == nil || e.ETA.CompleteAt.Sub(e.ETA.StartAt).Milliseconds() != 4_000 {
		t.Fatalf("%+v of %+v", e.ETA, e)
	}
	if until := int64(e.ETA.StartAt) - nowMs(); until < -1_000 || until > 120_000 {
		t.Errorf("starts in %d ms", until)
	}
}

func TestDryRun(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", `, "queueLimit": 2, "input": {"schema": {"required": ["n"]}}`)
	const path = "/v2/endpoints/ep/runasync"
	for body, code := range map[string]protocol.Code{
		`{"input": {}}`: protocol.CodeValidation,
		`{"input": {"n": 1}, "priority": "highest"}`: protocol.CodeValidation,
	} {
		if e := w.post(path+"?dryRun=true", body).fault(t); e.Code != code {
			t.Errorf("%s: %+v", body, e)
		}
	}
	if a := w.post(path+"?dryRun=perhaps", `{"input": {"n": 1}}`); a.fault(t).Details["field"] != "dryRun" {
		t.Errorf("%s", a.body)
	}
	dry := func(body string) (plan protocol.DryRun) {
		t.Helper()
		w.post(path+"?dryRun=true", body).json(t, &plan)
		return plan
	}
	w.submit("ep", `{"input": {"n": 1}}`)
	plan := dry(`{"input": {"n": 1}, "priority": "high"}`)
	if !plan.DryRun || plan.Explain.Position != 1 || plan.Priority != protocol.PriorityHigh || !plan.Explain.Never {
		t.Errorf("%+v", plan)
	}
	keyed := w.submit("ep", `{"input": {"n": 1}, "idempotencyKey": "k"}`)
	if plan := dry(`{"input": {"n": 1}, "idempotencyKey": "k"}`); plan.JobID != keyed || plan.Explain != nil {
		t.Errorf("a key that is used: %+v", plan)
	}
	if e := w.post(path+"?dryRun=true", `{"input": {"n": 2}, "idempotencyKey": "k"}`).fault(t); e.Code != protocol.CodeIdempotencyReused {
		t.Errorf("a key that is used for another: %+v", e)
	}
	if e := w.post(path+"?dryRun=true", `{"input": {"n": 2}}`).fault(t); e.Code != protocol.CodeQueueFull || e.Details["queueSize"] != 2.0 {
		t.Errorf("a full queue: %+v", e)
	}
	var list protocol.Page[protocol.JobStatus]
	if w.get("/v2/jobs").json(t, &list); len(list.Data) != 2 || slices.ContainsFunc(list.Data, func(j protocol.JobStatus) bool { return j.Priority == protocol.PriorityHigh }) {
		t.Errorf("dry runs left %+v", list.Data)
	}
}
