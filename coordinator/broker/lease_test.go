package broker

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// running leaves one job with an agent that acknowledged it.
func (w *world) running() (*testAgent, protocol.HeldAttempt) {
	w.t.Helper()
	w.endpoint(protocol.Endpoint{ID: testEndpoint})
	a, _ := w.agent(plain())
	ch := a.sync(1)
	w.submit(protocol.PriorityNormal)
	h := w.assigned(ch)
	if _, err := a.report(0, []protocol.HeldAttempt{h}); err != nil {
		w.t.Fatal(err)
	}
	return a, h
}

func TestLeaseEndsAfterOneTerm(t *testing.T) {
	run(t, func(w *world) {
		_, h := w.running()
		<-time.After(protocol.LeaseTerm - time.Millisecond)
		if j := w.job(h.Job); j.Lease == nil {
			t.Fatal("the lease ended early")
		}
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		if j := w.job(h.Job); j.Lease != nil || j.Status != protocol.StatusQueued || j.Losses != 1 {
			t.Fatalf("the job is %s with %d losses, want queued with 1", j.Status, j.Losses)
		}
	})
}

func TestReportsRenewTheLease(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		for range 20 {
			<-time.After(protocol.LeaseTerm - time.Millisecond)
			if _, err := a.report(0, []protocol.HeldAttempt{h}); err != nil {
				t.Fatal(err)
			}
		}
		if j := w.job(h.Job); j.Lease == nil || j.Losses != 0 {
			t.Fatalf("the job is %s with %d losses", j.Status, j.Losses)
		}
	})
}

func TestUnsentLeaseExpiresWithoutALoss(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ctx, cancel := context.WithCancel(context.Background())
		ch := a.send(ctx, a.request(1))
		w.log.hold()
		s := newSubmit(protocol.PriorityNormal)
		go func() { _, _ = w.broker.Submit(context.Background(), s) }()
		synctest.Wait()
		cancel()
		<-ch
		w.log.release()
		<-time.After(protocol.LeaseTerm + time.Millisecond)
		synctest.Wait()
		if j := w.job(protocol.JobID(s.Job)); j.Lease != nil || j.Losses != 0 {
			t.Fatalf("the job is %s with %d losses, want queued with none", j.Status, j.Losses)
		}
	})
}

func TestNewLeaderGivesAFreshTerm(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		<-time.After(protocol.LeaseTerm - time.Second)
		w.stop()
		<-time.After(10 * time.Second) // nobody leads
		w.lead()
		<-time.After(protocol.LeaseTerm - time.Second)
		if j := w.job(h.Job); j.Lease == nil {
			t.Fatal("a healthy agent lost its lease to a failover")
		}
		w.parked(a.sync(0, h))
		<-time.After(2 * time.Second)
		if j := w.job(h.Job); j.Lease == nil || j.Attempt != 1 {
			t.Fatal("a healthy agent lost its lease to a failover")
		}
		if r := a.finish(1, completed(h)); r.Code != "" {
			t.Fatalf("the result was refused: %+v", r)
		}
	})
}

func TestStaleWriteChangesNothing(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		<-time.After(protocol.LeaseTerm + time.Second)
		b, _ := w.agent(plain())
		if got := w.assigned(b.sync(1)); got.Attempt != 2 {
			t.Fatalf("assigned %+v, want attempt 2", got)
		}
		before, batches := w.store.View().Digest(), w.log.count()
		r, err := a.w.broker.Report(context.Background(), protocol.ReportRequest{
			Agent: a.id, Incarnation: a.inc, Finished: []protocol.Finish{completed(h)},
			Attempts: []protocol.AttemptUpdate{{Job: h.Job, Attempt: h.Attempt, Substate: protocol.SubstateProcessing}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Attempts) != 2 || r.Attempts[0].Code != protocol.CodeStaleAttempt || r.Attempts[1].Code != protocol.CodeStaleAttempt {
			t.Fatalf("answered %+v, want two refusals", r)
		}
		if len(r.Stop) != 1 || r.Stop[0].Reason != protocol.StopStale {
			t.Fatalf("told %+v, want a stop", r.Stop)
		}
		if len(w.board.updates) != 0 || w.log.count() != batches || w.store.View().Digest() != before {
			t.Fatal("a stale write changed something")
		}
	})
}

