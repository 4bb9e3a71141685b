package fsm

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// priced is a world at the feature level of costs whose endpoint asks 0.001 for
// each of two GPUs and second.
func priced(t testing.TB) *world {
	w := ready(t)
	w.ok(setFeature(command.FeatureAPI))
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"builtin"},"resources":{"gpus":2},"price":{"gpuSecond":0.001}}`))
	return w
}

func ran(fromMs, toMs int64) func(*command.Finish) {
	return func(f *command.Finish) { f.StartedMs, f.EndedMs = fromMs, toMs }
}

func leaseAt(n int, expect uint32, revision uint64) *command.Command {
	c := lease(n, expect, 1, 1)
	c.GetLease().Revision = revision
	return c
}

func (w *world) costs(n int, want protocol.Money) {
	w.t.Helper()
	if got := w.job(n).Cost; got != want {
		w.t.Fatalf("job %d costs %s, want %s", n, got, want)
	}
}

// TestCostIsTheAcceptedAttempts is I22: what was accepted is billed, failed or
// not; what was lost or comes too late is not.
func TestCostIsTheAcceptedAttempts(t *testing.T) {
	w := priced(t)
	w.ok(submit(1))
	w.ok(leaseAt(1, 0, 2))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeFailed, retryable, ran(1_000, 3_500)))
	w.costs(1, 5_000_000) // 2.5 s on two GPUs
	w.ok(leaseAt(1, 1, 2))
	w.ok(release(1, 2, 1, 1, command.Release_LOST))
	w.costs(1, 5_000_000)
	w.ok(leaseAt(1, 2, 2))
	w.refused(finish(1, 2, 1, 1, protocol.OutcomeCompleted, ran(1_000, 9_000)), protocol.CodeStaleAttempt)
	w.costs(1, 5_000_000)
	// The price is that of the revision that ran, not the newest one.
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"builtin"},"price":{"gpuSecond":7}}`))
	w.ok(finish(1, 3, 1, 1, protocol.OutcomeCompleted, ran(10_000, 11_000)))
	w.costs(1, 7_000_000)
	w.again(finish(1, 3, 1, 1, protocol.OutcomeCompleted, ran(10_000, 11_000)))
	// A new run adds to what the job cost; a job without GPUs counts as one.
	w.ok(reopen(1, org1, 1))
	w.ok(leaseAt(1, 3, 3))
	w.ok(finish(1, 4, 1, 1, protocol.OutcomeCompleted, ran(20_000, 20_500)))
	w.costs(1, 3_507_000_000)
	r, err := restored(t, w.persist())
	if err != nil {
		t.Fatal(err)
	}
	r.costs(1, 3_507_000_000)
	if r.store.View().Digest() != w.store.View().Digest() {
		t.Error("the restored state differs")
	}
}

func TestCancelledRunIsBilled(t *testing.T) {
	w := priced(t)
	with := func(n int, attempt uint32) *command.Command {
		c := cancel(n, org1)
		c.GetCancel().Attempt, c.GetCancel().StartedMs, c.GetCancel().Facts = attempt, w.clock-2_000, []byte(`{}`)
		return c
	}
	for n := 1; n <= 3; n++ {
		w.ok(submit(n))
	}
	for n := 1; n <= 2; n++ {
		w.ok(leaseAt(n, 0, 2))
	}
	w.ok(with(1, 1))
	if o := w.job(1).Outcome; o.StartedMs != w.clock-2_000 || string(o.Facts) != "{}" {
		t.Errorf("the outcome is %+v", o)
	}
	w.costs(1, 4_000_000)
	w.again(with(1, 1))
	w.ok(with(2, 9)) // knew of another attempt
	w.costs(2, 0)
	w.ok(with(3, 0)) // waited
	w.costs(3, 0)
	if o := w.job(3).Outcome; o.StartedMs != 0 {
		t.Errorf("a job that waited started at %d", o.StartedMs)
	}
}

// TestNothingIsBilledBelowTheLevel: a version before would not have done so, and
// the nodes must agree.
func TestNothingIsBilledBelowTheLevel(t *testing.T) {
	w := ready(t)
	w.ok(setFeature(command.FeatureArchive))
	w.ok(putEndpoint(org1, ep1, `{"runtime":{"kind":"builtin"},"price":{"gpuSecond":1}}`))
	w.ok(submit(1))
	w.ok(leaseAt(1, 0, 2))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, ran(1_000, 2_000)))
	w.costs(1, 0)
}
