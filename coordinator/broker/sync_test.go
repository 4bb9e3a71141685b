package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func TestSubmitAndLeaseShareOneBatch(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		before := w.log.count()
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		if h.Job != job || h.Attempt != 1 {
			t.Fatalf("assigned %+v, want attempt 1 of %s", h, job)
		}
		if n := w.log.count() - before; n != 1 {
			t.Fatalf("%d batches, want 1", n)
		}
		if b := w.log.batch(1); len(b) != 2 || b[0].GetSubmit() == nil || b[1].GetLease() == nil {
			t.Fatalf("the batch is %v, want submit and lease", b)
		}
	})
}

func TestRefusedSubmitGivesTheWaiterBack(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		first := newSubmit(protocol.PriorityNormal)
		first.IdempotencyKey, first.PayloadHash = "k", make([]byte, 32)
		if r, err := w.broker.Submit(context.Background(), first); err != nil || r.Code != "" {
			t.Fatal(r, err)
		}
		a, _ := w.agent(plain())
		h := w.assigned(a.sync(1))
		ch := a.sync(1, h)
		again := newSubmit(protocol.PriorityNormal)
		again.IdempotencyKey, again.PayloadHash = "k", make([]byte, 32)
		again.PayloadHash[0] = 1
		if r, err := w.broker.Submit(context.Background(), again); err != nil || r.Code != protocol.CodeIdempotencyReused {
			t.Fatal(r, err)
		}
		w.parked(ch)
		job := w.submit(protocol.PriorityNormal)
		if got := w.assigned(ch); got.Job != job {
			t.Fatalf("assigned %s, want %s", got.Job, job)
		}
	})
}

func TestFinishAndNextLeaseShareOneBatch(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		ch = a.sync(0, h)
		next := w.submit(protocol.PriorityNormal)
		w.parked(ch)
		before := w.log.count()
		if r := a.finish(1, completed(h)); r.Code != "" {
			t.Fatalf("the result was refused: %+v", r)
		}
		if got := w.assigned(ch); got.Job != next {
			t.Fatalf("assigned %s, want %s", got.Job, next)
		}
		if n := w.log.count() - before; n != 1 {
			t.Fatalf("%d batches, want 1", n)
		}
		if b := w.log.batch(1); len(b) != 2 || b[0].GetFinish() == nil || b[1].GetLease() == nil {
			t.Fatalf("the batch is %v, want finish and lease", b)
		}
	})
}

func TestLostReplyIsSentAgain(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		first := w.assigned(ch) // and lost on the way
		b, _ := w.agent(plain())
		other := b.sync(1)
		again := w.assigned(a.sync(1))
		if first != again || again.Job != job {
			t.Fatalf("sent %+v, then %+v", first, again)
		}
		w.parked(other)
	})
}

func TestReportAsksForANewSyncWhenAReplyWasLost(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		w.submit(protocol.PriorityNormal)
		w.assigned(ch)
		<-time.After(3 * time.Second)
		if r, err := a.report(1, nil); err != nil || !r.Resync {
			t.Fatalf("resync is not asked for: %+v %v", r, err)
		}
	})
}

func TestUnacknowledgedIsReleasedWhenItDoesNotFitAnyMore(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		w.assigned(ch)
		w.parked(a.sync(0))
		if j := w.job(job); j.Status != protocol.StatusQueued || j.Losses != 0 {
			t.Fatalf("the job is %s with %d losses", j.Status, j.Losses)
		}
		b, _ := w.agent(plain())
		if h := w.assigned(b.sync(1)); h.Job != job || h.Attempt != 2 {
			t.Fatalf("assigned %+v, want attempt 2", h)
		}
	})
}

func TestVanishedAttemptIsLost(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		w.parked(a.sync(0, h))
		a.sync(0)
		synctest.Wait()
		if j := w.job(job); j.Status != protocol.StatusQueued || j.Losses != 1 {
			t.Fatalf("the job is %s with %d losses, want queued with 1", j.Status, j.Losses)
		}
	})
}

func TestOlderSyncGetsNothing(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		old := a.request(1)
		newest := a.sync(1)
		for range 2 {
			if r := w.answered(a.send(context.Background(), old)); len(r.Assign) != 0 || r.Seq != old.Seq {
				t.Fatalf("an older sync was answered %+v", r)
			}
		}
		w.parked(newest)
		w.submit(protocol.PriorityNormal)
		w.assigned(newest)
	})
}

func TestNewerSyncSupersedes(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		first := a.sync(1)
		second := a.sync(1)
		if r := w.answered(first); len(r.Assign) != 0 || r.Seq != 1 {
			t.Fatalf("superseded sync was answered %+v", r)
		}
		w.parked(second)
	})
}

