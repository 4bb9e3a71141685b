package main

import (
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/scripts/chaos/check/ledger"
)

// checker holds the promises of reliability.md against what happens, after
// every step. It knows the rules, not the code: the ledger follows the log's
// answers, and every replica's rows are compared with it.
type checker struct {
	world   *world
	applied uint64 // the newest entry that any replica applied
	clock   int64
	ledger  *ledger.Ledger[note]
	refused map[protocol.JobID]bool // whose submit certainly had no effect
	acked   []*request
	digests map[uint64][32]byte
	runs    []*handlerRun
	held    map[protocol.HeldAttempt]*agent // who was given an attempt
	order   order
	touched []*shadow                      // by the entry that is judged
	signs   map[protocol.HeldAttempt]int64 // when its agent last said that it has it
}

// shadow is a job as the log's answers tell it.
type shadow = ledger.Job[note]

// note is what the checker knows of a job beside the ledger.
type note struct {
	request  *request
	row      *state.Job // as committed
	versions []version  // of the row, all that ever were
	since    int64      // virtual: in this status
	starts   int        // of handlers, in the run that startsIn names
	startsIn uint32
	line     *line // of its endpoint
	place    place // in line
	running  bool  // counted there
}

// version is the row of a job after one entry.
type version struct{ index, sum uint64 }

func newChecker(w *world) *checker {
	c := &checker{
		world: w, refused: make(map[protocol.JobID]bool), digests: make(map[uint64][32]byte),
		held: make(map[protocol.HeldAttempt]*agent), signs: make(map[protocol.HeldAttempt]int64),
	}
	c.ledger = ledger.New(ledger.Config[note]{Fail: c.fail, Changed: c.changed, Granted: c.granted, Lost: c.lost, Whole: true})
	c.order = newOrder(c)
	return c
}

func (c *checker) job(id protocol.JobID) *shadow { return c.ledger.Job(id) }

func (c *checker) fail(promise, format string, args ...any) { c.world.fail(promise, format, args...) }

// batch judges one entry when the first replica has applied it.
func (c *checker) batch(n *node, index uint64, results []command.Result, cursor *state.Cursor) {
	e := c.world.log.entry(index)
	c.applied = index
	e.sum, e.after = sum(results), totalsOf(n.store.View())
	clock := e.after.meta.ClockMs
	if clock < c.clock {
		c.fail("I12", "the clock of the log went back from %d to %d", c.clock, clock)
	}
	c.clock = clock
	if len(results) != len(e.batch.GetCommands()) {
		c.fail("I17", "log %d has %d commands and %d results", index, len(e.batch.GetCommands()), len(results))
	}
	c.touched = c.touched[:0]
	c.ledger.Begin(index, e.batch.GetClockMs())
	for i, cmd := range e.batch.GetCommands() {
		if c.world.tell != nil {
			c.world.say("log %d: %s -> %s", index, words(cmd), answerOf(&results[i]))
		}
		c.ledger.Apply(cmd, &results[i])
		c.world.count.command(cmd, &results[i])
	}
	c.changes(n, cursor, c.change)
	for _, s := range c.touched {
		c.compare(n, index, s)
		c.order.settle(s)
	}
}

// maxDrift is how far the leader's clock may be from the time: what the clocks of
// a majority may be off (DESIGN 3.6).
const maxDrift = 5 * second

// stamped judges the clock of a batch when it is made.
func (c *checker) stamped(ms int64) {
	if off := ms - c.world.wall(0); off > maxDrift || off < -maxDrift {
		c.fail("I12", "the clock of the leader is %d ms off", off)
	}
}

