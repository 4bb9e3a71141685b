package main

import (
	"windlass/coordinator/command"
	"windlass/protocol"
)

const (
	// maxBatch and maxFlying are the proposer's.
	maxBatch  = 512
	maxFlying = 2
)

// modelLog stands for raft and the proposer: it orders, replicates and
// commits, and it may refuse, be late, or not tell.
type modelLog struct {
	entries []entry // index 1 is the first
	waiting []group
	flying  []*flight
	cutting bool

	refuse int64 // until then
	maybe  int64 // until then
	stall  int64 // until then
	slow   int64 // ms
}

type entry struct {
	data  []byte
	batch *command.Batch // read by the first replica that applies it, for all; nothing changes it
	epoch int
	sum   uint64 // of the results, of the replica that applied it first
	after totals // of that replica
}

type group struct {
	cmds []*command.Command
	done func([]command.Result, error)
}

// flight is a batch that was appended and is not yet committed.
type flight struct {
	groups []group
	cmds   []*command.Command
	data   []byte
	epoch  int
	node   *node
	life   int
}

func (l *modelLog) last() uint64          { return uint64(len(l.entries)) }
func (l *modelLog) entry(i uint64) *entry { return &l.entries[i-1] }

func none() error {
	return protocol.NewError(protocol.CodeUnavailable, "refused").With("outcome", "none")
}

func unknown() error {
	return protocol.NewError(protocol.CodeUnavailable, "not known").With("outcome", "unknown")
}

// proposer is one leadership's.
type proposer struct {
	node  *node
	epoch int
}

// Enqueue implements broker.Proposer.
func (p *proposer) Enqueue(cmds []*command.Command, done func([]command.Result, error)) {
	n := p.node
	w := n.world
	w.check.proposed(n, p.epoch, cmds)
	inner := done
	done = func(r []command.Result, err error) {
		w.check.answered(p.epoch, cmds, r, err)
		inner(r, err)
	}
	switch {
	case p.epoch != w.epoch || w.leader != n:
		n.zombies = append(n.zombies, done) // it does not know yet
	case w.log.refuse > w.now && w.draws.log.IntN(3) > 0:
		life := n.life
		w.in(w.draws.log.Int64N(20), func() {
			if n.life == life {
				done(nil, none())
				n.answered()
			}
		})
	default:
		w.log.waiting = append(w.log.waiting, group{cmds, done})
		w.cut()
	}
}

// cut makes one batch of what waits.
func (w *world) cut() {
	if w.log.cutting || len(w.log.flying) >= maxFlying || len(w.log.waiting) == 0 {
		return
	}
	w.log.cutting = true
	epoch := w.epoch
	w.in(w.draws.log.Int64N(2), func() {
		w.log.cutting = false
		if w.epoch != epoch || w.leader == nil {
			return
		}
		w.fly()
		w.cut()
	})
}

func (w *world) fly() {
	n := w.leader
	f := &flight{epoch: w.epoch, node: n, life: n.life}
	for len(w.log.waiting) > 0 && len(f.cmds) < maxBatch {
		g := w.log.waiting[0]
		w.log.waiting = w.log.waiting[1:]
		f.groups = append(f.groups, g)
		f.cmds = append(f.cmds, g.cmds...)
	}
	if len(f.cmds) == 0 {
		return
	}
	w.check.stamped(n.nowMs())
	var err error
	if f.data, err = command.Marshal(n.nowMs(), f.cmds); err != nil {
		w.fail("I7", "a batch cannot be marshalled: %v", err)
	}
	w.log.flying = append(w.log.flying, f)
	took := 1 + w.draws.log.Int64N(w.plan.Commit)
	if w.log.stall > w.now {
		took += w.draws.log.Int64N(w.log.slow + 1)
	}
	w.in(took, func() { w.landed(f) })
}

// landed commits flights in their order.
func (w *world) landed(f *flight) {
	f.life = -f.life - 1 // marks it as written
	for len(w.log.flying) > 0 && w.log.flying[0].life < 0 && w.log.flying[0].epoch == w.epoch {
		f := w.log.flying[0]
		w.log.flying = w.log.flying[1:]
		w.commit(f)
	}
	w.cut()
}

// commit appends and lets the leader apply; followers come later.
func (w *world) commit(f *flight) {
	w.append(f)
	n, index := f.node, w.log.last()
	life := n.life
	w.in(w.draws.log.Int64N(3), func() {
		if n.life != life || n.down {
			return
		}
		n.apply(max(index, n.applied))
		for _, o := range w.nodes {
			o.follow()
		}
		if w.draws.log.IntN(2) == 0 {
			n.feed()
		}
		w.deliver(f, index)
		n.feed()
	})
}

func (w *world) append(f *flight) {
	w.log.entries = append(w.log.entries, entry{data: f.data, epoch: f.epoch})
	w.count.Batches++
	w.count.Commands += len(f.cmds)
	w.mark(f.data)
}

// deliver answers the groups of a batch; sometimes the answer is lost although
// the batch was applied.
func (w *world) deliver(f *flight, index uint64) {
	n := f.node
	results := n.results[index]
	delete(n.results, index)
	for _, g := range f.groups {
		if results == nil || w.log.maybe > w.now && w.draws.log.IntN(4) == 0 {
			g.done(nil, unknown())
		} else {
			g.done(results[:len(g.cmds)], nil)
		}
		if results != nil {
			results = results[len(g.cmds):]
		}
	}
	n.answered()
}

// abandon decides what becomes of the batches in flight when the leadership
// changes: a prefix of them is in the new leader's log and so commits. Who
// proposed them learns nothing more.
func (w *world) abandon(old *node) {
	keep := w.draws.log.IntN(len(w.log.flying) + 1)
	for i, f := range w.log.flying {
		if i < keep {
			w.append(f)
		}
		for _, g := range f.groups {
			old.zombies = append(old.zombies, g.done)
		}
	}
	for _, g := range w.log.waiting {
		old.zombies = append(old.zombies, g.done)
	}
	w.log.flying, w.log.waiting = nil, nil
}
