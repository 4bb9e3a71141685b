package main

import (
	"bytes"
	"io"
	"slices"

	"github.com/rs/zerolog"

	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// groupBits is how many entries a replica applies at once: one, or some
	// hundreds. What an entry leads to must not depend on it.
	groupBits = 9
	// followBits is how long a follower waits before it applies what was committed:
	// up to a minute, and as often some milliseconds.
	followBits = 16
	// snapshotGap is how many entries lie between two snapshots at least.
	snapshotGap = 2048
)

// node is one coordinator: a replica of the log with the real state machine,
// and, while it believes to lead, the real broker.
type node struct {
	world *world
	no    int

	store    *state.Store
	fsm      *fsm.FSM
	applied  uint64
	results  map[uint64][]command.Result // of its leadership, until they are answered
	snapshot *snapshot                   // the newest; nil: none
	writeAt  uint64                      // the index at which the next one is written

	term    *broker.Driver
	epoch   int // of term
	zombies []func([]command.Result, error)
	calls   []*served // whose answer comes from the log
	syncs   []*served // parked, or answered at any step
	alarm   int64     // the earliest that is scheduled
	clock   leaderClock

	life    int
	down    bool
	frozen  int64 // until then
	lag     int64 // applies nothing before then
	offset  int64 // of the wall clock
	due     bool  // a catch-up is scheduled
	forgets int64 // until then it passes over cancels

	supports uint32                         // the highest feature level of its version
	duty     *duty                          // of term
	measured map[protocol.HeldAttempt]int64 // when handlers started, as term was told
}

// served is a call that a node works on.
type served struct {
	call *call
	poll func() (any, bool, error)
	gone func()
}

// leaderClock follows DESIGN 3.6: anchored once, then monotonic.
type leaderClock struct{ base, at int64 }

func newNode(w *world, no int) *node {
	n := &node{world: w, no: no, offset: w.draws.net.Int64N(2*second) - second, writeAt: snapshotGap, supports: command.FeatureMax}
	if no < len(w.plan.Old) {
		n.supports = w.plan.Old[no]
	}
	n.reset()
	return n
}

func (n *node) reset() {
	n.store = state.New()
	n.fsm = fsm.New(n.store)
	n.applied = 0
	n.results = make(map[uint64][]command.Result)
}

// nowMs is what stamps batches while the node leads.
func (n *node) nowMs() int64 { return n.clock.base + n.world.now - n.clock.at }