// TestAssignmentAnswersTheNewestSync: a lease that commits while the sync is
// renewed goes to the newer one, so a delayed reply never makes two runs.
func TestAssignmentAnswersTheNewestSync(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		first := a.sync(1)
		w.log.hold()
		s := newSubmit(protocol.PriorityNormal)
		go func() { _, _ = w.broker.Submit(context.Background(), s) }()
		synctest.Wait()
		second := a.sync(1)
		if r := w.answered(first); len(r.Assign) != 0 {
			t.Fatalf("the older sync was given %+v", r.Assign)
		}
		w.log.release()
		w.assigned(second)
	})
}

func TestLeavingWaiterSwallowsNothing(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ctx, cancel := context.WithCancel(context.Background())
		ch := a.send(ctx, a.request(1))
		w.log.hold()
		go func() { _, _ = w.broker.Submit(context.Background(), newSubmit(protocol.PriorityNormal)) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		if r := <-ch; r.err == nil {
			t.Fatal("a sync whose caller left was answered")
		}
		w.log.release()
		w.assigned(a.sync(1))
	})
}

func TestRejectedEndpointIsNotOfferedForAMoment(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		req := a.request(1)
		req.Rejected = []protocol.Reject{{Job: h.Job, Attempt: h.Attempt, Reason: "no_vram"}}
		ch = a.send(context.Background(), req)
		w.parked(ch)
		if j := w.job(job); j.Status != protocol.StatusQueued || j.Losses != 0 || j.Failures != 0 {
			t.Fatalf("the rejected job is %+v", j)
		}
		<-time.After(9 * time.Second)
		w.parked(ch)
		<-time.After(1001 * time.Millisecond)
		if got := w.assigned(ch); got.Job != job || got.Attempt != 2 {
			t.Fatalf("assigned %+v", got)
		}
	})
}

func TestCancelReachesTheAgentAtOnce(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		ch = a.sync(0, h)
		if r, err := w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, job)); err != nil || r.Code != "" {
			t.Fatal(r, err)
		}
		want := protocol.StopAttempt{Job: job, Attempt: 1, Reason: protocol.StopCancelled}
		if r := w.answered(ch); len(r.Stop) != 1 || r.Stop[0] != want {
			t.Fatalf("answered %+v, want a stop", r)
		}
		ch = a.sync(0, h)
		w.parked(ch) // told a moment ago: not again and again
		if r, err := a.report(0, []protocol.HeldAttempt{h}); err != nil || len(r.Stop) != 1 || r.Stop[0] != want {
			t.Fatalf("a report was answered %+v %v, want the stop again", r, err)
		}
		w.parked(a.sync(1))
	})
}

func TestSyncOfUnknownOrOldLife(t *testing.T) {
	run(t, func(w *world) {
		a := &testAgent{w: w, id: protocol.NewAgentID(time.Now()), inc: protocol.NewIncarnation(time.Now())}
		if r := <-a.sync(1); protocol.CodeOf(r.err) != protocol.CodeUnknownAgent {
			t.Fatalf("answered %v", r.err)
		}
		b, _ := w.agent(plain())
		parked, old := b.sync(1), *b
		b.register(plain())
		for _, ch := range []<-chan syncResult{parked, old.sync(1)} {
			if r := <-ch; r.err != nil && protocol.CodeOf(r.err) != protocol.CodeStaleIncarnation {
				t.Fatalf("answered %v", r.err)
			}
		}
	})
}

func TestEndOfLeadershipAnswersWaiters(t *testing.T) {
	run(t, func(w *world) {
		a, _ := w.agent(plain())
		ch := a.sync(1)
		w.stop()
		if r := <-ch; protocol.CodeOf(r.err) != protocol.CodeNoLeader {
			t.Fatalf("answered %v", r.err)
		}
		if _, err := w.broker.Submit(context.Background(), newSubmit(protocol.PriorityNormal)); protocol.CodeOf(err) != protocol.CodeNoLeader {
			t.Fatalf("answered %v", err)
		}
	})
}

func TestHoldEnds(t *testing.T) {
	run(t, func(w *world) {
		a, _ := w.agent(plain())
		ch := a.sync(1)
		<-time.After(30 * time.Second)
		r := w.answered(ch)
		if r.ParkedMs != 30_000 || r.HoldMs < 24_000 || r.HoldMs > 36_000 || r.SpreadMs != 100 {
			t.Fatalf("answered %+v", r)
		}
	})
}