func TestRepeatedResultIsAcceptedOnce(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		for range 3 {
			if r := a.finish(1, completed(h)); r.Code != "" {
				t.Fatalf("the result was refused: %+v", r)
			}
		}
		if j := w.job(h.Job); j.Status != protocol.StatusCompleted {
			t.Fatalf("the job is %s", j.Status)
		}
	})
}

func TestReturnedAgentContinuesItsRun(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		<-time.After(protocol.LeaseTerm + time.Second)
		if r, err := a.report(0, []protocol.HeldAttempt{h}); err != nil || len(r.Stop) != 0 {
			t.Fatalf("a run that may go on was answered %+v %v", r, err)
		}
		if r := <-a.sync(0, h); protocol.CodeOf(r.err) != protocol.CodeUnknownAgent {
			t.Fatalf("answered %v, want a new registration", r.err)
		}
		r := a.register(plain(), h)
		want := protocol.Adoption{Job: h.Job, From: 1, To: 2}
		if len(r.Current) != 0 || len(r.Adopted) != 1 || r.Adopted[0] != want {
			t.Fatalf("registered %+v, want %+v adopted", r, want)
		}
		h.Attempt = 2
		w.parked(a.sync(0, h))
		if r := a.finish(1, completed(h)); r.Code != "" {
			t.Fatalf("the result was refused: %+v", r)
		}
	})
}

func TestRestartedAgentKeepsWhatItHolds(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		w.submit(protocol.PriorityNormal)
		w.submit(protocol.PriorityNormal)
		var held []protocol.HeldAttempt
		for len(held) < 2 {
			for _, x := range w.answered(a.sync(2-len(held), held...)).Assign {
				held = append(held, protocol.HeldAttempt{Job: x.Job, Attempt: x.Attempt})
			}
		}
		w.parked(a.sync(0, held...))
		r := a.register(plain(), held[0])
		if !slices.Equal(r.Current, held[:1]) {
			t.Fatalf("current %+v, want %+v", r.Current, held[:1])
		}
		if j := w.job(held[0].Job); j.Attempt != 1 || j.Lease.Incarnation != a.inc {
			t.Fatalf("the kept job is %+v", j)
		}
		if j := w.job(held[1].Job); j.Lease != nil || j.Losses != 1 {
			t.Fatalf("the lost job is %s with %d losses", j.Status, j.Losses)
		}
	})
}

func TestRunElsewhereIsNotAdopted(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		<-time.After(protocol.LeaseTerm + time.Second)
		b, _ := w.agent(plain())
		w.assigned(b.sync(1))
		if r := a.register(plain(), h); len(r.Current)+len(r.Adopted) != 0 {
			t.Fatalf("registered %+v, want nothing current", r)
		}
	})
}

