package fsm

import (
	"cmp"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (s *step) finish(c *command.Finish) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	agent := protocol.AgentID(c.GetAgent())
	if !holds(j, c.GetAttempt(), agent, protocol.Incarnation(c.GetIncarnation())) {
		if reported(j, c.GetAttempt(), agent) {
			return replayed()
		}
		return stale()
	}
	n := s.copyOf(j)
	n.Lease = nil
	n.Outcome = s.outcome(c, j.Lease)
	s.bill(n)
	outcome := protocol.Outcome(c.GetOutcome())
	if !s.keepOutputs(n, j.Outcome, outcome) {
		outcome = protocol.OutcomeFailed
	}
	retry := s.settle(n, outcome)
	switch {
	case retry:
		n.Status = protocol.StatusQueued
		n.NotBeforeMs = c.GetNotBeforeMs()
	case n.Status == protocol.StatusPaused:
		keepCheckpoint(n, c.GetCheckpoint())
	default:
		s.conclude(n)
	}
	s.txn.PutJob(n)
	return command.Result{}
}

// bill adds what the attempt cost that just ended with n.Outcome. Whether it
// succeeded makes no difference: it had the machine.
func (s *step) bill(n *state.Job) {
	o := n.Outcome
	if s.txn.Feature() < command.FeatureAPI || o.StartedMs == 0 || o.Revision == 0 {
		return
	}
	if e := s.txn.Endpoint(n.Org, n.Target); e != nil {
		cost := e.At(o.Revision).Cost(o.EndedMs - o.StartedMs)
		n.Cost = n.Cost.Plus(cost)
		s.charge(n.Org, cost)
	}
}

// settle sets the status that the outcome leads to; it returns true, and sets
// none, when the job gets another attempt.
func (s *step) settle(n *state.Job, outcome protocol.Outcome) (retry bool) {
	switch outcome {
	case protocol.OutcomeCompleted:
		n.Status = protocol.StatusCompleted
		return false
	case protocol.OutcomeCancelled:
		n.Status = protocol.StatusCancelled
		n.Outcome.ErrCode = cmp.Or(n.Outcome.ErrCode, protocol.CodeCancelled)
		return false
	case protocol.OutcomePaused:
		n.Status = protocol.StatusPaused
		return false
	case protocol.OutcomeTimeout:
		n.Status = protocol.StatusTimeout
		n.Outcome.ErrCode = protocol.CodeExecutionTimeout
		n.Outcome.Retryable = n.RetryTimeout
	default:
		n.Status = protocol.StatusFailed
	}
	n.Failures++
	return n.Outcome.Retryable && n.Failures < n.MaxAttempts
}

// keepCheckpoint stores where the next attempt goes on. An attempt that was paused
// before its handler began has none, and the one before stays.
func keepCheckpoint(n *state.Job, p *command.Payload) {
	if p == nil {
		return
	}
	extra := state.Extra{}
	if n.Extra != nil {
		extra = *n.Extra
	}
	extra.Checkpoint = payload(p)
	n.Extra = &extra
}

// reported says whether this agent's result of the newest attempt was applied.
func reported(j *state.Job, attempt uint32, agent protocol.AgentID) bool {
	return j != nil && j.Attempt == attempt && j.Outcome != nil && j.Outcome.Reported &&
		j.Outcome.Attempt == attempt && j.Outcome.Agent == agent
}

func (s *step) outcome(c *command.Finish, lease *state.Lease) *state.Outcome {
	o := &state.Outcome{
		Attempt:    c.GetAttempt(),
		GrantedMs:  lease.GrantedMs,
		StartedMs:  c.GetStartedMs(),
		EndedMs:    c.GetEndedMs(),
		Output:     payload(c.GetOutput()),
		ErrCode:    protocol.Code(c.GetErrorCode()),
		ErrMessage: c.GetErrorMessage(),
		ErrDetails: c.GetErrorDetails(),
		Retryable:  c.GetRetryable(),
		Partial:    c.GetPartial(),
		Facts:      c.GetFacts(),
		Logs:       payload(c.GetLogs()),
		Chunks:     payload(c.GetChunks()),
		Agent:      lease.Agent,
		Revision:   lease.Revision,
		Reported:   true,
	}
	for _, f := range c.GetFiles() {
		o.Files = append(o.Files, state.File{Name: f.GetName(), Blob: state.Blob{SHA256: [32]byte(f.GetSha256()), Size: f.GetSize()}})
	}
	if o.EndedMs == 0 {
		o.EndedMs = s.clock
	}
	return o
}