func TestDocumentsAreSentOnce(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(2)
		w.submit(protocol.PriorityNormal)
		r := w.answered(ch)
		if len(r.Endpoints) != 1 || r.Endpoints[0].ID != testEndpoint || r.Endpoints[0].Revision != r.Assign[0].Revision {
			t.Fatalf("documents %+v", r.Endpoints)
		}
		req := a.request(1, protocol.HeldAttempt{Job: r.Assign[0].Job, Attempt: 1})
		req.Endpoints = map[string]uint64{testEndpoint: r.Endpoints[0].Revision}
		ch = a.send(context.Background(), req)
		w.submit(protocol.PriorityNormal)
		if r = w.answered(ch); len(r.Assign) != 1 || len(r.Endpoints) != 0 {
			t.Fatalf("documents %+v", r.Endpoints)
		}
	})
}

func TestWarmAgentIsPreferred(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		cold, _ := w.agent(plain())
		warm, _ := w.agent(plain())
		other := cold.sync(4)
		req := warm.request(1)
		req.Warm = []protocol.WarmInstance{{Endpoint: testEndpoint, Revision: w.store.Endpoint(protocol.OrgDefault, testEndpoint).Revision, Free: 1}}
		ch := warm.send(context.Background(), req)
		job := w.submit(protocol.PriorityNormal)
		w.assigned(ch)
		w.parked(other)
		if reason := w.job(job).Lease.Reason; reason != "warm" {
			t.Fatalf("reason %q, want warm", reason)
		}
	})
}

// TestAgentSitsOnceForManyInstances: an agent lists each warm instance, and it
// still has one place among those that are warm for an endpoint.
func TestAgentSitsOnceForManyInstances(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		req := a.request(4)
		one := protocol.WarmInstance{Endpoint: testEndpoint, Revision: w.store.Endpoint(protocol.OrgDefault, testEndpoint).Revision, Free: 1}
		req.Warm = []protocol.WarmInstance{one, one, one, one}
		ch := a.send(context.Background(), req)
		w.submit(protocol.PriorityNormal)
		w.assigned(ch)
	})
}

func TestCancelAndCompleteHaveOneWinner(t *testing.T) {
	for _, cancelFirst := range []bool{true, false} {
		run(t, func(w *world) {
			w.endpoint(protocol.Endpoint{ID: testEndpoint})
			a, _ := w.agent(plain())
			ch := a.sync(1)
			job := w.submit(protocol.PriorityNormal)
			h := w.assigned(ch)
			w.log.hold()
			cancelled := make(chan command.Result, 1)
			finished := make(chan protocol.AttemptReply, 1)
			steps := []func(){
				func() {
					r, _ := w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, job))
					cancelled <- r
				},
				func() { finished <- a.finish(1, completed(h)) },
			}
			if !cancelFirst {
				steps[0], steps[1] = steps[1], steps[0]
			}
			for _, step := range steps {
				go step()
				synctest.Wait()
			}
			w.log.release()
			c, f := <-cancelled, <-finished
			if (c.Code == "") == (f.Code == "") {
				t.Fatalf("cancel %+v and result %+v: want one winner", c, f)
			}
			want := protocol.StatusCompleted
			if c.Code == "" {
				want = protocol.StatusCancelled
			}
			if j := w.job(job); j.Status != want {
				t.Fatalf("the job is %s, want %s", j.Status, want)
			}
		})
	}
}

// TestFusedSubmitOvertakesNothing: a job on its way to the queue goes before a
// later one of its priority, and after a better one.
func TestFusedSubmitOvertakesNothing(t *testing.T) {
	for second, firstWins := range map[protocol.Priority]bool{protocol.PriorityNormal: true, protocol.PriorityCritical: false} {
		run(t, func(w *world) {
			w.endpoint(protocol.Endpoint{ID: testEndpoint})
			a, _ := w.agent(plain())
			w.log.hold()
			one, two := newSubmit(protocol.PriorityNormal), newSubmit(second)
			go func() { _, _ = w.broker.Submit(context.Background(), one) }()
			synctest.Wait()
			ch := a.sync(1)
			go func() { _, _ = w.broker.Submit(context.Background(), two) }()
			synctest.Wait()
			w.log.release()
			if got := w.assigned(ch); (got.Job == protocol.JobID(one.Job)) != firstWins {
				t.Fatalf("second job is %s: the first one won: %v", second, !firstWins)
			}
		})
	}
}

// TestBetterJobOfTheSameBatchWins: what has committed is seen before anything
// is handed out.
func TestBetterJobOfTheSameBatchWins(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		w.log.hold()
		for _, p := range []protocol.Priority{protocol.PriorityLow, protocol.PriorityCritical, protocol.PriorityNormal} {
			go func() { _, _ = w.broker.Submit(context.Background(), newSubmit(p)) }()
			synctest.Wait()
		}
		ch := a.sync(1)
		w.log.release()
		if r := w.answered(ch); len(r.Assign) != 1 || r.Assign[0].Priority != protocol.PriorityCritical {
			t.Fatalf("assigned %+v, want the critical job", r.Assign)
		}
	})
}
