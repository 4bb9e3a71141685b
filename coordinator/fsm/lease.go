package fsm

import (
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// reasonAdopted is the reason of a lease that a returned agent was given.
const reasonAdopted = "adopted: the agent still had the run"

func (s *step) lease(c *command.Lease) command.Result {
	agent, incarnation := protocol.AgentID(c.GetAgent()), protocol.Incarnation(c.GetIncarnation())
	if r, ok := s.live(agent, incarnation); !ok {
		return r
	}
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil:
		return refuse(protocol.CodeConflict, "The job does not exist")
	case holds(j, c.GetExpectAttempt()+1, agent, incarnation):
		return command.Result{Attempt: j.Attempt, Replayed: true}
	case j.Status != protocol.StatusQueued || j.Attempt != c.GetExpectAttempt():
		return refuse(protocol.CodeConflict, "The job does not wait with that attempt")
	}
	return s.grant(j, state.Lease{
		Agent: agent, Incarnation: incarnation, GrantedMs: s.clock,
		Revision: c.GetRevision(), Reason: c.GetReason(),
	})
}

// adopt continues a released run under a new attempt. It counts nowhere, and a
// loss that was counted stays counted.
func (s *step) adopt(c *command.Adopt) command.Result {
	agent, incarnation := protocol.AgentID(c.GetAgent()), protocol.Incarnation(c.GetIncarnation())
	if r, ok := s.live(agent, incarnation); !ok {
		return r
	}
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil:
		return refuse(protocol.CodeConflict, "The job does not exist")
	case holds(j, c.GetFromAttempt()+1, agent, incarnation):
		return command.Result{Attempt: j.Attempt, Replayed: true}
	case j.Status != protocol.StatusQueued || j.Attempt != c.GetFromAttempt() || !j.Adoptable:
		return refuse(protocol.CodeConflict, "The run cannot be continued")
	}
	return s.grant(j, state.Lease{
		Agent: agent, Incarnation: incarnation, GrantedMs: s.clock,
		Revision: s.txn.Endpoint(j.Org, j.Target).Revision, Reason: reasonAdopted,
	})
}

func (s *step) grant(j *state.Job, lease state.Lease) command.Result {
	n := s.copyOf(j)
	n.Attempt++
	n.Status = protocol.StatusInitializing
	n.NotBeforeMs = 0
	n.Adoptable = false
	n.Lease = &lease
	s.txn.PutJob(n)
	return command.Result{Attempt: n.Attempt}
}

// holds is the fence of every agent write.
func holds(j *state.Job, attempt uint32, agent protocol.AgentID, incarnation protocol.Incarnation) bool {
	return j != nil && j.Lease != nil && j.Attempt == attempt && j.Lease.Agent == agent && j.Lease.Incarnation == incarnation
}

func (s *step) release(c *command.Release) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	agent := protocol.AgentID(c.GetAgent())
	if !holds(j, c.GetAttempt(), agent, protocol.Incarnation(c.GetIncarnation())) {
		if released(j, c.GetAttempt()) {
			return replayed()
		}
		return stale()
	}
	n := s.copyOf(j)
	s.giveBack(n, c.GetReason() == command.Release_LOST)
	if n.Live() {
		n.NotBeforeMs = c.GetNotBeforeMs()
	}
	s.txn.PutJob(n)
	return command.Result{}
}

// released says whether that attempt, which one lease had, was given back.
func released(j *state.Job, attempt uint32) bool {
	if j == nil || j.Attempt != attempt {
		return false
	}
	lost := j.Outcome != nil && j.Outcome.Attempt == attempt && j.Outcome.ErrCode == protocol.CodeAgentLost && !j.Outcome.Reported
	return j.Adoptable || j.Status == protocol.StatusFailed && lost
}

// giveBack takes the lease from a changed row: back to its place in the queue,
// or failed when the job was lost too often.
func (s *step) giveBack(n *state.Job, lost bool) {
	lease := n.Lease
	n.Lease = nil
	if lost {
		n.Losses++
	}
	if !lost || n.Losses <= n.MaxLosses {
		n.Status = protocol.StatusQueued
		n.Adoptable = true
		return
	}
	n.Status = protocol.StatusFailed
	n.Outcome = &state.Outcome{
		Attempt: n.Attempt, GrantedMs: lease.GrantedMs, EndedMs: s.clock,
		ErrCode: protocol.CodeAgentLost, ErrMessage: "The agents that ran this job were lost too often",
		Agent: lease.Agent, Revision: lease.Revision,
	}
	s.conclude(n)
}

func stale() command.Result {
	return refuse(protocol.CodeStaleAttempt, "The attempt is not this agent's any more")
}
