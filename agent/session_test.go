package agent_test

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent"
	"windlass/agent/agenttest"
	"windlass/protocol"
)

// inBubble runs an agent under virtual time against an endpoint whose command is
// not allowed: an assignment that was taken shows as a rejection, one that was
// discarded shows as nothing.
func inBubble(t *testing.T, test func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID)) {
	synctest.Test(t, func(t *testing.T) {
		c := agenttest.New()
		c.PutEndpoint(protocol.Endpoint{ID: "ep_x", Revision: 1, Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{"/bin/false"}}})
		a, err := agent.New(config(t.TempDir()), deps(c, zerolog.Nop()))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		<-a.Started()
		test(t, c, func() protocol.JobID { return c.Submit("ep_x", `{}`) })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func rejected(t *testing.T, c *agenttest.Coordinator, id protocol.JobID) agenttest.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	j, err := c.Await(ctx, id, func(j agenttest.Job) bool { return len(j.Rejects) > 0 })
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestLateAssignmentIsDiscarded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		late := true
		c.SetFault(func(call string) agenttest.Fault {
			if call == "sync" && late {
				late = false
				return agenttest.Fault{DelayReply: protocol.AckDeadline + time.Second}
			}
			return agenttest.Fault{}
		})
		c.Forget() // the next sync is the first with faults
		id := submit()
		j := rejected(t, c, id)
		if j.Attempt != 2 {
			t.Errorf("taken at attempt %d; the first came too late and the second is the one to take", j.Attempt)
		}
	})
}

func TestTimelyAssignmentAfterALongParkIsTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		pass(protocol.SyncHold - time.Second)
		if j := rejected(t, c, submit()); j.Attempt != 1 {
			t.Errorf("taken at attempt %d, want 1", j.Attempt)
		}
	})
}

func TestAnswerToAnOlderSyncIsDiscarded(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		first := true
		c.SetMangle(func(r *protocol.SyncResponse) {
			if first && len(r.Assign) > 0 {
				first = false
				r.Seq--
			}
		})
		if j := rejected(t, c, submit()); j.Attempt != 2 {
			t.Errorf("taken at attempt %d; the first answered an older sync", j.Attempt)
		}
	})
}

func TestUnknownAgentRegistersAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		pass(time.Second)
		c.Forget()
		rejected(t, c, submit())
		regs := c.Registers()
		if len(regs) != 2 || regs[0].Agent != regs[1].Agent || regs[0].Incarnation == regs[1].Incarnation {
			t.Errorf("registrations %+v", regs)
		}
	})
}

func TestUnreachableCoordinatorIsAskedSparingly(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		pass(time.Second)
		var calls atomic.Int64
		c.SetFault(func(string) agenttest.Fault {
			calls.Add(1)
			return agenttest.Fault{LoseRequest: true}
		})
		pass(10 * time.Minute)
		if n := calls.Load(); n < 20 || n > 400 {
			t.Errorf("%d calls in ten minutes without a coordinator", n)
		}
		c.SetFault(nil)
		rejected(t, c, submit())
	})
}

func TestIdleAgentParksOneSyncAtATime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, _ func() protocol.JobID) {
		pass(5 * time.Minute)
		if n := c.Syncs(); n < 9 || n > 11 {
			t.Errorf("%d syncs in five idle minutes, want one each 30 s", n)
		}
	})
}

// TestASilentCoordinatorIsGivenUpInTime: a leader that was stopped keeps its
// connections and answers nothing. Its successor gives every lease one term, in
// which the agent must have found it.
func TestASilentCoordinatorIsGivenUpInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, _ func() protocol.JobID) {
		var silent atomic.Bool
		silent.Store(true)
		var lost, again atomic.Int64
		c.SetFault(func(call string) agenttest.Fault {
			switch {
			case call != "report":
			case silent.CompareAndSwap(true, false):
				lost.Store(time.Now().UnixMilli())
				return agenttest.Fault{DelayReply: time.Hour}
			default:
				again.CompareAndSwap(0, time.Now().UnixMilli())
			}
			return agenttest.Fault{}
		})
		pass(2 * time.Minute)
		if gap := time.Duration(again.Load()-lost.Load()) * time.Millisecond; again.Load() == 0 || gap > protocol.LeaseTerm/2 {
			t.Errorf("the next report came %s after one that nobody answered; a lease lives %s", gap, protocol.LeaseTerm)
		}
	})
}
