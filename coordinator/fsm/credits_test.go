package fsm

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func grantTo(org string, n int, amount int64) *command.Command {
	id := job(n)
	return &command.Command{Op: &command.Command_GrantCredits{GrantCredits: &command.GrantCredits{Org: org, Id: id[:], Amount: amount}}}
}

func reserving(n int, amount int64) *command.Command {
	c := submit(n)
	c.GetSubmit().Reserve = amount
	return c
}

// paying is a priced world whose organisation pays with credits.
func paying(t testing.TB, balance int64) *world {
	w := priced(t)
	w.ok(putOrg(org1, func(p *command.PutOrg) { p.Credits, p.Create = true, w.store.View().Org(org1) == nil }))
	if balance != 0 {
		w.ok(grantTo(org1, 900, balance))
	}
	return w
}

// has checks the credits of the organisation.
func (w *world) has(balance, reserved int64) {
	w.t.Helper()
	c := w.store.View().Org(org1).Credits
	if c.Balance != balance || c.Reserved != reserved {
		w.t.Fatalf("balance %d, reserved %d; want %d and %d", c.Balance, c.Reserved, balance, reserved)
	}
}

// TestCreditsReserveAndSettle: a submit keeps its estimate back, the end takes
// what it cost and frees the rest, however the job ends.
func TestCreditsReserveAndSettle(t *testing.T) {
	w := paying(t, 100_000_000)
	w.ok(reserving(1, 60_000_000))
	w.has(100_000_000, 60_000_000)
	w.again(reserving(1, 60_000_000))
	r := w.refused(reserving(2, 50_000_000), protocol.CodeCredits)
	if r.Count != 40_000_000 {
		t.Errorf("the refusal says that %d are free", r.Count)
	}
	w.ok(leaseAt(1, 0, 2))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeFailed, retryable, ran(1_000, 6_000))) // 5 s on two GPUs at 0.001
	w.has(90_000_000, 60_000_000)
	w.ok(leaseAt(1, 1, 2))
	w.ok(finish(1, 2, 1, 1, protocol.OutcomeCompleted, ran(10_000, 20_000)))
	w.has(70_000_000, 0)
	w.again(finish(1, 2, 1, 1, protocol.OutcomeCompleted, ran(10_000, 20_000)))
	w.has(70_000_000, 0)

	w.ok(reserving(3, 70_000_000))
	w.ok(cancel(3, org1))
	w.has(70_000_000, 0)
	reopened := reopen(3, org1, 1)
	reopened.GetReopen().Reserve = 70_000_001
	w.refused(reopened, protocol.CodeCredits)
	reopened.GetReopen().Reserve = 70_000_000
	w.ok(reopened)
	w.has(70_000_000, 70_000_000)

	restoredWorld, err := restored(t, w.persist())
	if err != nil {
		t.Fatal(err)
	}
	restoredWorld.has(70_000_000, 70_000_000)
	restoredWorld.again(grantTo(org1, 900, 100_000_000))
	if restoredWorld.store.View().Digest() != w.store.View().Digest() {
		t.Error("the restored state differs")
	}
}

// TestRunsMayCostMoreThanReserved: what ran is paid, and the next submit waits.
func TestRunsMayCostMoreThanReserved(t *testing.T) {
	w := paying(t, 10_000_000)
	w.ok(reserving(1, 10_000_000))
	w.ok(leaseAt(1, 0, 2))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, ran(0+1, 10_001)))
	w.has(-10_000_000, 0)
	w.refused(reserving(2, 1), protocol.CodeCredits)
	w.ok(grantTo(org1, 901, 10_000_001))
	w.ok(reserving(2, 1))
}

// TestGrantsHappenOnce: a proposer may repeat one without knowing.
func TestGrantsHappenOnce(t *testing.T) {
	w := paying(t, 0)
	w.ok(grantTo(org1, 1, 5))
	w.again(grantTo(org1, 1, 5))
	w.ok(grantTo(org1, 2, -2))
	w.has(3, 0)
	w.refused(grantTo("org_nobody", 3, 5), protocol.CodeOrgNotFound)
	w.refused(grantTo(org1, 3, int64(protocol.MaxMoney)), protocol.CodeConflict)
	for n := 10; n < 10+keptGrants; n++ {
		w.ok(grantTo(org1, n, 1))
	}
	if got := len(w.store.View().Org(org1).Credits.Grants); got != keptGrants {
		t.Errorf("%d grants are remembered", got)
	}
}

// TestNothingIsReservedWithoutCredits: an organisation that does not pay has no
// balance to keep anything of.
func TestNothingIsReservedWithoutCredits(t *testing.T) {
	w := priced(t)
	w.ok(reserving(1, 60_000_000))
	if j := w.job(1); j.Reserved != 0 {
		t.Errorf("%s are reserved", j.Reserved)
	}
	w.ok(leaseAt(1, 0, 2))
	w.ok(finish(1, 1, 1, 1, protocol.OutcomeCompleted, ran(1_000, 2_000)))
	w.has(0, 0)
}
