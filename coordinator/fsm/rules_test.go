package fsm

import (
	"fmt"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func TestSubmitTwiceIsOneJob(t *testing.T) {
	w := ready(t)
	first := w.ok(submit(1))
	w.clock += 5000
	second := w.again(submit(1))
	if second.CreatedMs != first.CreatedMs || second.Job != job(1) {
		t.Errorf("the repetition answered %+v, the first %+v", second, first)
	}
	w.refused(submit(1, func(s *command.Submit) { s.Org, s.Endpoint = org2, ep2 }), protocol.CodeConflict)
	w.refused(submit(2, func(s *command.Submit) { s.Endpoint = "ep_none" }), protocol.CodeEndpointNotFound)
}

func TestIdempotencyKeyLivesADayLongerThanItsJob(t *testing.T) {
	w := ready(t)
	w.ok(submit(1, withKey("k", 1)))
	w.clock += 3 * keyTermMs // a job that waits keeps its key
	if r := w.again(submit(2, withKey("k", 1))); r.Job != job(1) {
		t.Errorf("the key named %s", r.Job)
	}
	w.refused(submit(2, withKey("k", 2)), protocol.CodeIdempotencyReused)
	w.ok(cancel(1, org1))
	w.ok(evict(1)) // the key survives its job
	w.clock += keyTermMs - 1
	if r := w.again(submit(2, withKey("k", 1))); r.Job != job(1) {
		t.Errorf("the key named %s", r.Job)
	}
	if id, ok := w.store.View().Idempotent(org1, ep1, "k"); !ok || id != job(1) {
		t.Errorf("the view knows %s, %t", id, ok)
	}
	w.clock++
	if r := w.ok(submit(2, withKey("k", 2))); r.Job != job(2) || r.Replayed {
		t.Errorf("an expired key answered %+v", r)
	}
}

func TestReopenedJobKeepsItsKey(t *testing.T) {
	w := ready(t)
	w.ok(submit(1, withKey("k", 1)))
	w.ok(cancel(1, org1))
	w.ok(reopen(1, org1, 1))
	w.clock += 2 * keyTermMs
	if r := w.again(submit(2, withKey("k", 1))); r.Job != job(1) {
		t.Errorf("the key named %s", r.Job)
	}
}

func TestEvictDropsExpiredKeysInBoundedNumber(t *testing.T) {
	w := ready(t)
	const keys = keysPerEvict + 10
	for n := range keys {
		w.ok(submit(100+n, withKey(fmt.Sprint("key", n), 1)))
		w.ok(cancel(100+n, org1))
	}
	w.clock += keyTermMs
	count := func() (n int) {
		w.store.View().Keys(func(*state.Key) bool { n++; return true })
		return n
	}
	w.ok(evict())
	if count() != keys-keysPerEvict {
		t.Errorf("%d keys are left of %d", count(), keys)
	}
	w.ok(evict())
	if r := w.again(evict()); count() != 0 {
		t.Errorf("%d keys are left: %+v", count(), r)
	}
}

func TestQueueLimits(t *testing.T) {
	w := ready(t)
	limited := func(s *command.Submit) { s.QueueLimit = 2 }
	w.ok(submit(1, limited))
	w.ok(submit(2, limited))
	if r := w.refused(submit(3, limited), protocol.CodeQueueFull); r.Limit != "organisation" || r.Count != 2 {
		t.Errorf("answered %+v", r)
	}
	w.again(submit(2, limited)) // a repetition is not a new job
	w.ok(lease(1, 0, 1, 1))     // a leased job does not wait
	w.ok(submit(3, limited))

	other := func(s *command.Submit) { s.Org, s.Endpoint = org2, ep2 }
	w.ok(submit(11, other))
	w.ok(submit(12, other))
	if r := w.refused(submit(13, other), protocol.CodeQueueFull); r.Limit != "endpoint" || r.Count != 2 {
		t.Errorf("answered %+v", r)
	}
	w.ok(lease(11, 0, 1, 1))
	w.ok(finish(11, 1, 1, 1, protocol.OutcomeCompleted))
	w.ok(submit(13, other))
	w.refused(reopen(11, org2, 1), protocol.CodeQueueFull)
}

func TestMemoryLimitRefusesSubmitsOnly(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(putSettings(w.store.View().Bytes()))
	w.again(putSettings(w.store.View().Bytes()))
	w.again(putSettings(0))
	if r := w.refused(submit(2), protocol.CodeQueueFull); r.Limit != "memory" || r.Count != w.store.View().Bytes() {
		t.Errorf("answered %+v", r)
	}
	w.ok(lease(1, 0, 1, 1))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted))
	w.ok(evict(1))
	w.ok(submit(2))
}

