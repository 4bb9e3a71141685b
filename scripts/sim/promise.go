package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/scripts/chaos/check/ledger"
)

// quiet is how long nothing may have been broken until everything must be well.
const quiet = 90 * second

// acknowledged: what a client was told is so (I1).
func (c *checker) acknowledged(q *request, r command.Result) {
	s := c.job(r.Job)
	if s == nil {
		c.fail("I1", "a submit was acknowledged with job %s, which does not exist", r.Job)
	}
	c.acked = append(c.acked, q)
	c.world.mark(r.Job[:])
}

// declined: a submit that was refused for certain never happens (I3).
func (c *checker) declined(q *request) {
	if c.job(q.id) != nil {
		c.fail("I3", "the submit of job %s was refused, and it exists", q.id)
	}
	c.refused[q.id] = true
}

// cancelled: the answer is true when it is given (I11).
func (c *checker) cancelled(id protocol.JobID, r command.Result) {
	s := c.job(id)
	if s == nil || s.Status != protocol.StatusCancelled && s.Run == 1 {
		c.fail("I11", "the cancel of job %s was answered, and it is not cancelled", id)
	}
	c.world.mark(id[:])
}

// assigned: an attempt is given to one agent (I5), while it has a slot for it.
func (c *checker) assigned(a *agent, as *protocol.Assignment) {
	k := protocol.HeldAttempt{Job: as.Job, Attempt: as.Attempt}
	s := c.job(k.Job)
	switch before := c.held[k]; {
	case before != nil && before != a:
		c.fail("I5", "attempt %d of job %s was given to two agents", k.Attempt, k.Job)
	case s == nil:
		c.fail("I2", "job %s was handed out, and does not exist", k.Job)
	case s.Attempt < k.Attempt:
		c.fail("I5", "attempt %d of job %s was handed out before its lease was committed", k.Attempt, k.Job)
	case a.free() <= 0:
		c.fail("I5", "agent %d was given a job and has no slot for it", a.no)
	case string(as.Input) != string(s.Note.request.submit.GetInput().GetInline()):
		c.fail("I2", "job %s was handed out with another input", k.Job)
	}
	c.held[k] = a
}

// started notes a handler's start: I9, and no healthy run is doubled (I20).
func (c *checker) started(a *agent, t *attempt) {
	w := c.world
	h := t.run
	s := c.job(h.job)
	w.count.Started++
	h.number = len(c.runs)
	h.run = s.Run
	c.runs = append(c.runs, h)
	if s.Attempt != t.key.Attempt {
		return // it is already somebody else's; nobody told this agent yet
	}
	sub := s.Note.request.submit
	attempts, losses := int(sub.GetMaxAttempts()), int(sub.GetMaxLosses())
	if attempts == 0 {
		attempts = protocol.DefaultMaxAttempts
	}
	if losses == 0 {
		losses = protocol.DefaultMaxLosses
	}
	if s.Note.startsIn != s.Run {
		s.Note.starts, s.Note.startsIn = 0, s.Run
	}
	if s.Note.starts++; s.Note.starts > attempts+losses {
		c.fail("I9", "run %d of job %s started %d times, with %d attempts and %d losses allowed", s.Run, s.ID, s.Note.starts, attempts, losses)
	}
	for _, o := range w.agents {
		for _, other := range o.runs {
			if o != a && other.phase == running && !other.drop && other.run.job == h.job && other.run.run == h.run && c.healthy(o) && s.Status == protocol.StatusInitializing {
				c.fail("I20", "job %s started on agent %d while it ran on agent %d, which was well", h.job, a.no, o.no)
			}
		}
	}
}

// healthy reports whether nothing kept an agent from its coordinator lately.
func (c *checker) healthy(a *agent) bool {
	w := c.world
	since := w.now - quiet
	return !a.down && a.registered && a.calm < since && w.net.calm < since
}

// adopted: a run goes on under a new number.
func (c *checker) adopted(a *agent, t *attempt) {
	if before := c.held[t.key]; before != nil && before != a {
		c.fail("I5", "attempt %d of job %s was given to two agents", t.key.Attempt, t.key.Job)
	}
	c.held[t.key] = a
}

// handedIn: a result that was accepted is the job's, or one of an earlier attempt.
func (c *checker) handedIn(_ *agent, t *attempt, code protocol.Code) {
	s := c.job(t.key.Job)
	if code != "" {
		c.world.count.Stale++
	}
	if code != "" || s == nil || s.Place != ledger.InMemory || s.Attempt != t.key.Attempt || s.Note.row == nil || s.Note.row.Run != t.runOf(s) {
		return
	}
	if o := s.Note.row.Outcome; s.Status == protocol.StatusInitializing || o == nil || o.Attempt != t.key.Attempt {
		c.fail("I8", "the result of attempt %d of job %s was accepted, and the job is %s without it", t.key.Attempt, s.ID, s.Status)
	}
}

// runOf is the run of the job that the attempt belongs to; that of the job when no handler started.
func (t *attempt) runOf(s *shadow) uint32 {
	if t.run == nil {
		return s.Run
	}
	return t.run.run
}

