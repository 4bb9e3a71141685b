package agent_test

import (
	"testing"
	"time"

	"windlass/agent/agenttest"
	"windlass/protocol"
)

// carried is inBubble with a coordinator that assigns by answers to reports alone,
// except what such an answer did not bring.
func carried(t *testing.T, test func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID)) {
	inBubble(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		c.AssignByReport()
		pass(time.Second)
		test(t, c, submit)
	})
}

// onceOn makes one fault of the next call of a kind.
func onceOn(c *agenttest.Coordinator, kind string, f agenttest.Fault) {
	done := false
	c.SetFault(func(call string) agenttest.Fault {
		if call != kind || done {
			return agenttest.Fault{}
		}
		done = true
		return f
	})
}

func TestAnswerToAReportAssigns(t *testing.T) {
	carried(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		syncs, began := c.Syncs(), time.Now()
		if j := rejected(t, c, submit()); j.Attempt != 1 || j.Lost != 0 {
			t.Errorf("taken at attempt %d, %d assignments lost; want the first", j.Attempt, j.Lost)
		}
		if took := time.Since(began); took > protocol.BeatPeriod {
			t.Errorf("given back %s after the submit: the beat is %s, and what is given back renews the sync at once", took, protocol.BeatPeriod)
		}
		if n := c.Syncs() - syncs; n != 1 {
			t.Errorf("%d syncs, want the one that gives it back", n)
		}
	})
}

// TestLostAnswerToAReportIsAssignedAgain: the next report does not have the job, so
// the agent is asked for a sync, and that brings it.
func TestLostAnswerToAReportIsAssignedAgain(t *testing.T) {
	carried(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		onceOn(c, "report", agenttest.Fault{LoseReply: true})
		if j := rejected(t, c, submit()); j.Attempt != 2 || j.Lost != 1 {
			t.Errorf("taken at attempt %d, %d assignments lost; want 2 and 1", j.Attempt, j.Lost)
		}
	})
}

func TestAnswerToARepeatedReportAssignsOnce(t *testing.T) {
	carried(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		// The first of the two answers assigns and is the one that is lost.
		onceOn(c, "report", agenttest.Fault{Twice: true})
		if j := rejected(t, c, submit()); j.Attempt != 2 || len(j.Rejects) != 1 {
			t.Errorf("taken at attempt %d, given back %d times; want 2 and once", j.Attempt, len(j.Rejects))
		}
	})
}

// TestSyncSaysThatAReportIsUnderWay: a sync that is made while the answer to a report
// is on its way lacks what that assigns, and must not be understood as its loss.
func TestSyncSaysThatAReportIsUnderWay(t *testing.T) {
	carried(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		id, seen := submit(), 0
		c.SetFault(func(call string) agenttest.Fault {
			switch {
			case call == "sync":
				seen++
			case call == "report" && seen == 0:
				return agenttest.Fault{DelayReply: protocol.CallLimit - time.Second}
			}
			return agenttest.Fault{}
		})
		pass(protocol.BeatPeriod) // the report is sent, and assigns
		c.EndHold()
		if j := rejected(t, c, id); j.Attempt != 1 || j.Lost != 0 {
			t.Errorf("taken at attempt %d, %d assignments lost; want the first", j.Attempt, j.Lost)
		}
	})
}

// TestAnswerToAReportOfAnEarlierLifeIsDiscarded: the registration meanwhile gave the
// job back, and somebody else may have it.
func TestAnswerToAReportOfAnEarlierLifeIsDiscarded(t *testing.T) {
	carried(t, func(t *testing.T, c *agenttest.Coordinator, submit func() protocol.JobID) {
		onceOn(c, "report", agenttest.Fault{DelayReply: protocol.CallLimit - time.Second})
		id := submit()
		pass(protocol.BeatPeriod)
		c.Forget()
		rejected(t, c, id)
		pass(time.Minute)
		if j := c.Job(id); j.Attempt != 2 || j.Refused != 0 {
			t.Errorf("taken at attempt %d, and %d attempts that were not the agent's any more; want 2 and none", j.Attempt, j.Refused)
		}
		if n := len(c.Registers()); n != 2 {
			t.Errorf("%d registrations, want 2", n)
		}
	})
}
