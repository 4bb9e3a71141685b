package fsm

import (
	"strings"
	"testing"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func TestAPausedJobKeepsItsPlaceAndItsTime(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	before := w.job(1)
	w.refused(pauseJob(1, org2, before.Index), protocol.CodeJobNotFound)
	w.refused(pauseJob(1, org1, before.Index+1), protocol.CodeConflict)
	w.ok(pauseJob(1, org1, before.Index))
	w.again(pauseJob(1, org1, before.Index))
	w.refused(lease(1, 0, 1, 1), protocol.CodeConflict)
	if n := w.store.View().Queued(org1); n != 1 {
		t.Errorf("%d jobs count against the queue's limit", n)
	}
	w.refused(resumeJob(1, org1, before.Index), protocol.CodeConflict)
	w.ok(resumeJob(1, org1, w.job(1).Index))
	w.again(resumeJob(1, org1, before.Index))
	if j := w.job(1); j.Seq != before.Seq || j.Status != protocol.StatusQueued || j.CreatedMs != before.CreatedMs {
		t.Errorf("the job is %+v, was %+v", j, before)
	}
	w.ok(pauseJob(1, org1, w.job(1).Index))
	w.clock = before.ExpiresAtMs()
	w.ok(expire(1))
	w.refused(resumeJob(1, org1, w.job(1).Index), protocol.CodeConflict)
}

// TestNobodyGoesOnWithAPausedRun: an agent that was away with the run must not
// continue what was held meanwhile.
func TestNobodyGoesOnWithAPausedRun(t *testing.T) {
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	w.ok(release(1, 1, 1, 1, command.Release_LOST))
	w.ok(pauseJob(1, org1, w.job(1).Index))
	w.refused(adopt(1, 1, 1, 1), protocol.CodeConflict)
	w.ok(resumeJob(1, org1, w.job(1).Index))
	w.refused(adopt(1, 1, 1, 1), protocol.CodeConflict)
}

func TestACheckpointLivesAsLongAsItsRun(t *testing.T) {
	kept := func(w *world) string {
		if x := w.job(1).Extra; x != nil {
			return string(x.Checkpoint.Inline)
		}
		return ""
	}
	w := ready(t)
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	stop := finish(1, 1, 1, 1, protocol.OutcomePaused, checkpointed(`{"step":3}`))
	w.ok(stop)
	w.again(stop)
	if j := w.job(1); j.Status != protocol.StatusPaused || j.Failures != 0 || kept(w) != `{"step":3}` {
		t.Fatalf("the job is %+v with checkpoint %s", j, kept(w))
	}
	w.ok(resumeJob(1, org1, w.job(1).Index))
	w.ok(lease(1, 1, 2, 1))
	w.ok(finish(1, 2, 2, 1, protocol.OutcomePaused)) // before its handler began
	w.ok(resumeJob(1, org1, w.job(1).Index))
	w.ok(lease(1, 2, 2, 1))
	w.ok(finish(1, 3, 2, 1, protocol.OutcomeFailed, retryable))
	if kept(w) != `{"step":3}` {
		t.Errorf("a retry has the checkpoint %q", kept(w))
	}
	w.ok(cancel(1, org1))
	if kept(w) != "" {
		t.Errorf("an ended job keeps the checkpoint %q", kept(w))
	}
}

func TestPausingAnEndpointIsNoRevision(t *testing.T) {
	const doc = `{"runtime":{"kind":"builtin"}}`
	w := ready(t)
	w.ok(setFeature(command.FeatureAPI))
	before := w.store.View().Endpoint(org1, ep1)
	w.refused(pauseEndpoint(org1, "ep_none", true), protocol.CodeEndpointNotFound)
	w.ok(pauseEndpoint(org1, ep1, true))
	w.again(pauseEndpoint(org1, ep1, true))
	w.again(putEndpoint(org1, ep1, doc)) // says nothing of the pause
	e := w.store.View().Endpoint(org1, ep1)
	if !e.Doc.Paused || e.Revision != before.Revision || before.Doc.Paused {
		t.Errorf("endpoint is %+v (paused %t), was %+v", e, e.Doc.Paused, before)
	}
	w.ok(submit(1)) // submits are still taken
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"command"}}`))
	if e := w.store.View().Endpoint(org1, ep1); !e.Doc.Paused || e.Revision == before.Revision {
		t.Errorf("a new revision is %+v, paused %t", e, e.Doc.Paused)
	}
	w.ok(pauseEndpoint(org1, ep1, false))
}

// TestPurgeTouchesExactlyWhatWaits is I15 for one piece of a purge.
func TestPurgeTouchesExactlyWhatWaits(t *testing.T) {
	w := ready(t)
	for n := 1; n <= 7; n++ {
		w.ok(submit(n, withKey(string(rune('a'+n)), 1)))
	}
	w.ok(submit(8, func(s *command.Submit) { s.Org, s.Endpoint = org2, ep2 }))
	w.ok(lease(2, 0, 1, 1))
	w.ok(pauseJob(3, org1, w.job(3).Index))
	w.ok(cancel(4, org1))
	w.ok(lease(5, 0, 1, 1))
	w.ok(finish(5, 1, 1, 1, protocol.OutcomeCompleted))
	before := w.store.View()
	p := purge("prg_a", org1, ep1, 1, 2, 3, 4, 5, 6, 8, 9)
	if r := w.ok(p); r.Count != 2 || r.Replayed {
		t.Errorf("answered %+v", r)
	}
	if r := w.again(p); r.Count != 2 {
		t.Errorf("a repetition counts %d", r.Count)
	}
	for n, purged := range map[int]bool{1: true, 2: false, 3: false, 4: false, 5: false, 6: true, 7: false, 8: false} {
		j, was := w.job(n), before.Job(job(n))
		if now := j != was; now != purged {
			t.Errorf("job %d changed: %t, want %t", n, now, purged)
		}
		if purged && (j.Status != protocol.StatusCancelled || !strings.Contains(string(j.Outcome.ErrDetails), "prg_a")) {
			t.Errorf("job %d is %+v", n, j)
		}
	}
	if r := w.again(purge("prg_b", org1, ep1, 1, 6)); r.Count != 0 {
		t.Errorf("another purge counts the same jobs: %+v", r)
	}
	if again, recount := w.store.View().Bytes(), bytesOf(w.store.View()); again != recount {
		t.Errorf("the state counts %d bytes, its rows have %d", again, recount)
	}
}

// bytesOf adds up the rows.
func bytesOf(v *state.View) (n int64) {
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool { n += j.Size(); return true })
	v.Keys(func(k *state.Key) bool { n += k.Size(); return true })
	for _, e := range v.Endpoints("") {
		n += e.Size()
	}
	for _, a := range v.Agents() {
		n += a.Size()
	}
	return n
}

func TestEndsAreCountedFromTheirLevelOn(t *testing.T) {
	counts := func(w *world) [3]uint64 {
		e := w.store.View().Endpoint(org1, ep1)
		return [3]uint64{e.Completed, e.Failed, e.Retried}
	}
	if command.FeatureAPI != state.CountedFrom {
		t.Errorf("level %d is counted from %d on", command.FeatureAPI, state.CountedFrom)
	}
	w := ready(t)
	run := func(n int, outcome protocol.Outcome, change ...func(*command.Finish)) {
		w.ok(submit(n))
		w.ok(lease(n, 0, 1, 1))
		w.ok(finish(n, 1, 1, 1, outcome, change...))
	}
	run(1, protocol.OutcomeCompleted)
	if got := counts(w); got != [3]uint64{} {
		t.Errorf("a cluster of older coordinators counts %v", got)
	}
	w.ok(setFeature(command.FeatureAPI))
	run(2, protocol.OutcomeCompleted)
	run(3, protocol.OutcomeFailed)
	run(4, protocol.OutcomeFailed, retryable)
	run(5, protocol.OutcomeTimeout)
	run(6, protocol.OutcomeCancelled)
	w.ok(reopen(2, org1, 1))
	w.ok(lease(2, 1, 1, 1))
	w.ok(release(2, 2, 1, 1, command.Release_LOST))
	w.ok(lease(2, 2, 1, 1))
	w.ok(release(2, 3, 1, 1, command.Release_REJECTED))
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"command"}}`))
	w.ok(evict(3))
	if got, want := counts(w), [3]uint64{1, 2, 3}; got != want {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// TestThePiecesOfAPurgeAreSmall counts the rows that one piece touches: a purge of
// a full queue never keeps the state machine longer than MaxPurge rows, and
// submits take their turn between its pieces.
func TestThePiecesOfAPurgeAreSmall(t *testing.T) {
	const jobs = 10_000
	w := ready(t)
	var cmds []*command.Command
	for n := range jobs {
		cmds = append(cmds, submit(n+1))
	}
	w.do(cmds...)
	cut := w.store.View()
	removed, pieces := int64(0), 0
	for first := 1; first <= jobs; first += command.MaxPurge {
		var list []int
		for n := first; n < first+command.MaxPurge && n <= jobs; n++ {
			list = append(list, n)
		}
		before := w.store.View()
		r := w.ok(purge("prg_a", org1, ep1, list...))
		touched := 0
		after := w.store.View()
		after.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
			if before.Job(j.ID) != j {
				touched++
			}
			return true
		})
		if int64(touched) != r.Count || touched > command.MaxPurge {
			t.Fatalf("a piece of %d jobs touched %d rows and counted %d", len(list), touched, r.Count)
		}
		removed, pieces = removed+r.Count, pieces+1
		w.ok(submit(jobs + pieces))
	}
	if removed != jobs || pieces != (jobs+command.MaxPurge-1)/command.MaxPurge {
		t.Errorf("%d jobs were removed in %d pieces", removed, pieces)
	}
	if n := w.store.View().Queued(org1); n != pieces || cut.Queued(org1) != jobs {
		t.Errorf("%d jobs wait after it, want the %d that came meanwhile", n, pieces)
	}
}

// BenchmarkPurge is the cost of one purged row.
func BenchmarkPurge(b *testing.B) {
	w := ready(b)
	next := 1
	for range b.N {
		b.StopTimer()
		var cmds []*command.Command
		var list []int
		for range command.MaxPurge {
			cmds, list = append(cmds, submit(next)), append(list, next)
			next++
		}
		w.do(cmds...)
		b.StartTimer()
		w.ok(purge("prg_a", org1, ep1, list...))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*command.MaxPurge), "ns/job")
}
