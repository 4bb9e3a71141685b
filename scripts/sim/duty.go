package main

import (
	"context"
	"iter"
	"time"

	"windlass/coordinator/archive"
	"windlass/coordinator/command"
)

// The periods of the leader's duties (coordinator/archiver.go, feature.go). What
// costs nothing there every second is looked at less often here.
const (
	dutyTick     = 10 * second
	archiveParts = 12
	archiveMost  = 5 * minute
	archiveRetry = 15 * second
)

// duty is what a leader does beside serving: it raises the feature level, and
// lets the archive's keeper, which is the real one, do its passes.
type duty struct {
	node   *node
	epoch  int
	keeper archive.Keeper

	due, retry int64 // of the next pass
	raising    bool
	next       func() (*proposal, bool) // of the pass under way; nil: none
	stop       func()
	failed     error // how the pass ended
}

// proposal is what a pass waits for. A pass is a coroutine: it runs until it
// proposes something, and goes on when that is answered.
type proposal struct {
	cmds    []*command.Command
	results []command.Result
	err     error
}

func newDuty(n *node, epoch int) *duty {
	w := n.world
	d := &duty{node: n, epoch: epoch}
	ms := func(v int64) time.Duration { return time.Duration(v) * time.Millisecond }
	d.keeper = archive.Keeper{
		After: ms(w.plan.After), Keep: ms(w.plan.Keep), Count: w.plan.Kept,
		Store: n.store, Blobs: &w.vault, Archive: w.archive, NowMs: n.nowMs,
	}
	d.due = w.now + d.period()
	return d
}

func (d *duty) period() int64 {
	p := d.node.world.plan
	return min(max(min(p.After, p.Keep)/archiveParts, second), archiveMost)
}

// over reports whether the leadership has ended.
func (d *duty) over() bool { return d.node.term == nil || d.node.epoch != d.epoch || d.node.down }

// tick does what is due.
func (d *duty) tick() {
	w := d.node.world
	switch {
	case d.over():
		d.end()
		return
	case d.node.frozen > w.now:
		w.at(d.node.frozen, d.tick)
		return
	}
	d.raise()
	view := d.node.store.View()
	pressed := d.keeper.Pressed(view)
	if d.next == nil && w.now >= d.retry && (pressed || w.now >= d.due) {
		if w.now >= d.due {
			d.due = w.now + d.period()
		}
		d.pass(pressed)
	}
	w.in(dutyTick, d.tick)
}

// raise proposes the feature level that every replica supports.
func (d *duty) raise() {
	var supported []uint32
	for _, n := range d.node.world.nodes {
		supported = append(supported, n.supports)
	}
	level := command.CommonFeature(supported)
	if d.raising || level <= max(d.node.store.View().Meta().Feature, command.FeatureBase) {
		return
	}
	d.raising = true
	set := &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: level}}}
	d.propose([]*command.Command{set}, func([]command.Result, error) { d.raising = false })
}

func (d *duty) propose(cmds []*command.Command, done func([]command.Result, error)) {
	(&proposer{node: d.node, epoch: d.epoch}).Enqueue(cmds, done)
}

// pass begins a pass of the keeper.
func (d *duty) pass(pressed bool) {
	d.next, d.stop = iter.Pull(func(yield func(*proposal) bool) {
		d.keeper.Propose = func(_ context.Context, cmds ...*command.Command) ([]command.Result, error) {
			p := &proposal{cmds: cmds}
			if !yield(p) {
				return nil, errLost
			}
			return p.results, p.err
		}
		d.failed = d.keeper.Pass(context.Background(), pressed)
	})
	d.goOn()
}

// goOn lets the pass run to its next proposal, or to its end.
func (d *duty) goOn() {
	w := d.node.world
	p, more := d.next()
	if !more {
		w.say("replica %d archived what was due: %v", d.node.no, d.failed)
		d.next, d.stop = nil, nil
		if d.failed != nil {
			d.retry = w.now + archiveRetry
		}
		return
	}
	d.propose(p.cmds, func(r []command.Result, err error) {
		p.results, p.err = r, err
		w.in(0, func() {
			if d.next != nil && !d.over() {
				d.goOn()
			}
		})
	})
}

// end gives up the pass under way.
func (d *duty) end() {
	if d.stop != nil {
		d.stop()
		d.next, d.stop = nil, nil
	}
}
