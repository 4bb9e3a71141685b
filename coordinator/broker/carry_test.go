package broker

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// statement numbers what an agent says, as an agent does that takes assignments
// with the answers to its reports.
type statement struct {
	*testAgent
	number uint64
}

type reportResult struct {
	resp protocol.ReportResponse
	err  error
}

// numbered is an agent that holds one job and has a sync parked.
func (w *world) numbered() (s *statement, parked <-chan syncResult, held protocol.HeldAttempt) {
	w.t.Helper()
	w.endpoint(protocol.Endpoint{ID: testEndpoint})
	a, _ := w.agent(plain())
	s = &statement{testAgent: a}
	ch := s.say(1, 0)
	w.submit(protocol.PriorityNormal)
	held = w.assigned(ch)
	return s, s.say(0, 0, held), held
}

func (s *statement) next() uint64 { s.number++; return s.number }

// say parks a numbered sync that waits for the answer to the report given, or none.
func (s *statement) say(free int, reporting uint64, held ...protocol.HeldAttempt) <-chan syncResult {
	return s.send(context.Background(), s.sayLater(free, reporting, held...))
}

// sayLater makes such a sync without sending it.
func (s *statement) sayLater(free int, reporting uint64, held ...protocol.HeldAttempt) protocol.SyncRequest {
	req := s.request(free, held...)
	req.Capacity.Seq, req.Reporting = s.next(), reporting
	return req
}

func (s *statement) handIn(free int, held []protocol.HeldAttempt, f ...protocol.Finish) protocol.ReportRequest {
	return protocol.ReportRequest{
		Agent: s.id, Incarnation: s.inc, Held: held, Finished: f, Takes: true,
		Capacity: protocol.Capacity{Seq: s.next(), Free: free},
	}
}

func (s *statement) start(req protocol.ReportRequest) <-chan reportResult {
	ch := make(chan reportResult, 1)
	go func() {
		r, err := s.w.broker.Report(context.Background(), req)
		ch <- reportResult{r, err}
	}()
	synctest.Wait()
	return ch
}

// carriedBy returns the one assignment of an answer that is there.
func (w *world) carriedBy(ch <-chan reportResult) protocol.HeldAttempt {
	w.t.Helper()
	r := w.reported(ch)
	if len(r.Assign) != 1 {
		w.t.Fatalf("%d assignments, want 1: %+v", len(r.Assign), r)
	}
	return protocol.HeldAttempt{Job: r.Assign[0].Job, Attempt: r.Assign[0].Attempt}
}

func (w *world) reported(ch <-chan reportResult) protocol.ReportResponse {
	w.t.Helper()
	synctest.Wait()
	select {
	case r := <-ch:
		if r.err != nil {
			w.t.Fatal(r.err)
		}
		return r.resp
	default:
		w.t.Fatal("the report is not answered")
		return protocol.ReportResponse{}
	}
}

func TestAnswerToAReportCarriesTheNextJob(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		next := w.submit(protocol.PriorityNormal)
		before := w.log.count()
		resp := w.reported(s.start(s.handIn(1, nil, completed(held))))
		if len(resp.Assign) != 1 || resp.Assign[0].Job != next || resp.Assign[0].Attempt != 1 || string(resp.Assign[0].Input) != `{}` {
			t.Fatalf("the answer is %+v, want attempt 1 of %s", resp, next)
		}
		if len(resp.Endpoints) != 1 || resp.Endpoints[0].ID != testEndpoint {
			t.Errorf("the answer has the documents %+v, and the agent has none", resp.Endpoints)
		}
		if n, b := w.log.count()-before, w.log.batch(1); n != 1 || len(b) != 2 || b[0].GetFinish() == nil || b[1].GetLease() == nil {
			t.Errorf("%d batches, the last is %v; want one of finish and lease", n, b)
		}
		w.parked(parked)
		// What the next report has, whether held or finished, arrived.
		got := protocol.HeldAttempt{Job: next, Attempt: 1}
		again := s.handIn(1, nil, completed(got))
		again.Endpoints = map[string]uint64{testEndpoint: w.store.Endpoint(protocol.OrgDefault, testEndpoint).Revision}
		w.submit(protocol.PriorityNormal)
		if r := w.reported(s.start(again)); r.Resync || len(r.Assign) != 1 || len(r.Endpoints) != 0 {
			t.Errorf("the answer is %+v, want one assignment without a document", r)
		}
		w.parked(parked)
	})
}

func TestOnlyWhoTakesAssignmentsIsAnsweredThem(t *testing.T) {
	for name, test := range map[string]struct {
		level uint32
		takes bool
	}{
		"an agent of the version before":          {command.FeatureCarry, false},
		"a coordinator of the version before too": {command.FeatureArchive, true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(w *world) {
				w.broker.cfg.Feature = func() uint32 { return test.level }
				w.stop()
				w.leadWith(w.broker.cfg)
				s, parked, held := w.numbered()
				next := w.submit(protocol.PriorityNormal)
				req := s.handIn(1, nil, completed(held))
				req.Takes = test.takes
				if r := w.reported(s.start(req)); len(r.Assign) != 0 {
					t.Fatalf("the answer is %+v, want no assignment", r)
				}
				if got := w.assigned(parked); got.Job != next {
					t.Errorf("the sync brought %s, want %s", got.Job, next)
				}
			})
		})
	}
}

