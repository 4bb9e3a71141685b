package main

import (
	"encoding/binary"
	"hash/fnv"

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
	refused map[protocol.JobID]bool // whose submit certainly had no effect
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
	id         protocol.JobID
	request    *request
	row        *state.Job // as committed
	status     protocol.Status
	attempt    uint32
	run        uint32
	failures   uint32
	losses     uint32
	agent      protocol.AgentID
	inc        protocol.Incarnation
	adoptable  bool
	since      int64 // virtual: in this status
	waitsFrom  int64 // virtual: the ttl counts from here
	endedMs    int64 // by the log's clock
	starts     int   // of handlers, in this run
	evicted    bool
	waitingFor int // index among the endpoint's waiting, see order
}

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
		agents: make(map[protocol.AgentID]protocol.Incarnation), refused: make(map[protocol.JobID]bool),
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
	e.sum = sum(results)
	clock := n.store.View().ClockMs()
	if clock < c.clock {
		c.fail("I12", "the clock of the log went back from %d to %d", c.clock, clock)
	}
	c.clock = clock
	if len(results) != len(e.cmds) {
		c.fail("I17", "log %d has %d commands and %d results", index, len(e.cmds), len(results))
	}
	c.touched = c.touched[:0]
	for i, cmd := range e.cmds {
		if c.world.tell != nil {
			c.world.say("log %d: %s -> %s", index, words(cmd), answerOf(&results[i]))
		}
		c.command(cmd, &results[i])
	}
	changes, _, err := cursor.TryNext()
	if err != nil {
		c.fail("I17", "the changes of log %d cannot be read: %v", index, err)
	}
	for i := range changes.List {
		c.change(&changes.List[i])
	}
	for _, s := range c.touched {
		c.compare(n, s)
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
		return
	}
	s := c.jobs[ch.Job.ID]
	if s == nil {
		c.fail("I2", "job %s exists, and nobody's submit made it", ch.Job.ID)
	}
	s.row = ch.Job
	c.touched = append(c.touched, s)
}

// compare holds a row against its shadow.
func (c *checker) compare(n *node, s *shadow) {
	j := n.store.Job(s.id)
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

// same compares a later replica's results with the first one's.
func (c *checker) same(n *node, index uint64, results []command.Result) {
	if got, want := sum(results), c.world.log.entry(index).sum; got != want {
		c.fail("I17", "replica %d answers log %d otherwise than the first one did", n.no, index)
	}
}

func sum(results []command.Result) uint64 {
	h := fnv.New64a()
	var b [8]byte
	number := func(n uint64) {
		binary.LittleEndian.PutUint64(b[:], n)
		h.Write(b[:])
	}
	for i := range results {
		r := &results[i]
		h.Write([]byte(r.Code))
		h.Write(r.Job[:])
		number(uint64(r.Attempt)<<32 | uint64(r.Run))
		number(r.Revision<<1 ^ uint64(r.CreatedMs)<<8 ^ uint64(r.Count)<<40)
		if r.Replayed {
			number(1)
		}
		for _, k := range r.Current {
			h.Write(k.Job[:])
			number(uint64(k.Attempt))
		}
	}
	return h.Sum64()
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