// changed notes what an entry did to a job.
func (c *checker) changed(s *shadow, before protocol.Status) {
	w := c.world
	if before == 0 {
		q := w.client.byID[s.ID]
		switch {
		case q == nil:
			c.fail("I2", "a submit of job %s is in the log that no client sent", s.ID)
		case c.refused[s.ID]:
			c.fail("I3", "the submit of job %s was refused, and it has its effect now", s.ID)
		}
		s.Note.request, s.Note.line = q, c.order.line(s.Submit.GetOrg(), s.Submit.GetEndpoint())
	}
	if s.Status != before {
		s.Note.since = w.now
		c.order.landed(s.ID)
		c.order.run(s, s.Leased())
	} else if s.Place == ledger.Forgotten {
		c.forgotten(s)
	} else if s.Leased() {
		c.signs[protocol.HeldAttempt{Job: s.ID, Attempt: s.Attempt}] = w.now // its agent registered with it
	}
	c.touched = append(c.touched, s)
}

// granted notes a new attempt.
func (c *checker) granted(s *shadow) {
	c.world.count.Grants++
	c.signs[protocol.HeldAttempt{Job: s.ID, Attempt: s.Attempt}] = c.world.now
}

// change takes in a row that an entry changed.
func (c *checker) change(ch *state.Change) {
	if e := ch.Endpoint; e != nil {
		c.order.line(e.Org, e.ID).changed = c.world.now
	}
	if ch.Job == nil {
		if s := c.job(ch.Evicted); s != nil {
			s.Note.row = nil
		}
		return
	}
	s := c.job(ch.Job.ID)
	if s == nil {
		c.fail("I2", "job %s exists, and nobody's submit made it", ch.Job.ID)
	}
	if before := s.Note.row; before != nil && before.Run == ch.Job.Run && before.Seq != ch.Job.Seq {
		c.fail("I10", "job %s lost its place %d and has %d", s.ID, before.Seq, ch.Job.Seq)
	}
	v := version{ch.Job.Index, rowSum(ch.Job)}
	switch n := len(s.Note.versions); {
	case v.index == c.applied:
		s.Note.versions = append(s.Note.versions, v)
	case n == 0 || s.Note.versions[n-1] != v:
		c.fail("I8", "job %s was brought back otherwise than it was", s.ID)
	}
	s.Note.row = ch.Job
	c.touched = append(c.touched, s)
}

// compare holds a row against its shadow.
func (c *checker) compare(n *node, index uint64, s *shadow) {
	j := s.Note.row
	if j == nil || j.Index != index { // else it is the one that was announced
		j = n.store.Job(s.ID)
	}
	if s.Place != ledger.InMemory {
		if j != nil {
			c.fail("I8", "job %s is there after it left memory", s.ID)
		}
		return
	}
	if j == nil {
		c.fail("I1", "job %s is gone", s.ID)
	}
	switch {
	case j.Status != s.Status || j.Run != s.Run:
		c.fail("I8", "job %s is %s in run %d, and was made %s in run %d", s.ID, j.Status, j.Run, s.Status, s.Run)
	case j.Attempt != s.Attempt:
		c.fail("I5", "job %s has attempt %d, and was given %d", s.ID, j.Attempt, s.Attempt)
	case (j.Lease != nil) != s.Leased():
		c.fail("I5", "job %s is %s with lease %t", s.ID, j.Status, j.Lease != nil)
	case j.Lease != nil && (j.Lease.Agent != s.Agent || j.Lease.Incarnation != s.Incarnation):
		c.fail("I5", "job %s is leased to another life or agent than it was given to", s.ID)
	case uint32(j.Failures) != s.Failures || uint32(j.Losses) != s.Losses || j.NotBeforeMs != s.NotBeforeMs:
		c.fail("I9", "job %s counts %d failures and %d losses and waits until %d, there were %d and %d, and it has to wait until %d",
			s.ID, j.Failures, j.Losses, j.NotBeforeMs, s.Failures, s.Losses, s.NotBeforeMs)
	case j.Index != s.Index:
		c.fail("I17", "job %s was changed at log %d, and should have been at %d", s.ID, j.Index, s.Index)
	case string(j.Input.Inline) != string(s.Submit.GetInput().GetInline()):
		c.fail("I2", "job %s has another input than was submitted", s.ID)
	}
	s.Note.row = j
}
