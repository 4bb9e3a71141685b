package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func (w *world) pause(job protocol.JobID) {
	w.t.Helper()
	c := &command.Command{Op: &command.Command_Pause{Pause: &command.Pause{Job: job[:], Org: protocol.OrgDefault, ExpectIndex: w.job(job).Index}}}
	if r, err := w.broker.Write(context.Background(), c); err != nil || r.Code != "" {
		w.t.Fatal(r, err)
	}
}

func (w *world) resume(job protocol.JobID) {
	w.t.Helper()
	c := &command.Command{Op: &command.Command_Resume{Resume: &command.Resume{Job: job[:], Org: protocol.OrgDefault, ExpectIndex: w.job(job).Index}}}
	if r, err := w.broker.Write(context.Background(), c); err != nil || r.Code != "" {
		w.t.Fatal(r, err)
	}
}

// TestAPausedJobIsNotServed, also by a leader that comes later, and takes its
// place again.
func TestAPausedJobIsNotServed(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		first, second := w.submit(protocol.PriorityNormal), w.submit(protocol.PriorityNormal)
		w.pause(first)
		w.stop()
		w.lead()
		a, _ := w.agent(plain())
		if h := w.assigned(a.sync(1)); h.Job != second {
			t.Fatalf("assigned %s", h.Job)
		}
		third := w.submit(protocol.PriorityNormal)
		w.resume(first)
		if x := w.broker.Explain(w.job(third)); x.Ahead != 1 {
			t.Errorf("%d are ahead of the third", x.Ahead)
		}
		r := w.answered(a.sync(2, protocol.HeldAttempt{Job: second, Attempt: 1}))
		if len(r.Assign) != 2 || r.Assign[0].Job != first || r.Assign[1].Job != third {
			t.Errorf("assigned %+v, want %s and %s", r.Assign, first, third)
		}
	})
}

func TestThePausedJobsTtlGoesOn(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		s := newSubmit(protocol.PriorityNormal)
		s.TtlMs = 60_000
		if r, err := w.broker.Submit(context.Background(), s); err != nil || r.Code != "" {
			t.Fatal(r, err)
		}
		w.pause(protocol.JobID(s.Job))
		<-time.After(time.Minute + time.Millisecond)
		synctest.Wait()
		if j := w.job(protocol.JobID(s.Job)); j.Status != protocol.StatusTimeout {
			t.Fatalf("the job is %s", j.Status)
		}
	})
}

// TestPauseAndLeaseHaveOneWinner: a pause that commits before a lease that was
// proposed already leaves the agent idle, and the job held.
func TestPauseAndLeaseHaveOneWinner(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		job := w.submit(protocol.PriorityNormal)
		w.log.hold()
		c := &command.Command{Op: &command.Command_Pause{Pause: &command.Pause{Job: job[:], Org: protocol.OrgDefault, ExpectIndex: w.job(job).Index}}}
		w.log.Enqueue([]*command.Command{c}, func([]command.Result, error) {})
		registered := make(chan *testAgent, 1)
		go func() {
			a, _ := w.agent(plain())
			registered <- a
		}()
		w.log.release()
		a := <-registered
		w.parked(a.sync(1))
		w.resume(job)
	})
}

func TestTheAgentIsAskedToPause(t *testing.T) {
	run(t, func(w *world) {
		w.do(&command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureAPI}}})
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		ch = a.sync(0, h)
		if err := w.broker.Pause(job, 2); protocol.CodeOf(err) != protocol.CodeConflict {
			t.Errorf("another attempt: %v", err)
		}
		if err := w.broker.Pause(job, 1); err != nil {
			t.Fatal(err)
		}
		want := protocol.StopAttempt{Job: job, Attempt: 1, Reason: protocol.StopPause}
		if r := w.answered(ch); len(r.Stop) != 1 || r.Stop[0] != want {
			t.Fatalf("answered %+v, want %+v", r, want)
		}
		a.finish(1, protocol.Finish{Job: job, Attempt: 1, Outcome: protocol.OutcomePaused, Checkpoint: []byte(`{"step":3}`)})
		if j := w.job(job); j.Status != protocol.StatusPaused {
			t.Fatalf("the job is %s", j.Status)
		}
		ch = a.sync(1)
		w.parked(ch)
		w.resume(job)
		r := w.answered(ch)
		if len(r.Assign) != 1 || r.Assign[0].Attempt != 2 || string(r.Assign[0].Checkpoint) != `{"step":3}` {
			t.Errorf("assigned %+v", r.Assign)
		}
	})
}