// TestLostAnswerToAReportIsSentAgain: the answer that carried a job got lost.
func TestLostAnswerToAReportIsSentAgain(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		lost := w.carriedBy(s.start(s.handIn(1, nil, completed(held))))
		w.parked(parked)
		if r := w.reported(s.start(s.handIn(1, nil))); !r.Resync || len(r.Assign) != 0 {
			t.Fatalf("the answer to a report without the job is %+v, want a request to sync", r)
		}
		again := s.say(1, 0)
		if got := w.assigned(again); got != lost {
			t.Fatalf("assigned %+v, want %+v again", got, lost)
		}
		if r := w.answered(parked); len(r.Assign) != 0 {
			t.Errorf("the superseded sync was answered %+v", r)
		}
		w.parked(s.say(0, 0, lost))
		if j := w.job(lost.Job); j.Lease == nil || j.Attempt != lost.Attempt {
			t.Errorf("the job is %+v", j)
		}
	})
}

// TestLostAnswerToAReportIsReleasedWhenItDoesNotFitAnyMore is what happens to an
// assignment of a sync too.
func TestLostAnswerToAReportIsReleasedWhenItDoesNotFitAnyMore(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		lost := w.carriedBy(s.start(s.handIn(1, nil, completed(held))))
		w.parked(s.say(0, 0))
		if j := w.job(lost.Job); j.Lease != nil || j.Losses != 0 {
			t.Errorf("the job is %+v, want it back in the queue and no loss", j)
		}
	})
}

// TestSyncFromBeforeAReportSaysNothingAboutItsAnswer: a sync that travelled slowly
// was made before the report whose answer carried the job, so it cannot have it.
func TestSyncFromBeforeAReportSaysNothingAboutItsAnswer(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		slow := s.sayLater(0, 0, held)
		got := w.carriedBy(s.start(s.handIn(1, nil, completed(held))))
		w.parked(s.send(context.Background(), slow))
		if j := w.job(got.Job); j.Lease == nil || j.Attempt != 1 {
			t.Fatalf("the job was taken back: %+v", j)
		}
		w.parked(s.say(0, 0, got))
	})
}

// TestSyncThatWaitsForAReportSaysNothingAboutItsAnswer: a sync that was made while
// the answer was on its way cannot have what it carries. It was the danger of two
// ways for assignments: sent on both, a short job would run twice.
func TestSyncThatWaitsForAReportSaysNothingAboutItsAnswer(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		req := s.handIn(1, nil, completed(held))
		got := w.carriedBy(s.start(req))
		for _, free := range []int{1, 0} { // to be sent again, and to be released
			ch := s.say(free, req.Capacity.Seq)
			w.parked(ch)
			if j := w.job(got.Job); j.Lease == nil || j.Attempt != 1 {
				t.Fatalf("the job was taken back: %+v", j)
			}
			// Nor does anything else that wakes this sync bring it.
			other := w.submit(protocol.PriorityNormal)
			if free == 1 {
				w.parked(ch) // the slot is taken by what is on its way
				_, _ = w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, other))
			}
		}
		w.parked(s.say(0, 0, got))
	})
}

// TestAnswerThatNobodyHearsCarriesNothing: the agent gave the report up before its
// results were committed, and said so with a newer statement.
func TestAnswerThatNobodyHearsCarriesNothing(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		next := w.submit(protocol.PriorityNormal)
		w.log.hold()
		report := s.start(s.handIn(1, nil, completed(held)))
		ch := s.say(1, 0, held)
		w.log.release()
		if r := w.reported(report); len(r.Assign) != 0 {
			t.Errorf("the answer is %+v, want no assignment", r)
		}
		if got := w.assigned(ch); got.Job != next {
			t.Errorf("the sync brought %s, want %s", got.Job, next)
		}
	})
}

// TestRepeatedResultLeavesTheJobToTheSync: the first report was given up, and the
// second one has the same result.
func TestRepeatedResultLeavesTheJobToTheSync(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		next := w.submit(protocol.PriorityNormal)
		w.log.hold()
		first := s.start(s.handIn(1, nil, completed(held)))
		second := s.start(s.handIn(1, nil, completed(held)))
		w.log.release()
		for _, report := range []<-chan reportResult{first, second} {
			if r := w.reported(report); len(r.Assign) != 0 {
				t.Errorf("the answer is %+v, want no assignment", r)
			}
		}
		if got := w.assigned(parked); got.Job != next {
			t.Errorf("the sync brought %s, want %s", got.Job, next)
		}
	})
}