// stated notes that a leadership took an agent's statement: it renews leases.
func (c *checker) stated(a *agent, inc protocol.Incarnation, held []protocol.HeldAttempt) {
	if c.ledger.Incarnation(a.id) != inc {
		return
	}
	for _, k := range held {
		c.signs[k] = c.world.now
	}
}

// lost judges that a lease was lost: I12 and I20. An agent that is well and
// says what it has loses nothing, through any failover.
func (c *checker) lost(s *shadow, _ string) {
	w := c.world
	k := protocol.HeldAttempt{Job: s.ID, Attempt: s.Attempt}
	for _, a := range w.agents {
		if a.id != s.Agent || !c.healthy(a) {
			continue
		}
		t := a.get(k)
		if t != nil && !t.drop && (t.run == nil || !t.run.stuck) && t.phase != finished {
			c.fail("I20", "attempt %d of job %s was lost; agent %d has it, and was well; its last sign is %d ms old", k.Attempt, s.ID, a.no, w.now-c.signs[k])
		}
	}
}

// idle: while all is well, no job waits beside an agent that could take it (I7).
func (c *checker) idle() {
	w := c.world
	if w.leader == nil || w.now < w.calm+quiet || w.net.calm+quiet > w.now {
		return
	}
	for _, name := range c.order.names {
		for _, s := range slices.Concat(c.order.lines[name].waiting[:]...) {
			if end := s.Note.row.ExpiresAtMs(); end != 0 && end < w.leader.nowMs()-grantDeadline {
				c.fail("I7", "job %s waits %d ms longer than its ttl", s.ID, w.leader.nowMs()-end)
			}
		}
	}
	for _, a := range w.agents {
		if c.idles(a) {
			c.waitsBeside(a)
		}
	}
}

// idles reports whether an agent has long had a slot for somebody.
func (c *checker) idles(a *agent) bool {
	w := c.world
	long := func(since int64) bool { return w.now-since > grantDeadline }
	return c.healthy(a) && !a.draining && a.parked != nil && a.parked.node == w.leader && long(a.parkedAt) && long(a.fullAt) &&
		a.free() > 0 && len(c.ledger.Held(a.id)) < a.slots
}

// waitsBeside fails when a job has long been waiting that an idle agent could take.
// Of endpoints that bound what runs, nobody says since when one more may.
func (c *checker) waitsBeside(a *agent) {
	w := c.world
	for _, name := range c.order.names {
		l := c.order.lines[name]
		e := w.leader.store.Endpoint(l.org, l.endpoint)
		most, _ := c.order.most(w.leader, l.org)
		if e == nil || e.Doc.MaxRunning > 0 || e.Doc.Warm.Max > 0 || most > 0 || w.now-l.changed <= grantDeadline || !c.order.open(&grant{node: w.leader, agent: a}, l) {
			continue
		}
		for _, s := range slices.Concat(l.waiting[:]...) {
			if w.now-s.Note.since > grantDeadline && s.Note.row.NotBeforeMs < w.leader.nowMs()-grantDeadline {
				c.fail("I7", "job %s waits for %d ms beside agent %d, which is idle", s.ID, w.now-s.Note.since, a.no)
			}
		}
	}
}

// grantDeadline is above the ten seconds for which a refused endpoint rests.
const grantDeadline = 20 * second

// settled reports whether every job has ended.
func (c *checker) settled() bool { return len(c.ledger.Live()) == 0 && c.world.leader != nil }

// end judges the whole history.
func (c *checker) end() {
	w := c.world
	for _, id := range slices.SortedFunc(maps.Keys(c.ledger.Live()), func(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) }) {
		s := c.ledger.Live()[id]
		c.fail("I7", "job %s never ends: %s, attempt %d, since %d ms", s.ID, s.Status, s.Attempt, w.now-s.Note.since)
	}
	for _, n := range w.nodes {
		n.apply(w.log.last())
		n.store.View().Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
			c.final(j)
			return true
		})
		c.digest(n)
	}
	for _, q := range c.acked {
		c.found(w.nodes[0].store.View(), q.bound)
	}
	c.replay()
}

// final: what a job ended with is what one of its runs made (I8).
func (c *checker) final(j *state.Job) {
	if j.Status != protocol.StatusCompleted {
		return
	}
	var out struct{ Run int }
	if err := json.Unmarshal(j.Outcome.Output.Inline, &out); err != nil || out.Run >= len(c.runs) {
		c.fail("I8", "job %s completed with an output that no handler made: %s", j.ID, j.Outcome.Output.Inline)
	}
	if h := c.runs[out.Run]; h.job != j.ID || h.run > j.Run || h.outcome != protocol.OutcomeCompleted {
		c.fail("I8", "job %s completed with the output of a run of job %s", j.ID, h.job)
	}
}

// replay: the whole log leads to the same state as everything that happened (I17).
func (c *checker) replay() {
	n := newNode(c.world, len(c.world.nodes))
	for i := range c.world.log.entries {
		c.world.log.entries[i].batch = nil // this one reads the bytes
	}
	n.apply(c.world.log.last())
	n.write()
	o := newNode(c.world, n.no)
	o.restore(n.snapshot)
	if !strings.HasPrefix(string(n.snapshot.data), "WINDLASS") {
		c.fail("I17", "a snapshot does not say what it is")
	}
}