func TestOverrunIsStoppedThenTaken(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		start := time.Now()
		_, err := w.broker.Report(context.Background(), protocol.ReportRequest{
			Agent: a.id, Incarnation: a.inc, Held: []protocol.HeldAttempt{h},
			Attempts: []protocol.AttemptUpdate{{Job: h.Job, Attempt: h.Attempt, StartedMs: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		for w.job(h.Job).Lease != nil {
			<-time.After(5 * time.Second)
			ran := time.Since(start)
			r, err := a.report(0, []protocol.HeldAttempt{h})
			if err != nil {
				t.Fatal(err)
			}
			told := len(r.Stop) == 1 && r.Stop[0].Reason == protocol.StopTimeout
			if w.job(h.Job).Lease != nil && told != (ran >= 11*time.Minute) {
				t.Fatalf("after %s told to stop: %v", ran, told)
			}
			synctest.Wait()
		}
		if ran := time.Since(start); ran < 12*time.Minute-time.Second || ran > 12*time.Minute+10*time.Second {
			t.Fatalf("taken away after %s, want 12m", ran)
		}
	})
}

func TestTTLEndsWaiting(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		s := newSubmit(protocol.PriorityNormal)
		s.TtlMs = 60_000
		if r, err := w.broker.Submit(context.Background(), s); err != nil || r.Code != "" {
			t.Fatal(r, err)
		}
		<-time.After(time.Minute + time.Millisecond)
		synctest.Wait()
		if j := w.job(protocol.JobID(s.Job)); j.Status != protocol.StatusTimeout || j.Outcome.ErrCode != protocol.CodeTTLExpired {
			t.Fatalf("the job is %s", j.Status)
		}
	})
}

func TestRetryBacksOffAndKeepsItsPlace(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		later := w.submit(protocol.PriorityNormal)
		f := protocol.Finish{Job: h.Job, Attempt: h.Attempt, Outcome: protocol.OutcomeFailed, Retryable: true, Error: &protocol.JobError{Code: protocol.CodeRuntimeCrashed, Message: "x"}}
		a.finish(0, f)
		j := w.job(h.Job)
		if j.Status != protocol.StatusQueued || j.NotBeforeMs <= nowMs() || j.NotBeforeMs > nowMs()+1000 {
			t.Fatalf("the job is %s, not before +%d ms", j.Status, j.NotBeforeMs-nowMs())
		}
		<-time.After(1001 * time.Millisecond)
		if got := w.assigned(a.sync(1)); got.Job != h.Job || got.Attempt != 2 {
			t.Fatalf("assigned %+v before the retry of %s; %s waits", got, h.Job, later)
		}
	})
}

// TestOrder: one slot, a thousand jobs of mixed priority, one of which fails
// once, and a change of leadership in the middle.
func TestOrder(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		type planned struct {
			job protocol.JobID
			p   protocol.Priority
		}
		var jobs []planned
		random := rand.New(rand.NewPCG(1, 2))
		for range 1000 {
			p := protocol.Priority(random.IntN(4) + 1)
			jobs = append(jobs, planned{w.submit(p), p})
		}
		slices.SortStableFunc(jobs, func(a, b planned) int { return int(a.p) - int(b.p) })
		a, _ := w.agent(plain())
		failed := false
		for i := 0; i < len(jobs); i++ {
			if i == 500 {
				w.stop()
				w.lead()
			}
			h := w.assigned(a.sync(1))
			if h.Job != jobs[i].job {
				t.Fatalf("start %d is %s, want %s", i, h.Job, jobs[i].job)
			}
			f := completed(h)
			if i == 300 && !failed {
				failed = true
				f = protocol.Finish{Job: h.Job, Attempt: h.Attempt, Outcome: protocol.OutcomeFailed, Retryable: true}
				i--
			}
			a.finish(0, f)
			if f.Retryable {
				<-time.After(1001 * time.Millisecond)
			}
		}
	})
}