func TestRepeatedReportCarriesOnce(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		w.submit(protocol.PriorityNormal)
		req := s.handIn(1, nil, completed(held))
		w.log.hold()
		first, second := s.start(req), s.start(req)
		w.log.release()
		w.carriedBy(first)
		if r := w.reported(second); len(r.Assign) != 0 || r.Attempts[0].Code != "" {
			t.Errorf("the second copy was answered %+v", r)
		}
		w.parked(parked)
	})
}

// TestFailedReportLeavesItsJobToTheSync: the answer is an error, which carries nothing.
func TestFailedReportLeavesItsJobToTheSync(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		next := w.submit(protocol.PriorityNormal)
		w.log.fail(1)
		if r := <-s.start(s.handIn(1, nil, completed(held))); r.err == nil {
			t.Fatalf("the report was answered %+v", r.resp)
		}
		<-time.After(time.Second)
		if r := w.reported(s.start(s.handIn(1, nil, completed(held)))); len(r.Attempts) != 1 {
			t.Fatalf("the result was not answered: %+v", r)
		} else if len(r.Assign) == 0 {
			if got := w.assigned(parked); got.Job != next {
				t.Errorf("the sync brought %s, want %s", got.Job, next)
			}
		}
	})
}

// TestNewLeaderHearsAnAgentTwice: what the leader before granted may be in the answer
// to a report of which the new one knows nothing, and of the first sync nobody knows
// whether it was made before that answer arrived.
func TestNewLeaderHearsAnAgentTwice(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		slow := s.sayLater(0, 0, held)
		req := s.handIn(1, nil, completed(held))
		got := w.carriedBy(s.start(req))
		w.stop()
		w.lead()
		if r := w.answered(s.send(context.Background(), slow)); len(r.Assign)+len(r.Stop) != 0 {
			t.Fatalf("the first sync was answered %+v, want nothing", r)
		}
		w.parked(s.say(0, req.Capacity.Seq))
		if j := w.job(got.Job); j.Lease == nil || j.Attempt != 1 {
			t.Fatalf("the job was taken back: %+v", j)
		}
		// The answer never came: now it is known that the job did not arrive.
		if again := w.assigned(s.say(1, 0)); again != got {
			t.Errorf("assigned %+v, want %+v again", again, got)
		}
	})
}

// TestLeaseOfAnotherCommitWaitsForNoReport: a submit that met the agent while its
// report was under way is handed out as soon as it is committed.
func TestLeaseOfAnotherCommitWaitsForNoReport(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		s := &statement{testAgent: a}
		w.submit(protocol.PriorityNormal)
		held := w.assigned(s.say(2, 0))
		parked := s.say(1, 0, held)
		w.log.hold()
		go func() { _, _ = w.broker.Submit(context.Background(), newSubmit(protocol.PriorityNormal)) }()
		synctest.Wait()
		report := s.start(s.handIn(2, nil, completed(held)))
		w.log.release()
		w.assigned(parked)
		if r := w.reported(report); len(r.Assign) != 0 {
			t.Errorf("the report was answered %+v, want no assignment", r)
		}
	})
}

// TestSlotOfAJobThatEndedOnItsWay: the agent will begin with a job that was cancelled
// while its assignment was on its way, so its slot is nobody else's until the agent
// says otherwise.
func TestSlotOfAJobThatEndedOnItsWay(t *testing.T) {
	run(t, func(w *world) {
		s, parked, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		got := w.carriedBy(s.start(s.handIn(1, nil, completed(held))))
		_, _ = w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, got.Job))
		next := w.submit(protocol.PriorityNormal)
		w.parked(parked)
		r := w.reported(s.start(s.handIn(0, []protocol.HeldAttempt{got})))
		if len(r.Stop) != 1 || r.Stop[0].Job != got.Job {
			t.Fatalf("the answer is %+v, want that the cancelled job must stop", r)
		}
		w.parked(parked)
		w.reported(s.start(s.handIn(1, nil)))
		if a := w.assigned(parked); a.Job != next {
			t.Errorf("assigned %s, want %s", a.Job, next)
		}
	})
}

// TestNewLeaderGivesNothingForWhatAnAnswerMayFill: the leader before may have handed out
// a job for every slot that a report freed, and the one that it did may have ended
// since, so that the new leader sees nothing of it.
func TestNewLeaderGivesNothingForWhatAnAnswerMayFill(t *testing.T) {
	run(t, func(w *world) {
		s, _, held := w.numbered()
		w.submit(protocol.PriorityNormal)
		req := s.handIn(1, nil, completed(held))
		got := w.carriedBy(s.start(req))
		_, _ = w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, got.Job))
		w.stop()
		w.lead()
		next := w.submit(protocol.PriorityNormal)
		parked := s.say(1, req.Capacity.Seq)
		w.parked(parked)
		w.reported(s.start(s.handIn(0, []protocol.HeldAttempt{got})))
		w.parked(parked)
		w.reported(s.start(s.handIn(1, nil)))
		if a := w.assigned(parked); a.Job != next {
			t.Errorf("assigned %s, want %s", a.Job, next)
		}
	})
}