func TestBytesReturnToTheStart(t *testing.T) {
	w := ready(t)
	start := w.store.View().Bytes()
	w.ok(submit(1, withKey("k", 1)))
	w.ok(lease(1, 0, 1, 1))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, func(f *command.Finish) {
		f.Output = &command.Payload{Inline: make([]byte, 5000)}
	}))
	if got := w.store.View().Bytes() - start; got < 5000 {
		t.Errorf("a finished job counts %d bytes", got)
	}
	w.clock += keyTermMs
	w.ok(evict(1))
	if got := w.store.View().Bytes(); got != start {
		t.Errorf("%d bytes are left over", got-start)
	}
}

func TestLeaseNeedsTheNewestLifeOfTheAgent(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.refused(lease(1, 0, 3, 1), protocol.CodeUnknownAgent)
	w.refused(lease(1, 0, 1, 2), protocol.CodeStaleIncarnation)
	w.refused(lease(1, 1, 1, 1), protocol.CodeConflict)
	w.refused(lease(2, 0, 1, 1), protocol.CodeConflict)
	if r := w.ok(lease(1, 0, 1, 1)); r.Attempt != 1 {
		t.Errorf("answered %+v", r)
	}
	if r := w.again(lease(1, 0, 1, 1)); r.Attempt != 1 {
		t.Errorf("answered %+v", r)
	}
	w.refused(lease(1, 0, 2, 1), protocol.CodeConflict)
	if l := w.job(1).Lease; l.Revision != 1 || l.Reason != "free" || l.GrantedMs != w.clock {
		t.Errorf("lease is %+v", l)
	}
}

