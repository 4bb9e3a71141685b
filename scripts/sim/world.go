package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/check"
)

// epochMs is the wall clock's time at virtual zero.
const epochMs = int64(1_760_000_000_000)

// event is something that happens at a virtual moment.
type event struct {
	at  int64
	seq uint64 // events of one moment happen in the order in which they were made
	do  func()
}

func (e *event) before(o *event) bool { return e.at < o.at || e.at == o.at && e.seq < o.seq }

// events is a heap without the interface of container/heap, which would copy
// every event twice.
type events []event

func (e *events) push(x event) {
	h := append(*e, x)
	*e = h
	for i := len(h) - 1; i > 0; {
		parent := (i - 1) / 2
		if !h[i].before(&h[parent]) {
			return
		}
		h[i], h[parent] = h[parent], h[i]
		i = parent
	}
}

func (e *events) pop() event {
	h := *e
	top, last := h[0], len(h)-1
	h[0], h[last] = h[last], event{}
	h = h[:last]
	*e = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= last {
			return top
		}
		if child+1 < last && h[child+1].before(&h[child]) {
			child++
		}
		if !h[child].before(&h[i]) {
			return top
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// world is one run: one goroutine, one clock, and nothing that a plan does not
// determine.
type world struct {
	plan   *plan
	now    int64 // virtual ms
	seq    uint64
	events events
	trace  uint64 // of everything that was applied and answered

	nodes   []*node
	leader  *node // whose proposals commit; nil during an election
	epoch   int   // of the leadership
	log     modelLog
	net     network
	vault   vault
	archive *archive.Archive // of the vault
	agents  []*agent
	client  *clients
	check   *checker
	count   counts
	tell    io.Writer // the history in words; nil: nobody reads it
	healed  bool      // nothing is broken any more
	calm    int64     // the last moment at which something was broken, or expected to be
	draws   struct{ net, log, broker, ids, agent, client *rand.Rand }
}

// counts is what a run did.
type counts struct {
	Runs, Commands, Applied, Batches, Events, Calls  int
	Carried                                          int // assignments in answers to reports
	Leaders, Acknowledged, Finished, Stale, Restores int
	Digests, Grants, Started                         int
	Archived, Recalled, Dropped, Paused, Purged      int
	Raised, Found                                    int
	Ms                                               int64
	Faults                                           map[kind]int
}

func (c *counts) add(o *counts) {
	c.Runs += o.Runs
	c.Commands += o.Commands
	c.Applied += o.Applied
	c.Batches += o.Batches
	c.Events += o.Events
	c.Calls += o.Calls
	c.Carried += o.Carried
	c.Leaders += o.Leaders
	c.Acknowledged += o.Acknowledged
	c.Finished += o.Finished
	c.Stale += o.Stale
	c.Restores += o.Restores
	c.Digests += o.Digests
	c.Grants += o.Grants
	c.Started += o.Started
	c.Archived += o.Archived
	c.Recalled += o.Recalled
	c.Dropped += o.Dropped
	c.Paused += o.Paused
	c.Purged += o.Purged
	c.Raised += o.Raised
	c.Found += o.Found
	c.Ms += o.Ms
	for k, n := range o.Faults {
		c.Faults[k] += n
	}
}

// command counts one that changed something.
func (c *counts) command(cmd *command.Command, r *command.Result) {
	if r.Code != "" || r.Replayed {
		return
	}
	switch op := cmd.GetOp().(type) {
	case *command.Command_Finish:
		c.Finished++
	case *command.Command_Archive:
		c.Archived += int(r.Count)
	case *command.Command_Recall:
		c.Recalled++
	case *command.Command_DropSegment:
		c.Dropped += len(op.DropSegment.GetNumbers())
	case *command.Command_Pause, *command.Command_PauseEndpoint:
		c.Paused++
	case *command.Command_Purge:
		c.Purged += int(r.Count)
	case *command.Command_SetFeature:
		c.Raised++
	}
}

// stop ends a run at its first violation.
type stop struct{ violation check.Violation }

// fail ends the run.
func (w *world) fail(promise, format string, args ...any) {
	panic(stop{check.Violation{Promise: promise, Text: fmt.Sprintf("at %.3fs: ", float64(w.now)/1000) + fmt.Sprintf(format, args...)}})
}

// say writes one line of the history, for who reads a run that failed.
func (w *world) say(format string, args ...any) {
	if w.tell != nil {
		fmt.Fprintf(w.tell, "%11.3f  "+format+"\n", append([]any{float64(w.now) / 1000}, args...)...)
	}
}

func (w *world) at(when int64, do func()) {
	w.seq++
	w.events.push(event{at: max(when, w.now), seq: w.seq, do: do})
}

func (w *world) in(ms int64, do func()) { w.at(w.now+ms, do) }

// until lets everything happen up to a moment.
func (w *world) until(end int64) {
	for len(w.events) > 0 && w.events[0].at <= end {
		e := w.events.pop()
		w.now = e.at
		w.count.Events++
		e.do()
		w.check.order.judge()
	}
	w.now = end
}

// mark makes the trace depend on some bytes (FNV-1a, eight at a time).
func (w *world) mark(b []byte) {
	const prime = 1099511628211
	for len(b) >= 8 {
		w.trace = (w.trace ^ binary.LittleEndian.Uint64(b)) * prime
		b = b[8:]
	}
	for _, c := range b {
		w.trace = (w.trace ^ uint64(c)) * prime
	}
	w.trace ^= w.trace >> 29
}

// disturb notes that until then nobody can expect everything to be well.
func (w *world) disturb(until int64) { w.calm = max(w.calm, until) }

// id makes the 16 bytes of an id that carries a time.
func (w *world) id(ms int64) (id [16]byte) {
	binary.BigEndian.PutUint64(id[:8], uint64(ms)<<16)
	binary.BigEndian.PutUint16(id[6:], uint16(w.draws.ids.Uint32()))
	binary.BigEndian.PutUint64(id[8:], w.draws.ids.Uint64())
	return id
}

func newWorld(p *plan) *world {
	w := &world{plan: p, trace: 14695981039346656037}
	w.count.Faults = make(map[kind]int)
	for i, r := range []**rand.Rand{&w.draws.net, &w.draws.log, &w.draws.broker, &w.draws.ids, &w.draws.agent, &w.draws.client} {
		*r = rand.New(rand.NewPCG(p.Seed, uint64(i)+1))
	}
	w.check = newChecker(w)
	w.vault = vault{world: w, blobs: make(map[blob.Digest][]byte)}
	var err error
	w.archive, err = archive.New(archive.Config{Blobs: &w.vault, Keep: time.Duration(p.Keep) * time.Millisecond, NowMs: w.nowMs})
	if err != nil {
		panic(err)
	}
	w.client = newClients(w)
	w.net = network{world: w}
	for i := range p.Replicas {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	for i := range p.Agents {
		w.agents = append(w.agents, newAgent(w, i))
	}
	return w
}

// settleTime is how long it may take after the last fault until the next job ends:
// the longest back-off, an overrun with both its graces, and some leases.
const settleTime = 30 * minute

// run plays a plan. It returns the violation that ended it, if any.
func run(p *plan, tell io.Writer) (w *world, v *check.Violation) {
	w = newWorld(p)
	w.tell = tell
	defer func() {
		for _, n := range w.nodes {
			if n.duty != nil {
				n.duty.end()
			}
		}
		switch r := recover().(type) {
		case nil:
		case stop:
			v = &r.violation
		default:
			panic(r)
		}
		w.count.Ms = w.now
		w.count.Runs = 1
	}()
	w.elect(w.nodes[0], 0)
	w.in(10, w.client.setUp)
	for _, a := range w.agents {
		w.in(20+w.draws.agent.Int64N(second), a.boot)
	}
	for i := range p.Actions {
		a := p.Actions[i]
		w.at(2*second+a.At, func() { w.act(a) })
	}
	w.every(30*second, w.check.idle)
	w.until(2*second + p.Span)
	w.heal()
	end, live := w.now+settleTime, 0
	for w.now < end && !w.check.settled() {
		w.until(w.now + 10*second)
		if n := len(w.check.ledger.Live()); n != live {
			end, live = w.now+settleTime, n
		}
	}
	w.check.end()
	return w, nil
}

// every repeats something until the end.
func (w *world) every(ms int64, do func()) {
	w.in(ms, func() {
		do()
		w.every(ms, do)
	})
}

// wall is the time that a node's or an agent's wall clock shows.
func (w *world) wall(offset int64) int64 { return epochMs + w.now + offset }

func noLeader() error { return protocol.NewError(protocol.CodeNoLeader, "no leader") }