func TestDispatchRules(t *testing.T) {
	gpu := protocol.GPUFact{UUID: "GPU-1", Name: "NVIDIA A100", Memory: 40 << 30}
	cases := []struct {
		name  string
		doc   protocol.Endpoint
		facts protocol.AgentFacts
		free  int
		gpus  int
		want  int                  // of three jobs
		why   protocol.BlockerCode // of the last one
	}{
		{"slots", protocol.Endpoint{}, plain(), 2, 0, 2, protocol.BlockedSlotsBusy},
		{"other kind", protocol.Endpoint{Runtime: protocol.RuntimeSpec{Kind: "oip"}}, plain(), 3, 0, 0, protocol.BlockedRuntime},
		{"other pool", protocol.Endpoint{Pool: "a"}, plain(), 3, 0, 0, protocol.BlockedPool},
		{"same pool", protocol.Endpoint{Pool: "a"}, protocol.AgentFacts{Kinds: []string{"command"}, Pool: "a"}, 3, 0, 3, ""},
		{"no gpu", protocol.Endpoint{Resources: protocol.ResourceSpec{GPUs: 1}}, plain(), 3, 0, 0, protocol.BlockedFewGPUs},
		{"one gpu free", protocol.Endpoint{Resources: protocol.ResourceSpec{GPUs: 1}}, protocol.AgentFacts{Kinds: []string{"command"}, GPUs: []protocol.GPUFact{gpu, gpu}}, 3, 1, 1, protocol.BlockedGPUsBusy},
		{"small gpu", protocol.Endpoint{Resources: protocol.ResourceSpec{GPUs: 1, VRAM: 80 << 30}}, protocol.AgentFacts{Kinds: []string{"command"}, GPUs: []protocol.GPUFact{gpu}}, 3, 1, 0, protocol.BlockedGPUMemory},
		{"other gpu", protocol.Endpoint{Resources: protocol.ResourceSpec{GPUs: 1, GPUType: "NVIDIA H100"}}, protocol.AgentFacts{Kinds: []string{"command"}, GPUs: []protocol.GPUFact{gpu}}, 3, 1, 0, protocol.BlockedGPUType},
		{"instances", protocol.Endpoint{Warm: protocol.WarmPolicy{Max: 1}, Concurrency: 2}, plain(), 3, 0, 2, protocol.BlockedConcurrency},
		{"maxRunning", protocol.Endpoint{MaxRunning: 1}, plain(), 3, 0, 1, protocol.BlockedConcurrency},
		{"paused", protocol.Endpoint{Paused: true}, plain(), 3, 0, 0, protocol.BlockedEndpointPause},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			run(t, func(w *world) {
				c.doc.ID = testEndpoint
				w.endpoint(c.doc)
				var last protocol.JobID
				for range 3 {
					last = w.submit(protocol.PriorityNormal)
				}
				a, _ := w.agent(c.facts)
				req := a.request(c.free)
				req.Capacity.FreeGPUs = c.gpus
				ch := a.send(context.Background(), req)
				if c.want == 0 {
					w.parked(ch)
				} else if n := len(w.answered(ch).Assign); n != c.want {
					t.Fatalf("%d assignments, want %d", n, c.want)
				}
				if c.want < 3 {
					w.blocked(last, 2-c.want, c.why)
				}
			})
		})
	}
}

func TestResumedEndpointIsServed(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint, Paused: true})
		job := w.submit(protocol.PriorityNormal)
		a, _ := w.agent(plain())
		ch := a.sync(1)
		w.parked(ch)
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		if h := w.assigned(ch); h.Job != job {
			t.Fatalf("assigned %s", h.Job)
		}
		s := w.broker.Stats()
		if s.Running != 1 || len(s.Queued) != 0 || s.Waiters != 0 {
			t.Fatalf("stats %+v", s)
		}
		if infos := w.broker.Agents(); len(infos) != 1 || !infos[0].Connected || infos[0].Running != 1 {
			t.Fatalf("agents %+v", infos)
		}
	})
}

func TestFailedLogGivesJobsBack(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		job := w.submit(protocol.PriorityNormal)
		a, _ := w.agent(plain())
		w.log.fail(2)
		ch := a.sync(1)
		w.parked(ch)
		<-time.After(time.Second)
		if h := w.assigned(ch); h.Job != job || h.Attempt != 1 {
			t.Fatalf("assigned %+v", h)
		}
	})
}