func TestStaleWritesChangeNothing(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	for name, c := range map[string]*command.Command{
		"attempt":     finish(1, 2, 1, 1, protocol.OutcomeCompleted),
		"agent":       finish(1, 1, 2, 1, protocol.OutcomeCompleted),
		"incarnation": finish(1, 1, 1, 2, protocol.OutcomeCompleted),
		"job":         finish(9, 1, 1, 1, protocol.OutcomeCompleted),
		"release":     release(1, 2, 1, 1, command.Release_LOST),
	} {
		t.Run(name, func(t *testing.T) { w.refused(c, protocol.CodeStaleAttempt) })
	}
	// Lost and granted again: the first agent comes too late, for every outcome.
	w.ok(release(1, 1, 1, 1, command.Release_LOST))
	w.refused(finish(1, 1, 1, 1, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
	w.ok(lease(1, 1, 2, 1))
	w.refused(finish(1, 1, 1, 1, protocol.OutcomeFailed, retryable), protocol.CodeStaleAttempt)
	w.refused(finish(1, 2, 1, 1, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
	w.ok(finish(1, 2, 2, 1, protocol.OutcomeCompleted))
	w.refused(finish(1, 2, 1, 1, protocol.OutcomeFailed), protocol.CodeStaleAttempt)
}

func TestRepeatedFinishIsAnsweredAsDone(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	done := finish(1, 1, 1, 1, protocol.OutcomeFailed, retryable)
	w.ok(done)
	w.again(done)
	w.ok(register(1, 2)) // a restarted agent offers the result of its journal
	w.again(finish(1, 1, 1, 2, protocol.OutcomeFailed, retryable))
	w.ok(lease(1, 1, 1, 2))
	w.refused(done, protocol.CodeStaleAttempt) // a newer attempt exists
}

// An agent whose result of the attempt before was applied is no reporter of the
// attempt that another agent runs now, whatever life it speaks from; the model
// once said so.
func TestAReportOfTheAttemptBeforeIsNoneOfTheNewest(t *testing.T) {
	w, m := ready(t), newModel()
	m.endpoints[org1+"/"+ep1], m.agents[agent(1)], m.agents[agent(2)] = &modelEndpoint{}, incarnation(1), incarnation(1)
	for _, c := range []*command.Command{
		submit(1, func(s *command.Submit) { s.MaxAttempts = 3 }),
		lease(1, 0, 2, 1), finish(1, 1, 2, 1, protocol.OutcomeFailed, retryable), lease(1, 1, 1, 1),
	} {
		w.ok(c)
		if r := m.apply(w.clock, c); r.Code != "" {
			t.Fatalf("the model refuses %v: %+v", c, r)
		}
	}
	for _, inc := range []int{1, 4} {
		late := finish(1, 2, 2, inc, protocol.OutcomeCompleted)
		w.refused(late, protocol.CodeStaleAttempt)
		if r := m.apply(w.clock, late); r.Code != protocol.CodeStaleAttempt {
			t.Errorf("the model answers %+v", r)
		}
	}
	w.ok(finish(1, 2, 1, 1, protocol.OutcomeCompleted))
}

func TestCancelWinsOverALaterResult(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	w.refused(cancel(1, org2), protocol.CodeJobNotFound)
	w.ok(cancel(1, org1))
	w.again(cancel(1, org1))
	for _, outcome := range []protocol.Outcome{protocol.OutcomeCompleted, protocol.OutcomeCancelled} {
		w.refused(finish(1, 1, 1, 1, outcome), protocol.CodeStaleAttempt)
	}
	j := w.job(1)
	if j.Status != protocol.StatusCancelled || j.Outcome.ErrCode != protocol.CodeCancelled || j.Outcome.Agent != agent(1) || j.Lease != nil {
		t.Errorf("job is %+v, outcome %+v", j, j.Outcome)
	}
	w.ok(submit(2))
	w.ok(lease(2, 0, 1, 1))
	w.ok(finish(2, 1, 1, 1, protocol.OutcomeCompleted))
	w.refused(cancel(2, org1), protocol.CodeConflict)
}

func TestFailuresAreBounded(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	seq := w.job(1).Seq
	w.ok(submit(2))
	for attempt := uint32(1); attempt <= 3; attempt++ {
		w.ok(lease(1, attempt-1, 1, 1))
		w.ok(finish(1, attempt, 1, 1, protocol.OutcomeFailed, retryable))
		j := w.job(1)
		want := protocol.StatusQueued
		if attempt == 3 {
			want = protocol.StatusFailed
		}
		if j.Status != want || j.Failures != uint16(attempt) || j.Seq != seq || j.Outcome.Attempt != attempt {
			t.Fatalf("after attempt %d: %+v", attempt, j)
		}
		if want == protocol.StatusQueued && j.NotBeforeMs != 77 {
			t.Errorf("the retry may start at %d", j.NotBeforeMs)
		}
	}
	w.ok(lease(2, 0, 1, 1))
	w.ok(finish(2, 1, 1, 1, protocol.OutcomeFailed))
	if j := w.job(2); j.Status != protocol.StatusFailed || j.Failures != 1 {
		t.Errorf("a failure that is not retryable left %+v", j)
	}
}

func TestExecutionTimeout(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeTimeout, retryable))
	if j := w.job(1); j.Status != protocol.StatusTimeout || j.Outcome.ErrCode != protocol.CodeExecutionTimeout {
		t.Errorf("job is %+v", j)
	}
	w.ok(submit(2, func(s *command.Submit) { s.RetryTimeout, s.MaxAttempts = true, 2 }))
	w.ok(lease(2, 0, 1, 1))
	w.ok(finish(2, 1, 1, 1, protocol.OutcomeTimeout))
	if j := w.job(2); j.Status != protocol.StatusQueued || j.Failures != 1 {
		t.Errorf("job is %+v", j)
	}
	w.ok(lease(2, 1, 1, 1))
	w.ok(finish(2, 2, 1, 1, protocol.OutcomeTimeout))
	if j := w.job(2); j.Status != protocol.StatusTimeout {
		t.Errorf("job is %+v", j)
	}
}

func TestLossesHaveABoundOfTheirOwn(t *testing.T) {
	w := ready(t)
	w.ok(submit(1)) // one loss is allowed
	attempt := uint32(0)
	for _, reason := range []command.Release_Reason{
		command.Release_UNACKED, command.Release_REJECTED, command.Release_DRAINED, command.Release_LOST,
	} {
		w.ok(lease(1, attempt, 1, 1))
		attempt++
		back := release(1, attempt, 1, 1, reason)
		w.ok(back)
		w.again(back)
		j := w.job(1)
		if j.Status != protocol.StatusQueued || j.NotBeforeMs != 55 || j.Failures != 0 || (j.Losses == 1) != (reason == command.Release_LOST) {
			t.Fatalf("after %s: %+v", reason, j)
		}
	}
	w.ok(lease(1, attempt, 1, 1))
	lost := release(1, attempt+1, 1, 1, command.Release_LOST)
	w.ok(lost)
	w.again(lost)
	if j := w.job(1); j.Status != protocol.StatusFailed || j.Outcome.ErrCode != protocol.CodeAgentLost || j.Outcome.Retryable {
		t.Errorf("job is %+v, outcome %+v", j, j.Outcome)
	}
	w.refused(finish(1, attempt+1, 1, 1, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
}

func TestTTLBoundsWaitingOnly(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(submit(2, func(s *command.Submit) { s.TtlMs = 0 }))
	w.ok(submit(3))
	w.ok(lease(3, 0, 1, 1))
	w.clock += time.Hour.Milliseconds() - 1
	w.refused(expire(1), protocol.CodeConflict)
	w.clock++
	w.ok(expire(1))
	w.again(expire(1))
	if j := w.job(1); j.Status != protocol.StatusTimeout || j.Outcome.ErrCode != protocol.CodeTTLExpired {
		t.Errorf("job is %+v", j)
	}
	w.refused(expire(2), protocol.CodeConflict)
	w.refused(expire(3), protocol.CodeConflict)
	w.refused(expire(4), protocol.CodeJobNotFound)

	w.ok(reopen(1, org1, 1)) // the ttl counts from the reopening
	w.clock += time.Hour.Milliseconds() - 1
	w.refused(expire(1), protocol.CodeConflict)
	w.clock++
	w.ok(expire(1))
}

func TestReopenStartsANewRun(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(submit(2))
	w.ok(lease(1, 0, 1, 1))
	w.refused(reopen(1, org1, 1), protocol.CodeConflict)
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeFailed))
	created := w.job(1).CreatedMs
	w.clock += 1000
	w.refused(reopen(1, org2, 1), protocol.CodeJobNotFound)
	w.refused(reopen(1, org1, 2), protocol.CodeConflict)
	if r := w.ok(reopen(1, org1, 1)); r.Run != 2 {
		t.Errorf("answered %+v", r)
	}
	if r := w.again(reopen(1, org1, 1)); r.Run != 2 {
		t.Errorf("answered %+v", r)
	}
	j := w.job(1)
	if j.Status != protocol.StatusQueued || j.Attempt != 1 || j.Failures != 0 || j.Outcome != nil || j.CreatedMs != created || j.Seq <= w.job(2).Seq {
		t.Errorf("job is %+v", j)
	}
	// What an agent still has of the old run is not of the new one.
	w.refused(adopt(1, 1, 1, 1), protocol.CodeConflict)
	w.refused(finish(1, 1, 1, 1, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
	if r := w.ok(lease(1, 1, 1, 1)); r.Attempt != 2 {
		t.Errorf("answered %+v", r)
	}
}

func TestRegisterMovesWhatIsHeldAndLosesTheRest(t *testing.T) {
	w := ready(t)
	for n := 1; n <= 4; n++ {
		w.ok(submit(n))
		w.ok(lease(n, 0, 1+n/4, 1)) // 1, 2, 3 to agent 1, 4 to agent 2
	}
	again := register(1, 2, held(3, 1), held(1, 1), held(2, 7), held(4, 1), held(9, 1))
	r := w.ok(again)
	if want := fmt.Sprint([]protocol.HeldAttempt{{Job: job(3), Attempt: 1}, {Job: job(1), Attempt: 1}}); fmt.Sprint(r.Current) != want {
		t.Errorf("current is %v, want %v", r.Current, want)
	}
	if j := w.job(1); j.Lease.Incarnation != incarnation(2) || j.Losses != 0 || j.Attempt != 1 {
		t.Errorf("a held job is %+v", j)
	}
	if j := w.job(2); j.Status != protocol.StatusQueued || j.Losses != 1 {
		t.Errorf("a job that is not held is %+v", j)
	}
	if j := w.job(4); j.Lease == nil || j.Lease.Agent != agent(2) {
		t.Errorf("another agent's job is %+v", j)
	}
	// A repetition does not take back what was granted since.
	w.ok(lease(2, 1, 1, 2))
	if r := w.again(again); len(r.Current) != 2 {
		t.Errorf("the repetition answered %+v", r)
	}
	w.refused(register(1, 1), protocol.CodeStaleIncarnation)
	w.refused(finish(1, 1, 1, 1, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
	w.ok(finish(1, 1, 1, 2, protocol.OutcomeCompleted))
}

func TestAdoptContinuesAReleasedRun(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.refused(adopt(1, 0, 1, 1), protocol.CodeConflict) // nobody ever ran it
	w.ok(lease(1, 0, 1, 1))
	w.ok(release(1, 1, 1, 1, command.Release_LOST))
	w.refused(adopt(1, 2, 1, 1), protocol.CodeConflict)
	w.refused(adopt(1, 1, 1, 2), protocol.CodeStaleIncarnation)
	if r := w.ok(adopt(1, 1, 1, 1)); r.Attempt != 2 {
		t.Errorf("answered %+v", r)
	}
	if r := w.again(adopt(1, 1, 1, 1)); r.Attempt != 2 {
		t.Errorf("answered %+v", r)
	}
	if j := w.job(1); j.Losses != 1 || j.Failures != 0 || j.Lease == nil {
		t.Errorf("job is %+v", j)
	}
	// A run that reported its end is not continued by its agent.
	w.ok(finish(1, 2, 1, 1, protocol.OutcomeFailed, retryable))
	w.refused(adopt(1, 2, 1, 1), protocol.CodeConflict)
}

func TestEndpointRevisions(t *testing.T) {
	w := ready(t)
	doc := func(n int) string { return fmt.Sprintf(`{"runtime":{"kind":"builtin"},"concurrency":%d}`, n) }
	if r := w.again(putEndpoint(org1, ep1, ` { "runtime" : {"kind":"builtin"} } `)); r.Revision != 1 {
		t.Errorf("the same document answered %+v", r)
	}
	w.refused(putEndpoint(org1, ep1, doc(1), func(p *command.PutEndpoint) { p.Create = true }), protocol.CodeConflict)
	w.refused(putEndpoint(org1, ep1, doc(1), func(p *command.PutEndpoint) { p.ExpectRevision = 2 }), protocol.CodeConflict)
	w.refused(putEndpoint(org1, "ep_none", doc(1), func(p *command.PutEndpoint) { p.ExpectRevision = 2 }), protocol.CodeEndpointNotFound)
	w.refused(putEndpoint(org1, ep1, `{`), protocol.CodeValidation)
	for n := range 2 * keptRevisions {
		if r := w.ok(putEndpoint(org1, ep1, doc(n+1))); r.Revision != uint64(n+2) {
			t.Fatalf("answered %+v", r)
		}
	}
	e := w.store.Endpoint(org1, ep1)
	if len(e.Older) != keptRevisions || e.Older[0].Revision != e.Revision-1 || e.Doc.Revision != e.Revision {
		t.Errorf("endpoint is %+v", e)
	}
	w.ok(submit(1))
	w.refused(deleteEndpoint(org1, ep1), protocol.CodeEndpointInUse)
	w.ok(cancel(1, org1))
	w.ok(deleteEndpoint(org1, ep1))
	w.refused(deleteEndpoint(org1, ep1), protocol.CodeEndpointNotFound)
	w.refused(reopen(1, org1, 1), protocol.CodeEndpointNotFound)
	// An agent may still hold an instance of the deleted one.
	if r := w.ok(putEndpoint(org1, ep1, doc(1))); r.Revision != e.Revision+1 {
		t.Errorf("a new endpoint of the same name has revision %d, the old one had %d", r.Revision, e.Revision)
	}
}

func TestClockNeverGoesBack(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	before := w.store.View().ClockMs()
	w.clock -= 10_000
	if r := w.ok(submit(2)); r.CreatedMs != before || w.store.View().ClockMs() != before {
		t.Errorf("created at %d, clock %d, want %d", r.CreatedMs, w.store.View().ClockMs(), before)
	}
}

func TestCounterLimits(t *testing.T) {
	w := ready(t)
	w.ok(submit(1, func(s *command.Submit) { s.MaxAttempts, s.MaxLosses = 0, 1<<31 }))
	if j := w.job(1); j.MaxAttempts != protocol.DefaultMaxAttempts || j.MaxLosses != 65534 {
		t.Errorf("job is %+v", j)
	}
}