// wallMs is the median of what the replicas' clocks show; minorities may be wrong.
func (w *world) wallMs() int64 {
	var all []int64
	for _, n := range w.nodes {
		all = append(all, w.wall(n.offset))
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// elect makes a node the leader after a gap without one. Everything that was
// committed is applied first, then the broker is built.
func (w *world) elect(n *node, gap int64) {
	w.leader = nil
	w.epoch++
	epoch := w.epoch
	w.count.Leaders++
	w.disturb(w.now + gap)
	w.in(gap, func() {
		if w.epoch != epoch {
			return
		}
		if n.down || n.frozen > w.now || n.lag > w.now || n.offset < -5*second || n.offset > 5*second {
			w.elect(w.other(n), 300+w.draws.log.Int64N(second))
			return
		}
		w.disturb(w.now)
		w.leader = n
		n.resign()
		n.apply(w.log.last())
		n.clock = leaderClock{base: max(n.store.View().ClockMs(), w.wallMs()), at: w.now}
		w.say("replica %d leads from log %d on", n.no, n.applied)
		n.lead(epoch)
	})
}

// other is a node that could lead instead.
func (w *world) other(n *node) *node {
	k := 1 + w.draws.log.IntN(len(w.nodes)-1)
	for i := range w.nodes {
		o := w.nodes[(n.no+k+i)%len(w.nodes)]
		if o != n && !o.down && o.frozen <= w.now {
			return o
		}
	}
	return w.nodes[(n.no+1)%len(w.nodes)]
}

func (n *node) lead(epoch int) {
	n.epoch = epoch
	n.alarm = 1 << 62
	d, err := broker.Drive(broker.Config{
		Store: n.store, Proposer: &proposer{node: n, epoch: epoch}, NowMs: n.nowMs, Board: (*board)(n), Log: zerolog.Nop(),
	}, broker.Outside{
		Now:  func() int64 { return n.world.now },
		Draw: func(k int64) int64 { return n.world.draws.broker.Int64N(k) },
	})
	if err != nil {
		n.world.fail("I7", "a leader cannot build its queue: %v", err)
	}
	n.term = d
	n.measured = make(map[protocol.HeldAttempt]int64)
	n.duty = newDuty(n, epoch)
	n.world.in(0, n.duty.tick)
	n.stepped()
}

// resign ends what the node believes to lead; whoever waits is told.
func (n *node) resign() {
	if n.term == nil {
		return
	}
	n.term.End()
	n.answered()
	n.poll(&n.syncs)
	n.term = nil
	n.duty.end()
	zombies := n.zombies
	n.zombies = nil
	for _, done := range zombies {
		done(nil, unknown())
	}
	clear(n.results)
}

// answered is stepped after the log answered, or the leadership ended.
func (n *node) answered() {
	n.poll(&n.calls)
	n.stepped()
}

// poll answers the calls that have an answer now.
func (n *node) poll(calls *[]*served) {
	for again := true; again; {
		again = false
		kept := (*calls)[:0]
		for _, s := range *calls {
			v, there, err := s.poll()
			if !there {
				kept = append(kept, s)
				continue
			}
			again = true
			n.world.net.reply(n, s.call, v, err)
		}
		clear((*calls)[len(kept):])
		*calls = kept
	}
}

// stepped answers the syncs that have an answer now and follows the alarm.
func (n *node) stepped() {
	if n.term == nil {
		return
	}
	if n.term.Woken() {
		n.poll(&n.syncs)
	}
	at, epoch := n.term.Alarm(), n.epoch
	if at >= n.alarm {
		return
	}
	n.alarm = at
	n.world.at(at, func() { n.ring(epoch) })
}

// holdOver answers the syncs whose hold is over.
func (n *node) holdOver() {
	w := n.world
	if n.frozen > w.now {
		w.at(n.frozen, n.holdOver)
		return
	}
	n.poll(&n.syncs)
}

func (n *node) ring(epoch int) {
	w := n.world
	switch {
	case n.term == nil || n.epoch != epoch:
	case n.frozen > w.now:
		w.at(n.frozen, func() { n.ring(epoch) })
	default:
		n.alarm = 1 << 62
		n.term.Ring()
		n.stepped()
	}
}

// apply brings the replica to an index. Who applies an entry first shows what it
// changes; the others apply several at once, and are held against it.
func (n *node) apply(to uint64) {
	w := n.world
	for n.applied < to {
		first := n.applied >= w.check.applied
		stop := min(to, n.applied+1+w.draws.log.Uint64N(1<<w.draws.log.IntN(groupBits+1)))
		if first {
			stop = n.applied + 1
		} else {
			stop = min(stop, w.check.applied)
		}
		cursor := n.store.Subscribe(n.applied)
		results := n.applyAll(n.applied+1, stop)
		if first {
			w.check.batch(n, stop, results[0].([]command.Result), cursor)
		} else {
			w.check.same(n, n.applied+1, results, cursor)
		}
		for i := range results {
			index := n.applied + 1 + uint64(i)
			e := w.log.entry(index)
			w.count.Applied += len(e.batch.GetCommands())
			if n.term != nil && e.epoch == n.epoch {
				n.results[index] = results[i].([]command.Result)
			}
		}
		n.applied = stop
		if n.applied >= n.writeAt && n.no < len(w.nodes) {
			n.write()
		}
		if v := n.store.TakeCheckpoint(); v != nil {
			w.check.compareAt(n, v)
		}
	}
}

// applyAll is ApplyBatch of the entries from first to last; a replica that cannot
// apply one stops, which here is a violation.
func (n *node) applyAll(first, last uint64) (out []any) {
	defer func() {
		if r := recover(); r != nil {
			n.world.fail("I19", "replica %d cannot apply log %d to %d: %v", n.no, first, last, r)
		}
	}()
	entries := make([]fsm.Entry, 0, last-first+1)
	for i := first; i <= last; i++ {
		e := n.world.log.entry(i)
		if e.batch == nil {
			var err error
			if e.batch, err = command.Unmarshal(e.data); err != nil {
				panic(err)
			}
		}
		n.able(i, e.batch)
		entries = append(entries, fsm.Entry{Index: i, Batch: n.remembered(e.batch)})
	}
	return n.fsm.ApplyEntries(entries)
}

// remembered is a batch as a replica applies it: whole, but for the bug that the
// simulator's own test puts in.
func (n *node) remembered(batch *command.Batch) *command.Batch {
	if n.forgets <= n.world.now || n == n.world.leader {
		return batch
	}
	cmds := slices.Clone(batch.GetCommands())
	for i, c := range cmds {
		if c.GetCancel() != nil {
			cmds[i] = &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{}}}
		}
	}
	return &command.Batch{ClockMs: batch.GetClockMs(), Commands: cmds}
}

// able fails when the log has what a replica's version does not know (I17).
func (n *node) able(index uint64, batch *command.Batch) {
	for _, c := range batch.GetCommands() {
		if need := max(command.Feature(c), c.GetSetFeature().GetLevel()); need > n.supports {
			n.world.fail("I17", "replica %d, whose version knows feature level %d, has to apply log %d of level %d", n.no, n.supports, index, need)
		}
	}
}