// TestAdoptionIsNotAnAssignment: the agent has the run, so its new attempt is
// told by the registration alone, also when the same life registers again.
func TestAdoptionIsNotAnAssignment(t *testing.T) {
	run(t, func(w *world) {
		a, h := w.running()
		<-time.After(protocol.LeaseTerm + time.Second)
		req := protocol.RegisterRequest{Agent: a.id, Name: "agent", Incarnation: a.inc, Facts: plain(), Held: []protocol.HeldAttempt{h}}
		for range 2 { // the first answer is lost
			r, err := w.broker.Register(context.Background(), req)
			if err != nil || len(r.Adopted) != 1 || r.Adopted[0].To != 2 {
				t.Fatalf("registered %+v %v", r, err)
			}
		}
		w.parked(a.sync(0))
		if j := w.job(h.Job); j.Lease != nil || j.Losses != 2 {
			t.Fatalf("an adopted attempt that its agent does not list: %s, %d losses", j.Status, j.Losses)
		}
	})
}

// TestNothingIsSaidOfWhatALaterLeaderGaveOut: a leader that was stopped wakes up and
// does not know yet that another one leads. An agent that comes back to it holds
// what that one gave it; told that it is stale, it would drop its run, or its
// result.
func TestNothingIsSaidOfWhatALaterLeaderGaveOut(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		first := w.assigned(ch)
		<-time.After(2 * idSkew * time.Millisecond)
		w.submit(protocol.PriorityNormal) // the log's clock goes on
		old, fresh := protocol.NewJobID(time.Now().Add(-2*idSkew*time.Millisecond)), protocol.NewJobID(time.Now())
		for _, c := range []struct {
			h    protocol.HeldAttempt
			code protocol.Code
		}{
			{protocol.HeldAttempt{Job: job, Attempt: first.Attempt + 1}, ""},
			{protocol.HeldAttempt{Job: fresh, Attempt: 1}, ""},
			{protocol.HeldAttempt{Job: old, Attempt: 1}, protocol.CodeStaleAttempt}, // removed long ago
		} {
			req := protocol.ReportRequest{
				Agent: a.id, Incarnation: a.inc, Held: []protocol.HeldAttempt{first, c.h},
				Attempts: []protocol.AttemptUpdate{{Job: c.h.Job, Attempt: c.h.Attempt}}, Finished: []protocol.Finish{completed(c.h)},
			}
			r, err := w.broker.Report(context.Background(), req)
			if err != nil {
				t.Fatal(err)
			}
			if known := c.code != ""; known != (len(r.Stop) > 0) || known != (len(r.Attempts) > 0) {
				t.Errorf("attempt %d of %s: %+v", c.h.Attempt, c.h.Job, r)
			}
		}
	})
}

// TestLeaseEndsWithItsRow: what a coordinator applies at once may hold a job's end
// and its removal from the table; it shows neither, only that the row is gone.
func TestLeaseEndsWithItsRow(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint, MaxRunning: 1})
		a, _ := w.agent(plain())
		first := w.submit(protocol.PriorityNormal)
		held := w.assigned(a.sync(4))
		parked := a.sync(3, held)
		w.do(cancelCommand(protocol.OrgDefault, first), &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{Jobs: [][]byte{first[:]}}}})
		if w.store.Job(first) != nil {
			t.Fatal("the row is there")
		}
		if r := w.answered(parked); len(r.Stop) != 1 || r.Stop[0].Job != first || r.Stop[0].Reason != protocol.StopStale {
			t.Errorf("the agent is told %+v", r)
		}
		r, err := w.broker.Report(t.Context(), protocol.ReportRequest{
			Agent: a.id, Incarnation: a.inc, Held: []protocol.HeldAttempt{held}, Capacity: protocol.Capacity{Free: 4},
			Attempts: []protocol.AttemptUpdate{{Job: held.Job, Attempt: held.Attempt, StartedMs: 5}},
		})
		if err != nil || len(w.board.updates) != 0 {
			t.Errorf("its progress is answered %+v, %v; the board has %+v", r, err, w.board.updates)
		}
		second := w.submit(protocol.PriorityNormal)
		if got := w.assigned(a.sync(4)); got.Job != second {
			t.Errorf("assigned %+v, want %s: the slot is still taken", got, second)
		}
	})
}
