package fsm

import (
	"fmt"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (s *step) expire(c *command.ExpireTTL) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil:
		return notFound()
	case j.Status == protocol.StatusTimeout && ended(j, protocol.CodeTTLExpired):
		return replayed()
	case !j.Waits() || j.ExpiresAtMs() == 0 || s.clock < j.ExpiresAtMs():
		return refuse(protocol.CodeConflict, "The job does not wait, or may wait longer")
	}
	n := s.copyOf(j)
	s.end(n, protocol.StatusTimeout, protocol.CodeTTLExpired, "The job waited longer than its ttl")
	s.txn.PutJob(n)
	return command.Result{}
}

func (s *step) cancel(c *command.Cancel) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil || j.Org != c.GetOrg():
		return notFound()
	case j.Status == protocol.StatusCancelled:
		return replayed()
	case !j.Live():
		return refuse(protocol.CodeConflict, "The job has ended: it is "+j.Status.String())
	}
	n := s.copyOf(j)
	ran := n.Lease != nil && n.Attempt == c.GetAttempt()
	s.end(n, protocol.StatusCancelled, protocol.CodeCancelled, "The job was cancelled")
	if ran {
		n.Outcome.StartedMs, n.Outcome.Facts = c.GetStartedMs(), c.GetFacts()
		s.bill(n)
	}
	s.txn.PutJob(n)
	return command.Result{}
}

// end ends a changed row without a result of its own; the caller puts it.
func (s *step) end(n *state.Job, status protocol.Status, code protocol.Code, message string) {
	o := &state.Outcome{Attempt: n.Attempt, EndedMs: s.clock, ErrCode: code, ErrMessage: message}
	if n.Lease != nil {
		o.GrantedMs, o.Agent, o.Revision = n.Lease.GrantedMs, n.Lease.Agent, n.Lease.Revision
	}
	n.Status, n.Outcome = status, o
	n.Lease, n.NotBeforeMs, n.Adoptable = nil, 0, false
	s.conclude(n)
}

// conclude does what the end of a changed row's run, or the beginning of its next
// one, has for consequences beside the row's own state.
func (s *step) conclude(n *state.Job) {
	s.holdKey(n)
	if !n.Live() {
		s.unreserve(n)
	}
	s.oweWebhook(n)
	if n.Extra != nil && (n.Extra.Checkpoint.Inline != nil || n.Extra.Checkpoint.Ref != nil) {
		extra := *n.Extra
		extra.Checkpoint = state.Payload{}
		n.Extra = &extra
	}
}

// ended says whether the job was ended by a command that is no agent's.
func ended(j *state.Job, code protocol.Code) bool {
	return j.Outcome != nil && !j.Outcome.Reported && j.Outcome.ErrCode == code
}

// reopen starts a new run at the end of the queue. The attempt goes on growing,
// and no agent can continue a run of before.
func (s *step) reopen(c *command.Reopen) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil || j.Org != c.GetOrg():
		return notFound()
	case j.Run == c.GetExpectRun()+1:
		return command.Result{Run: j.Run, Replayed: true}
	case j.Live() || j.Run != c.GetExpectRun():
		return refuse(protocol.CodeConflict, "The job has not ended, or runs again already")
	}
	e := s.txn.Endpoint(j.Org, j.Target)
	if e == nil {
		return refuse(protocol.CodeEndpointNotFound, "The endpoint does not exist any more")
	}
	if r, full := s.queueFull(e, 0); full {
		return r
	}
	if r := s.affordable(j.Org, c.GetReserve()); r.Code != "" {
		return r
	}
	n := s.copyOf(j)
	n.Reserved = s.reserve(j.Org, c.GetReserve())
	n.Status, n.Outcome = protocol.StatusQueued, nil
	n.Run++
	n.Failures, n.Losses = 0, 0
	n.Seq = s.txn.NextSeq()
	extra := state.Extra{}
	if j.Extra != nil {
		extra = *j.Extra
	}
	extra.ReopenedMs = s.clock
	n.Extra = &extra
	s.conclude(n)
	s.txn.PutJob(n)
	return command.Result{Run: n.Run}
}

// keysPerEvict bounds the expired idempotency keys that one Evict drops beside
// one for each of its jobs, so that a long pause makes no long batch.
const keysPerEvict = 1024

// evict removes those of the jobs that have ended and whose webhook is not still
// to be delivered, and keys that are free.
func (s *step) evict(c *command.Evict) command.Result {
	var r command.Result
	for _, raw := range c.GetJobs() {
		id := protocol.JobID(raw)
		if j := s.txn.Job(id); j != nil && !j.Live() && !j.Owes() {
			s.remove(j)
			s.txn.DropStored(j)
			r.Count++
		}
	}
	dropped := s.txn.DropExpiredKeys(s.clock, len(c.GetJobs())+keysPerEvict)
	r.Replayed = r.Count == 0 && dropped == 0
	return r
}

func (s *step) putSettings(c *command.PutSettings) command.Result {
	settings := s.txn.Settings()
	if c.GetMaxBytes() == 0 || c.GetMaxBytes() == settings.MaxBytes {
		return replayed()
	}
	settings.MaxBytes = c.GetMaxBytes()
	s.txn.SetSettings(settings)
	return command.Result{}
}

// setFeature raises the level. Above what this version supports, going on would
// end at the first entry that it does not know: it stops here, with a remedy.
func (s *step) setFeature(c *command.SetFeature) command.Result {
	level := c.GetLevel()
	if err := command.SupportsFeature(level); err != nil {
		panic(fmt.Errorf("cannot apply log %d: %w (%w)", s.index, err, command.ErrUnknown))
	}
	if level <= max(s.txn.Feature(), command.FeatureBase) {
		return replayed()
	}
	s.txn.SetFeature(level)
	return command.Result{}
}

func notFound() command.Result { return refuse(protocol.CodeJobNotFound, "The job does not exist") }
