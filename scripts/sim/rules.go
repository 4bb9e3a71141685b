package main

import (
	"bytes"
	"slices"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// keyTerm is how long a key outlives its job (DESIGN 4).
const keyTerm = day

// command follows one command by what it was answered, and judges whether the
// answer was allowed.
func (c *checker) command(cmd *command.Command, r *command.Result) {
	done := r.Code == "" && !r.Replayed
	switch op := cmd.GetOp().(type) {
	case *command.Command_Submit:
		c.submit(op.Submit, r)
	case *command.Command_Lease:
		if done {
			c.grant(protocol.JobID(op.Lease.GetJob()), op.Lease.GetExpectAttempt(), op.Lease.GetAgent(), op.Lease.GetIncarnation(), r, false)
		}
	case *command.Command_Adopt:
		if done {
			c.grant(protocol.JobID(op.Adopt.GetJob()), op.Adopt.GetFromAttempt(), op.Adopt.GetAgent(), op.Adopt.GetIncarnation(), r, true)
		}
	case *command.Command_Finish:
		c.finish(op.Finish, r)
	case *command.Command_Release:
		if done {
			c.release(op.Release)
		}
	case *command.Command_ExpireTtl:
		if done {
			c.expire(protocol.JobID(op.ExpireTtl.GetJob()))
		}
	case *command.Command_Cancel:
		if done {
			s := c.must("I11", protocol.JobID(op.Cancel.GetJob()))
			c.terminal("I11", s)
			c.become(s, protocol.StatusCancelled)
		}
	case *command.Command_Reopen:
		if done {
			c.reopen(protocol.JobID(op.Reopen.GetJob()), r)
		}
	case *command.Command_Register:
		if r.Code == "" {
			c.register(op.Register, r)
		}
	case *command.Command_Evict:
		c.evict(op.Evict, r)
	}
}

// must returns a job that a command changed.
func (c *checker) must(promise string, id protocol.JobID) *shadow {
	s := c.jobs[id]
	if s == nil || s.evicted {
		c.fail(promise, "a command changed job %s, which does not exist", id)
	}
	return s
}

// terminal fails when a command changes a job that has ended.
func (c *checker) terminal(promise string, s *shadow) {
	if s.status.Terminal() {
		c.fail(promise, "a command changed job %s after it ended %s", s.id, s.status)
	}
}

// fenced fails when an agent's write is not that of the lease.
func (c *checker) fenced(s *shadow, attempt uint32, agent, inc []byte) {
	if s.status != protocol.StatusInitializing || s.attempt != attempt || s.agent != protocol.AgentID(agent) || s.inc != protocol.Incarnation(inc) {
		c.fail("I6", "a write behind attempt %d of job %s was taken, which is %s with attempt %d", attempt, s.id, s.status, s.attempt)
	}
}

// become changes a shadow's status and what is counted by it.
func (c *checker) become(s *shadow, status protocol.Status) {
	w := c.world
	if s.status == protocol.StatusQueued {
		c.queued[s.request.submit.GetOrg()]--
	}
	if s.status == protocol.StatusInitializing {
		list := c.holders[s.agent]
		i := slices.Index(list, s)
		c.holders[s.agent] = slices.Delete(list, i, i+1)
	}
	s.status, s.since = status, w.now
	s.adoptable = false
	if status != protocol.StatusInitializing {
		s.agent, s.inc = protocol.AgentID{}, protocol.Incarnation{}
	}
	if status == protocol.StatusQueued {
		c.queued[s.request.submit.GetOrg()]++
	}
	c.order.landed(s.id)
	c.order.run(s, status == protocol.StatusInitializing)
	if status.Terminal() {
		delete(c.live, s.id)
		s.endedMs = c.clock
	} else {
		c.live[s.id] = s
	}
	if k := c.keyOf(s.request.submit); k != nil && k.job == s.id {
		k.ends = 0
		if status.Terminal() {
			k.ends = c.clock + keyTerm
		}
	}
	c.touched = append(c.touched, s)
}

func (c *checker) keyOf(s *command.Submit) *binding {
	if s.GetIdempotencyKey() == "" {
		return nil
	}
	return c.keys[s.GetOrg()+"/"+s.GetEndpoint()+"/"+s.GetIdempotencyKey()]
}

func (c *checker) submit(s *command.Submit, r *command.Result) {
	id := protocol.JobID(s.GetJob())
	q := c.world.client.byID[id]
	if q == nil {
		c.fail("I2", "a submit of job %s is in the log that no client sent", id)
	}
	key := c.keyOf(s)
	if key != nil && key.ends != 0 && key.ends <= c.clock {
		key = nil
	}
	known := c.jobs[id] != nil && !c.jobs[id].evicted
	switch {
	case r.Code == protocol.CodeIdempotencyReused:
		if key == nil || key.hash == s.GetPayloadHash()[0] {
			c.fail("I4", "a submit was refused for its key, which is free")
		}
	case r.Code == protocol.CodeQueueFull:
		c.full(s, r)
	case r.Code != "":
	case r.Replayed && r.Job == id:
		if !known {
			c.fail("I1", "a submit of job %s was answered as done, and it does not exist", id)
		}
	case r.Replayed:
		if key == nil || key.job != r.Job || key.hash != s.GetPayloadHash()[0] {
			c.fail("I4", "a submit was answered with job %s, which its key does not name", r.Job)
		}
	default:
		c.create(s, q, id, key)
	}
}

func (c *checker) create(s *command.Submit, q *request, id protocol.JobID, key *binding) {
	switch {
	case c.refused[id]:
		c.fail("I3", "the submit of job %s was refused, and it has its effect now", id)
	case c.jobs[id] != nil:
		c.fail("I4", "job %s was created twice", id)
	case key != nil:
		c.fail("I4", "job %s was created under a key that names %s", id, key.job)
	case c.queued[s.GetOrg()] >= limitOf(s):
		c.fail("I16", "job %s was taken beyond the limit of %d", id, limitOf(s))
	}
	sh := &shadow{id: id, request: q, run: 1, waitsFrom: c.clock - epochMs, line: c.order.line(s.GetOrg(), s.GetEndpoint())}
	c.jobs[id] = sh
	if s.GetIdempotencyKey() != "" {
		c.keys[s.GetOrg()+"/"+s.GetEndpoint()+"/"+s.GetIdempotencyKey()] = &binding{job: id, hash: s.GetPayloadHash()[0]}
	}
	c.become(sh, protocol.StatusQueued)
}

func limitOf(s *command.Submit) int {
	if s.GetQueueLimit() == 0 {
		return protocol.MaxQueueOrg
	}
	return int(s.GetQueueLimit())
}

// full: a 429 says the truth.
func (c *checker) full(s *command.Submit, r *command.Result) {
	if r.Limit == "organisation" && (c.queued[s.GetOrg()] < limitOf(s) || int(r.Count) != c.queued[s.GetOrg()]) {
		c.fail("I16", "a submit was refused at %d waiting jobs, there are %d and the limit is %d", r.Count, c.queued[s.GetOrg()], limitOf(s))
	}
}

func (c *checker) grant(id protocol.JobID, from uint32, agent, inc []byte, r *command.Result, adopt bool) {
	s := c.must("I5", id)
	switch {
	case s.status == protocol.StatusCancelled:
		c.fail("I11", "job %s was leased after it was cancelled", id)
	case s.status != protocol.StatusQueued:
		c.fail("I5", "job %s was leased while it is %s", id, s.status)
	case s.attempt != from || r.Attempt != from+1:
		c.fail("I5", "job %s was leased as attempt %d after attempt %d", id, r.Attempt, s.attempt)
	case c.agents[protocol.AgentID(agent)] != protocol.Incarnation(inc):
		c.fail("I6", "job %s was leased to a life of its agent that is over", id)
	case adopt && !s.adoptable:
		c.fail("I6", "job %s was adopted although its last attempt was not given back", id)
	}
	c.world.count.Grants++
	c.become(s, protocol.StatusInitializing)
	s.attempt++
	s.agent, s.inc = protocol.AgentID(agent), protocol.Incarnation(inc)
	c.holders[s.agent] = append(c.holders[s.agent], s)
	c.signs[protocol.HeldAttempt{Job: id, Attempt: s.attempt}] = c.world.now
}

func (c *checker) finish(f *command.Finish, r *command.Result) {
	if r.Code != "" || r.Replayed {
		return
	}
	s := c.must("I6", protocol.JobID(f.GetJob()))
	c.terminal("I8", s)
	c.fenced(s, f.GetAttempt(), f.GetAgent(), f.GetIncarnation())
	c.world.count.Finished++
	sub := s.request.submit
	again := false
	next := protocol.StatusFailed
	switch protocol.Outcome(f.GetOutcome()) {
	case protocol.OutcomeCompleted:
		next = protocol.StatusCompleted
	case protocol.OutcomeCancelled:
		next = protocol.StatusCancelled
	case protocol.OutcomeTimeout:
		next, again = protocol.StatusTimeout, sub.GetRetryTimeout()
	default:
		again = f.GetRetryable()
	}
	if next == protocol.StatusFailed || next == protocol.StatusTimeout {
		s.failures++
		most := sub.GetMaxAttempts()
		if most == 0 {
			most = protocol.DefaultMaxAttempts
		}
		if again && s.failures < most {
			next = protocol.StatusQueued
		}
	}
	c.become(s, next)
}

func (c *checker) release(l *command.Release) {
	s := c.must("I6", protocol.JobID(l.GetJob()))
	c.fenced(s, l.GetAttempt(), l.GetAgent(), l.GetIncarnation())
	c.giveBack(s, l.GetReason() == command.Release_LOST)
}

func (c *checker) giveBack(s *shadow, lost bool) {
	if lost {
		c.lost(s)
		s.losses++
		most := s.request.submit.GetMaxLosses()
		if most == 0 {
			most = protocol.DefaultMaxLosses
		}
		if s.losses > most {
			c.become(s, protocol.StatusFailed)
			return
		}
	}
	c.become(s, protocol.StatusQueued)
	s.adoptable = true
}

// expire: a ttl never ends early, whatever the clocks say (I12).
func (c *checker) expire(id protocol.JobID) {
	s := c.must("I12", id)
	waited := c.world.now - s.waitsFrom
	if s.status != protocol.StatusQueued || s.request.submit.GetTtlMs() == 0 || waited < s.request.submit.GetTtlMs()-maxDrift {
		c.fail("I12", "job %s (%s) expired after %d ms, its ttl is %d", id, s.status, waited, s.request.submit.GetTtlMs())
	}
	c.become(s, protocol.StatusTimeout)
}

func (c *checker) reopen(id protocol.JobID, r *command.Result) {
	s := c.must("I8", id)
	if !s.status.Terminal() || r.Run != s.run+1 {
		c.fail("I8", "job %s, which is %s in run %d, was opened again as run %d", id, s.status, s.run, r.Run)
	}
	s.run, s.failures, s.losses, s.starts = r.Run, 0, 0, 0
	s.waitsFrom = c.clock - epochMs
	c.become(s, protocol.StatusQueued)
}

func (c *checker) register(g *command.Register, r *command.Result) {
	id, inc := protocol.AgentID(g.GetAgent()), protocol.Incarnation(g.GetIncarnation())
	c.agents[id] = inc
	for _, k := range r.Current {
		s := c.must("I6", k.Job)
		if s.status != protocol.StatusInitializing || s.agent != id || s.attempt != k.Attempt {
			c.fail("I6", "attempt %d of job %s was moved to a new life of an agent that does not have it", k.Attempt, k.Job)
		}
		s.inc = inc
		c.signs[k] = c.world.now
		c.touched = append(c.touched, s)
	}
	for _, s := range c.leasedBy(id) {
		if s.inc != inc {
			c.giveBack(s, true)
		}
	}
}

// leasedBy returns the jobs of an agent, in the order of their ids.
func (c *checker) leasedBy(id protocol.AgentID) []*shadow {
	out := slices.Clone(c.holders[id])
	slices.SortFunc(out, func(a, b *shadow) int { return bytes.Compare(a.id[:], b.id[:]) })
	return out
}

func (c *checker) evict(e *command.Evict, r *command.Result) {
	gone := int64(0)
	for _, raw := range e.GetJobs() {
		s := c.jobs[protocol.JobID(raw)]
		if s == nil || s.evicted || !s.status.Terminal() {
			continue
		}
		s.evicted = true
		gone++
		c.touched = append(c.touched, s)
	}
	if r.Count != gone {
		c.fail("I15", "an Evict removed %d jobs, %d of those that it names had ended", r.Count, gone)
	}
}
