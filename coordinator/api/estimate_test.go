package api

import (
	"testing"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// ran is a job that ended at endedMs after a run of runMs.
func ran(index uint64, status protocol.Status, endedMs, runMs int64) *state.Job {
	return &state.Job{Org: "o", Target: "ep", Index: index, Status: status,
		Outcome: &state.Outcome{StartedMs: endedMs - runMs, EndedMs: endedMs}}
}

func TestEstimateNeedsThreeJobs(t *testing.T) {
	e := newEstimator()
	for i := range uint64(4) {
		if got := e.duration("o", "ep"); (got != nil) != (i >= enoughJobs) {
			t.Errorf("after %d jobs: %v", i, got)
		}
		if got := e.completion("o", "ep", 1_000, 1_500); (got != 0) != (i >= enoughJobs) {
			t.Errorf("after %d jobs it completes at %v", i, got)
		}
		e.observe(ran(10+2*i, protocol.StatusCompleted, 3_000, 2_000), 10+2*i)
		e.observe(ran(11+2*i, protocol.StatusFailed, 3_000, 100), 11+2*i)
	}
	if got := e.duration("o", "ep"); *got != 2 {
		t.Errorf("estimated %v", *got)
	}
	if e.duration("o", "ep2") != nil || e.duration("o2", "ep") != nil {
		t.Error("another endpoint has the estimate")
	}
	// A job that was recalled from the archive did not end now.
	e.observe(ran(1, protocol.StatusCompleted, 3_000, 90_000), 99)
	if got := e.duration("o", "ep"); *got != 2 {
		t.Errorf("a job that did not change made it %v", *got)
	}
}

// TestEstimateFollowsTheNewest: whatever order the table is read in, the newest
// ends count, so that every coordinator tells the same.
func TestEstimateFollowsTheNewest(t *testing.T) {
	up, down := newEstimator(), newEstimator()
	for i := range uint64(200) {
		job := ran(1+i, protocol.StatusCompleted, int64(1_000*i), int64(i))
		up.observe(job, job.Index)
		back := ran(200-i, protocol.StatusCompleted, int64(1_000*(199-i)), int64(199-i))
		down.observe(back, back.Index)
	}
	for _, share := range []float64{usual, likely} {
		a, _ := up.quantile("o", "ep", share)
		b, _ := down.quantile("o", "ep", share)
		if a != b || a < 150 {
			t.Errorf("share %v: %d and %d", share, a, b)
		}
	}
	if a, b := up.rate("o", "ep", 200_000), down.rate("o", "", 200_000); a != b || a != 1 {
		t.Errorf("rates %v and %v", a, b)
	}
	// The median first, then what nearly all stay below, then nothing.
	if got := up.completion("o", "ep", 0, 100); got != 174 {
		t.Errorf("completes at %d", got)
	}
	if got := up.completion("o", "ep", 0, 180); got != 194 {
		t.Errorf("a long one completes at %d", got)
	}
	if got := up.completion("o", "ep", 0, 198); got != 0 {
		t.Errorf("one that is longer than nearly all completes at %d", got)
	}
}

// TestEstimatesSurviveARestart: they come from the replicated jobs.
func TestEstimatesSurviveARestart(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	a := w.agent()
	for range enoughJobs {
		w.submit("ep", `{"input": {}}`)
		a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 4_000, Output: []byte("1")})
	}
	estimated := func(s *Server) (seconds float64) {
		waitFor(t, func() bool {
			d := s.estimate.duration(protocol.OrgDefault, "ep")
			if d != nil {
				seconds = *d
			}
			return d != nil
		})
		return seconds
	}
	if got := estimated(w.server); got != 4 {
		t.Errorf("estimated %v", got)
	}
	fresh, err := New(w.server.deps)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = fresh.Shutdown(t.Context()) }()
	if got := estimated(fresh); got != 4 {
		t.Errorf("after a restart %v", got)
	}
	// A submit tells it, a running job's end is estimated from it.
	id := w.submit("ep", `{"input": {}}`)
	var again protocol.SubmitResponse
	w.post("/v2/endpoints/ep/runasync", `{"input": {}}`).json(t, &again)
	if again.EstimatedDuration == nil || *again.EstimatedDuration != 4 {
		t.Errorf("submit tells %v", again.EstimatedDuration)
	}
	a.update(a.take(), protocol.AttemptUpdate{StartedMs: 1_000})
	if doc := w.jobStatus(id, ""); doc.EstimatedCompletion.Sub(doc.StartedAt).Milliseconds() != 4_000 {
		t.Errorf("%v to %v", doc.StartedAt, doc.EstimatedCompletion)
	}
}

func TestQueueFullTellsTheWait(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", `, "queueLimit": 2`)
	full := func() protocol.Error {
		t.Helper()
		a := w.post("/v2/endpoints/ep/runasync", `{"input": {}}`)
		if a.status != 429 || a.header.Get("Retry-After") == "" {
			t.Fatalf("%d %v %s", a.status, a.header, a.body)
		}
		return a.fault(t)
	}
	w.submit("ep", `{"input": {}}`)
	w.submit("ep", `{"input": {}}`)
	e := full()
	if e.Code != protocol.CodeQueueFull || e.Details["queueSize"] != 2.0 || e.Details["limit"] != "endpoint" || e.Details["retryAfter"] != 10.0 {
		t.Errorf("%+v", e)
	}
	if _, known := e.Details["estimatedWait"]; known {
		t.Error("a wait was estimated before a job ended")
	}
	a := w.agent()
	for range enoughJobs {
		a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 2_000, EndedMs: 30_000, Output: []byte("1")})
		w.submit("ep", `{"input": {}}`)
	}
	waitFor(t, func() bool { return w.server.estimate.rate(protocol.OrgDefault, "ep", nowMs()) > 0 })
	e = full() // three jobs in 30 s, two wait
	wait, _ := e.Details["estimatedWait"].(float64)
	retry, _ := e.Details["retryAfter"].(float64)
	if wait < 20 || wait > 25 || retry < 10 || retry > 15 {
		t.Errorf("%+v", e.Details)
	}
}
