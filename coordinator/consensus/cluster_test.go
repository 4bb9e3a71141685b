package consensus

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// cluster is three nodes in one bubble, joined as an empty directory joins: a
// first one that formed the cluster, and two that wait to be added.
func cluster(t *testing.T) []*member {
	t.Helper()
	// The last node to close asks closed ones to take over; raft leaves that
	// request to its own timeout.
	t.Cleanup(func() { pass(2 * rpcTimeout) })
	slow := Timeouts{Heartbeat: clusterTimeout, Election: clusterTimeout}
	var all []*member
	for i := range 3 {
		cfg := Config{Memory: NewMemory(), Expect: 3, Timeouts: slow}
		if i == 0 {
			cfg.Expect = 1
		}
		all = append(all, start(t, cfg))
	}
	connect(all, true)
	all[0].lead(t)
	for _, m := range all[1:] {
		if err := all[0].raft.AddVoter(raft.ServerID(m.Identity().ServerID), m.trans.LocalAddr(), 0, 0).Error(); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func connect(all []*member, on bool) {
	for _, a := range all {
		for _, b := range all {
			if from := a.trans.(*raft.InmemTransport); a == b {
				continue
			} else if on {
				from.Connect(b.trans.LocalAddr(), b.trans)
			} else {
				from.Disconnect(b.trans.LocalAddr())
			}
		}
	}
}

func leader(t *testing.T, all []*member) *member {
	t.Helper()
	for range 100 {
		if i := slices.IndexFunc(all, func(m *member) bool { return m.IsLeader() }); i >= 0 {
			return all[i]
		}
		pass(clusterTimeout / 10)
	}
	t.Fatal("no leader in 10 s")
	return nil
}

func TestThreeNodesAgreeAndHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := cluster(t)
		first := leader(t, all)
		first.mustPut(t, 1, 2)
		if first.inFlight() != clusterInFlight {
			t.Errorf("%d entries in flight with three voters", first.inFlight())
		}
		began := time.Now()
		first.end(t) // hands leadership on instead of letting it time out
		rest := slices.DeleteFunc(slices.Clone(all), func(m *member) bool { return m == first })
		second := leader(t, rest)
		if waited := time.Since(began); waited >= clusterTimeout {
			t.Errorf("the hand-over took %s, an election", waited)
		}
		if err := second.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		second.mustPut(t, 3)
		if got := second.fsm.values(); !slices.Equal(got, []int64{1, 2, 3}) {
			t.Fatalf("second leader has %v", got)
		}
		if err := second.VerifyLeader(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestLostLeadershipIsAnUnknownOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all := cluster(t)
		old := leader(t, all)
		old.mustPut(t, 1)
		connect(all, false)
		answers := make(chan error, 1)
		old.Proposer().Enqueue([]*command.Command{put(2)}, func(_ []command.Result, err error) { answers <- err })
		wantOutcome(t, <-answers, protocol.CodeNoLeader, outcomeUnknown)
		old.Proposer().Enqueue([]*command.Command{put(3)}, func(_ []command.Result, err error) { answers <- err })
		wantOutcome(t, <-answers, protocol.CodeNoLeader, outcomeNone)
		if err := old.VerifyLeader(t.Context()); err == nil {
			t.Fatal("a leader without a quorum verified")
		}
		connect(all, true)
		now := leader(t, all)
		if err := now.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := now.fsm.values(); slices.Contains(got, 3) || got[0] != 1 {
			t.Fatalf("after the partition: %v", got)
		}
	})
}