// follow applies what was committed, some time after it was.
func (n *node) follow() {
	w := n.world
	if n.due || n == w.leader {
		return
	}
	n.due = true
	wait := int64(1)<<w.draws.log.IntN(followBits) + w.draws.log.Int64N(50)
	life := n.life
	w.at(max(w.now+wait, n.lag, n.frozen), func() {
		n.due = false
		if n.down || n.life != life || n == w.leader {
			return
		}
		if n.lag > w.now || n.frozen > w.now {
			n.follow()
			return
		}
		n.apply(w.check.applied)
		if n.term != nil {
			n.feed()
		}
	})
}

// feed tells the term what was applied.
func (n *node) feed() {
	if n.term == nil {
		return
	}
	if err := n.term.Feed(); err != nil {
		n.resign() // Run builds again; here the node leads no more
		return
	}
	n.stepped()
}

// kill ends the process; what it did not tell, nobody learns.
func (n *node) kill() {
	n.down = true
	n.life++
	if n.duty != nil {
		n.duty.end()
	}
	n.term, n.zombies = nil, nil
	for _, s := range slices.Concat(n.calls, n.syncs) {
		n.world.net.reset(s.call)
	}
	n.calls, n.syncs = nil, nil
}

// start brings the replica back from its disk, or from nothing.
func (n *node) start(empty bool) {
	w := n.world
	n.down = false
	n.reset()
	if empty {
		n.snapshot = nil
	}
	if n.snapshot != nil {
		n.restore(n.snapshot)
	}
	n.apply(min(w.check.applied, w.log.last()))
	n.follow()
}

// snapshot is what a replica wrote, and the state that it wrote.
type snapshot struct {
	data     []byte
	view     *state.View
	compared bool // the view's digest
}

func (n *node) restore(s *snapshot) {
	w := n.world
	w.count.Restores++
	if err := fsm.Verify(bytes.NewReader(s.data)); err != nil {
		w.fail("I19", "replica %d cannot verify its snapshot: %v", n.no, err)
	}
	if err := n.fsm.Restore(io.NopCloser(bytes.NewReader(s.data))); err != nil {
		w.fail("I17", "replica %d cannot restore its snapshot: %v", n.no, err)
	}
	n.applied = s.view.Index()
	if got, want := totalsOf(n.store.View()), totalsOf(s.view); got != want {
		w.fail("I17", "replica %d restored %+v, and the snapshot was of %+v", n.no, got, want) // counted anew, so I16 too
	}
	if !s.compared {
		s.compared = true
		w.check.compareAt(n, s.view)
	}
	w.check.digest(n)
}

// write makes a snapshot of the replica.
func (n *node) write() {
	n.writeAt = n.applied + snapshotGap + n.world.draws.log.Uint64N(snapshotGap)
	snap, err := n.fsm.Snapshot()
	sink := &memorySink{}
	if err == nil {
		err = snap.Persist(sink)
		snap.Release()
	}
	if err != nil {
		n.world.fail("I17", "replica %d cannot write a snapshot: %v", n.no, err)
	}
	n.snapshot = &snapshot{data: sink.Bytes(), view: n.store.View()}
}

// memorySink implements raft.SnapshotSink.
type memorySink struct{ bytes.Buffer }

// ID implements raft.SnapshotSink.
func (*memorySink) ID() string { return "" }

// Close implements raft.SnapshotSink.
func (*memorySink) Close() error { return nil }

// Cancel implements raft.SnapshotSink.
func (*memorySink) Cancel() error { return nil }

// board takes soft state; it must never see any behind a fence that is not current.
type board node

// Update implements broker.Board.
func (b *board) Update(agent protocol.AgentID, updates []protocol.AttemptUpdate) []protocol.AttemptReply {
	n := (*node)(b)
	out := make([]protocol.AttemptReply, len(updates))
	for i, u := range updates {
		if j := n.store.Job(u.Job); j == nil || j.Lease == nil || j.Attempt != u.Attempt || j.Lease.Agent != agent {
			n.world.fail("I6", "progress of attempt %d of %s was taken, which is not agent %s's", u.Attempt, u.Job, agent)
		}
		out[i] = protocol.AttemptReply{Job: u.Job, Attempt: u.Attempt}
		if u.StartedMs > 0 {
			n.measured[protocol.HeldAttempt{Job: u.Job, Attempt: u.Attempt}] = n.nowMs() - u.StartedMs
		}
	}
	return out
}

// Measured implements broker.Board.
func (b *board) Measured(job protocol.JobID, attempt uint32) (int64, state.Facts) {
	return b.measured[protocol.HeldAttempt{Job: job, Attempt: attempt}], state.Facts{}
}