// TestAnOverrunIsStoppedAlsoWhenItWasAskedToPause: a handler that ignores the
// question does not run for ever.
func TestAnOverrunIsStoppedAlsoWhenItWasAskedToPause(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		_, err := w.broker.Report(context.Background(), protocol.ReportRequest{
			Agent: a.id, Incarnation: a.inc, Held: []protocol.HeldAttempt{h},
			Attempts: []protocol.AttemptUpdate{{Job: h.Job, Attempt: h.Attempt, StartedMs: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.broker.Pause(h.Job, h.Attempt); err != nil {
			t.Fatal(err)
		}
		for start := time.Now(); time.Since(start) < 11*time.Minute+10*time.Second; <-time.After(5 * time.Second) {
			r, err := a.report(0, []protocol.HeldAttempt{h})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Stop) == 1 && r.Stop[0].Reason == protocol.StopTimeout {
				return
			}
		}
		t.Error("it is not stopped")
	})
}

// TestHealthCountsEveryAgentOnce by what it does for the endpoint.
func TestHealthCountsEveryAgentOnce(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		w.endpoint(protocol.Endpoint{ID: "ep_other"})
		want := func(what string, running int, workers protocol.ClassicWorkers) {
			t.Helper()
			if got := w.broker.Health(protocol.OrgDefault, testEndpoint); got.Running != running || got.Workers != workers {
				t.Errorf("%s: %+v, want %d running and %+v", what, got, running, workers)
			}
		}
		want("nobody", 0, protocol.ClassicWorkers{})
		other, _ := w.agent(protocol.AgentFacts{Kinds: []string{"builtin"}, Slots: 4})
		w.parked(other.sync(4))
		want("another kind", 0, protocol.ClassicWorkers{})
		gone, _ := w.agent(plain())
		leaves, cancel := context.WithCancel(context.Background())
		gone.send(leaves, gone.request(1))
		cancel()
		<-time.After(protocol.LeaseTerm)
		busy, _ := w.agent(plain())
		w.parked(busy.sync(0))
		a, _ := w.agent(plain())
		ch := a.sync(1)
		w.parked(ch)
		want("one is ready", 0, protocol.ClassicWorkers{Ready: 1, Throttled: 1, Unhealthy: 1})
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		want("one loads", 0, protocol.ClassicWorkers{Initializing: 1, Throttled: 1, Unhealthy: 1})
		_, err := w.broker.Report(context.Background(), protocol.ReportRequest{
			Agent: a.id, Incarnation: a.inc, Held: []protocol.HeldAttempt{h},
			Attempts: []protocol.AttemptUpdate{{Job: job, Attempt: 1, StartedMs: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		want("one runs", 1, protocol.ClassicWorkers{Running: 1, Throttled: 1, Unhealthy: 1})
		a.finish(1, protocol.Finish{Job: job, Attempt: 1, Outcome: protocol.OutcomeCompleted})
		req := a.request(1)
		req.Warm = []protocol.WarmInstance{{Endpoint: testEndpoint, Revision: w.store.View().Endpoint(protocol.OrgDefault, testEndpoint).Revision, Free: 1}}
		w.parked(a.send(context.Background(), req))
		want("one is loaded", 0, protocol.ClassicWorkers{Idle: 1, Throttled: 1, Unhealthy: 1})
	})
}
