package main

import (
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// checker holds the promises of reliability.md against what happens, after
// every step. It knows the rules, not the code: shadows are what the log's
// answers say, and every replica's rows are compared with them.
type checker struct {
	world   *world
	applied uint64 // the newest entry that any replica applied
	clock   int64
	jobs    map[protocol.JobID]*shadow
	live    map[protocol.JobID]*shadow
	queued  map[string]int // by organisation
	keys    map[string]*binding
	agents  map[protocol.AgentID]protocol.Incarnation
	holders map[protocol.AgentID][]*shadow // whom it leases
	refused map[protocol.JobID]bool        // whose submit certainly had no effect
	acked   []*request
	digests map[uint64][32]byte
	runs    []*handlerRun
	held    map[protocol.HeldAttempt]*agent // who was given an attempt
	order   order
	touched []*shadow
	signs   map[protocol.HeldAttempt]int64 // when its agent last said that it has it
}

// shadow is a job as the log's answers tell it.
type shadow struct {
	id        protocol.JobID
	request   *request
	row       *state.Job // as committed
	versions  []version  // of the row, all that ever were
	status    protocol.Status
	attempt   uint32
	run       uint32
	failures  uint32
	losses    uint32
	agent     protocol.AgentID
	inc       protocol.Incarnation
	adoptable bool
	since     int64 // virtual: in this status
	waitsFrom int64 // virtual: the ttl counts from here
	endedMs   int64 // by the log's clock
	starts    int   // of handlers, in this run
	evicted   bool
	line      *line // of its endpoint
	place     place // in line
	running   bool  // counted there
}

// version is the row of a job after one entry.
type version struct{ index, sum uint64 }

// binding is what an idempotency key names.
type binding struct {
	job  protocol.JobID
	hash byte
	ends int64 // by the log's clock; 0: while the job lives
}

func newChecker(w *world) *checker {
	c := &checker{
		world: w, jobs: make(map[protocol.JobID]*shadow), live: make(map[protocol.JobID]*shadow),
		queued: make(map[string]int), keys: make(map[string]*binding),
		agents: make(map[protocol.AgentID]protocol.Incarnation), holders: make(map[protocol.AgentID][]*shadow), refused: make(map[protocol.JobID]bool),
		digests: make(map[uint64][32]byte), held: make(map[protocol.HeldAttempt]*agent),
		signs: make(map[protocol.HeldAttempt]int64),
	}
	c.order = newOrder(c)
	return c
}

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
	for i, cmd := range e.batch.GetCommands() {
		if c.world.tell != nil {
			c.world.say("log %d: %s -> %s", index, words(cmd), answerOf(&results[i]))
		}
		c.command(cmd, &results[i])
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

func (c *checker) change(ch *state.Change) {
	if ch.Job == nil {
		if s := c.jobs[ch.Evicted]; s != nil {
			s.row = nil
		}
		return
	}
	s := c.jobs[ch.Job.ID]
	if s == nil {
		c.fail("I2", "job %s exists, and nobody's submit made it", ch.Job.ID)
	}
	s.row = ch.Job
	s.versions = append(s.versions, version{ch.Job.Index, rowSum(ch.Job)})
	c.touched = append(c.touched, s)
}

// compare holds a row against its shadow.
func (c *checker) compare(n *node, index uint64, s *shadow) {
	j := s.row
	if j == nil || j.Index != index { // else it is the one that was announced
		j = n.store.Job(s.id)
	}
	if s.evicted {
		if j != nil {
			c.fail("I8", "job %s is there again after it was evicted", s.id)
		}
		return
	}
	if j == nil {
		c.fail("I1", "job %s is gone", s.id)
	}
	want := s.status
	switch {
	case j.Status != want || j.Run != s.run:
		c.fail("I8", "job %s is %s in run %d, and was made %s in run %d", s.id, j.Status, j.Run, want, s.run)
	case j.Attempt != s.attempt:
		c.fail("I5", "job %s has attempt %d, and was given %d", s.id, j.Attempt, s.attempt)
	case (j.Lease != nil) != (want == protocol.StatusInitializing):
		c.fail("I5", "job %s is %s with lease %t", s.id, j.Status, j.Lease != nil)
	case j.Lease != nil && (j.Lease.Agent != s.agent || j.Lease.Incarnation != s.inc):
		c.fail("I5", "job %s is leased to another life or agent than it was given to", s.id)
	case uint32(j.Failures) != s.failures || uint32(j.Losses) != s.losses:
		c.fail("I9", "job %s counts %d failures and %d losses, there were %d and %d", s.id, j.Failures, j.Losses, s.failures, s.losses)
	case string(j.Input.Inline) != string(s.request.submit.GetInput().GetInline()):
		c.fail("I2", "job %s has another input than was submitted", s.id)
	}
	s.row = j
}

// totals are what a state knows beside its rows, and sums over them.
type totals struct {
	meta  state.Meta
	bytes int64
	ended int
}

func totalsOf(v *state.View) totals {
	ended, _ := v.Ended()
	return totals{v.Meta(), v.Bytes(), ended}
}

// same holds a later replica against the first one: each answer, and after the
// last entry of the group the totals and every row that the group changed.
func (c *checker) same(n *node, first uint64, results []any, cursor *state.Cursor) {
	for i := range results {
		if sum(results[i].([]command.Result)) != c.world.log.entry(first+uint64(i)).sum {
			c.fail("I17", "replica %d answers log %d otherwise than the first one did", n.no, first+uint64(i))
		}
	}
	last := first + uint64(len(results)) - 1
	if got, want := totalsOf(n.store.View()), c.world.log.entry(last).after; got != want {
		c.fail("I17", "replica %d has %+v after log %d, the first one had %+v", n.no, got, last, want)
	}
	c.changes(n, cursor, func(ch *state.Change) {
		if ch.Job == nil {
			return
		}
		s := c.jobs[ch.Job.ID]
		if s == nil || !slices.Contains(s.versions, version{ch.Job.Index, rowSum(ch.Job)}) {
			c.fail("I17", "replica %d has a row of job %s that the first one did not have after log %d", n.no, ch.Job.ID, ch.Job.Index)
		}
	})
}

// changes calls fn for what a cursor tells.
func (c *checker) changes(n *node, cursor *state.Cursor, fn func(*state.Change)) {
	for {
		changes, more, err := cursor.TryNext()
		if err != nil {
			c.fail("I17", "replica %d cannot read its changes: %v", n.no, err)
		}
		if !more {
			return
		}
		for i := range changes.List {
			fn(&changes.List[i])
		}
	}
}

// digest compares a replica as it is with whoever was at the same index before.
func (c *checker) digest(n *node) { c.compareAt(n, n.store.View()) }

func (c *checker) compareAt(n *node, view *state.View) {
	w := c.world
	w.count.Digests++
	d, at := view.Digest(), view.Index()
	if before, ok := c.digests[at]; ok && before != d {
		c.fail("I17", "replica %d differs from another one at log %d", n.no, at)
	} else if !ok {
		c.digests[at] = d
		w.mark(d[:])
		c.recount(view)
	}
}

// recount holds the kept counters against the rows (I16).
func (c *checker) recount(v *state.View) {
	queued := make(map[string]int)
	type count struct{ live, queued int }
	byEndpoint := make(map[string]*count)
	var bytes int64
	endpoints := v.Endpoints("")
	for _, e := range endpoints {
		byEndpoint[e.Org+"/"+e.ID] = &count{}
		bytes += e.Size()
	}
	for _, a := range v.Agents() {
		bytes += a.Size()
	}
	v.Keys(func(k *state.Key) bool { bytes += k.Size(); return true })
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		bytes += j.Size()
		if !j.Live() {
			return true
		}
		e := byEndpoint[j.Org+"/"+j.Target]
		if e == nil {
			c.fail("I16", "job %s lives, and its endpoint %s does not exist", j.ID, j.Target)
		}
		e.live++
		if j.Status == protocol.StatusQueued {
			e.queued++
			queued[j.Org]++
		}
		return true
	})
	for _, e := range endpoints {
		n := byEndpoint[e.Org+"/"+e.ID]
		if e.Live != n.live || e.Queued != n.queued {
			c.fail("I16", "endpoint %s counts %d jobs, %d of them waiting: there are %d and %d", e.ID, e.Live, e.Queued, n.live, n.queued)
		}
		if v.Queued(e.Org) != queued[e.Org] {
			c.fail("I16", "organisation %s counts %d waiting jobs, there are %d", e.Org, v.Queued(e.Org), queued[e.Org])
		}
	}
	if v.Bytes() != bytes {
		c.fail("I16", "the state counts %d bytes, its rows are %d", v.Bytes(), bytes)
	}
}
