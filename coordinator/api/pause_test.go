package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// control posts to a job's route and decodes a 200.
func (w *world) control(id protocol.JobID, verb string) protocol.JobStatus {
	w.t.Helper()
	var doc protocol.JobStatus
	a := w.post("/v2/jobs/"+id.String()+"/"+verb, "")
	if a.json(w.t, &doc); a.status != http.StatusOK {
		w.t.Fatalf("%s: %d %s", verb, a.status, a.body)
	}
	return doc
}

func (w *world) refusedControl(id protocol.JobID, verb, says string) {
	w.t.Helper()
	a := w.post("/v2/jobs/"+id.String()+"/"+verb, "")
	if e := a.fault(w.t); a.status != http.StatusConflict || e.Code != protocol.CodeConflict || !strings.Contains(e.Message, says) {
		w.t.Errorf("%s: %d %s", verb, a.status, a.body)
	}
}

func TestAQueuedJobIsHeld(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		first, second := leader.submit("ep", `{"input": {}}`), leader.submit("ep", `{"input": {}}`)
		for range 2 {
			if doc := w.control(first, "pause"); doc.Status != protocol.StatusPaused {
				t.Errorf("paused: %s", doc.Status)
			}
		}
		if doc := w.classicJob("GET", "/v2/ep/status/"+first.String(), ""); doc.Status != protocol.ClassicInQueue {
			t.Errorf("classic: %s", doc.Status)
		}
		agent := leader.agent()
		if got := agent.take(); got.Job != second {
			t.Errorf("assigned %s", got.Job)
		}
		for range 2 {
			if doc := w.control(first, "resume"); doc.Status != protocol.StatusQueued {
				t.Errorf("resumed: %s", doc.Status)
			}
		}
		if got := agent.take(); got.Job != first {
			t.Errorf("assigned %s", got.Job)
		}
		leader.post("/v2/jobs/"+first.String()+"/cancel", "")
		w.refusedControl(first, "pause", "has ended")
		w.refusedControl(first, "resume", "has ended")
		if a := w.post("/v2/jobs/job_none/pause", ""); a.status != http.StatusNotFound {
			t.Errorf("no job: %d", a.status)
		}
	})
}

func TestARunningJobIsAskedForACheckpoint(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := leader.submit("ep", `{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		no, yes := false, true
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Pausable: &no})
		w.refusedControl(id, "pause", "offers no checkpoint")
		agent.update(got, protocol.AttemptUpdate{Pausable: &yes})
		paused := make(chan protocol.JobStatus, 1)
		go func() { paused <- w.control(id, "pause") }()
		leader.holds()
		for {
			resp := agent.report(protocol.ReportRequest{})
			if len(resp.Stop) == 1 && resp.Stop[0].Reason == protocol.StopPause {
				break
			}
		}
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomePaused, Checkpoint: json.RawMessage(`{"step":3}`), Chunks: json.RawMessage(`[1]`), RunMs: 7})
		if doc := <-paused; doc.Status != protocol.StatusPaused || doc.Error != nil {
			t.Errorf("%+v", doc)
		}
		w.reads(id.String(), "IN_QUEUE 1") // what it said before the pause
		w.control(id, "resume")
		if got := agent.take(); got.Attempt != 2 || string(got.Checkpoint) != `{"step":3}` {
			t.Errorf("assigned %+v", got)
		}
	})
}

// TestAnAgentOfBeforeIsNotAsked: it would take the question for a cancel.
func TestAnAgentOfBeforeIsNotAsked(t *testing.T) {
	w := newModern(t)
	id := w.submit("ep", `{"input": {}}`)
	agent := w.agent()
	agent.update(agent.take(), protocol.AttemptUpdate{StartedMs: 1})
	w.refusedControl(id, "pause", "offers no checkpoint")
	if resp := agent.report(protocol.ReportRequest{}); len(resp.Stop) != 0 {
		t.Errorf("it is told %+v", resp.Stop)
	}
}

// TestAPauseFollowsTheJob: it may be leased, or end, just before the command.
func TestAPauseFollowsTheJob(t *testing.T) {
	w := newModern(t)
	id := w.submit("ep", `{"input": {}}`)
	first := true
	w.server.deps.Write = func(ctx context.Context, c *command.Command) (command.Result, error) {
		if first {
			first = false
			agent := w.agent()
			agent.finish(agent.take(), protocol.Finish{Outcome: protocol.OutcomeFailed, Retryable: true, Error: &protocol.JobError{Code: "X", Message: "no"}})
		}
		return w.write(ctx, c)
	}
	if doc := w.control(id, "pause"); doc.Status != protocol.StatusPaused || *doc.RetryCount != 1 {
		t.Errorf("%+v", doc)
	}
}

func TestAPausedEndpointTakesSubmitsAndServesNone(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		var doc protocol.Endpoint
		if a := w.post("/v2/endpoints/ep/pause", ""); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		} else if a.json(t, &doc); !doc.Paused {
			t.Errorf("%s", a.body)
		}
		revision := doc.Revision
		leader.endpoint("ep", `, "labels": {"a": "b"}`) // a new document does not resume it
		id := leader.submit("ep", `{"input": {}}`)
		var why protocol.Explain
		if w.get("/v2/jobs/"+id.String()+"/explain").json(t, &why); len(why.Reasons) == 0 || !strings.Contains(why.Reasons[len(why.Reasons)-1], "paused") {
			t.Errorf("%+v", why)
		}
		var back protocol.Endpoint
		w.post("/v2/endpoints/ep/resume", "").json(t, &back)
		if back.Paused || back.Revision != revision+1 {
			t.Errorf("%+v", back)
		}
		agent := leader.agent()
		if got := agent.take(); got.Job != id {
			t.Errorf("assigned %+v", got)
		}
		if a := w.post("/v2/endpoints/none/pause", ""); a.status != http.StatusNotFound {
			t.Errorf("no endpoint: %d", a.status)
		}
	})
}

// TestAPurgeThatBreaksOffSaysHowFarItCame and is not counted as done.
func TestAPurgeThatBreaksOffSaysHowFarItCame(t *testing.T) {
	w := newModern(t)
	for range command.MaxPurge + 1 {
		w.submit("ep", `{"input": {}}`)
	}
	pieces := 0
	w.server.deps.Write = func(ctx context.Context, c *command.Command) (command.Result, error) {
		if pieces++; pieces == 2 {
			return command.Result{}, context.DeadlineExceeded
		}
		w.slip("ep") // others' writes come between
		return w.write(ctx, c)
	}
	a := w.post("/v2/endpoints/ep/purge", "")
	if e := a.fault(t); a.status != http.StatusServiceUnavailable || e.Details["removed"] != float64(command.MaxPurge) || e.Details["outcome"] != "unknown" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if n := w.store.View().Queued(protocol.OrgDefault); n != 2 {
		t.Errorf("%d jobs wait", n)
	}
}

// slip submits without the API.
func (w *world) slip(endpoint string) {
	w.t.Helper()
	id := protocol.NewJobID(time.Now())
	s := &command.Submit{Job: id[:], Org: protocol.OrgDefault, Endpoint: endpoint, Priority: 3, Input: &command.Payload{Inline: []byte("{}")}}
	if _, err := w.broker.Submit(context.Background(), s); err != nil {
		w.t.Fatal(err)
	}
}
