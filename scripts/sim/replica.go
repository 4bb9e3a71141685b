package main

import (
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

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
		s := c.job(ch.Job.ID)
		if s == nil || !slices.Contains(s.Note.versions, version{ch.Job.Index, rowSum(ch.Job)}) {
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
	endpoints := v.Endpoints("")
	for _, e := range endpoints {
		byEndpoint[e.Org+"/"+e.ID] = &count{}
	}
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		if !j.Live() {
			return true
		}
		e := byEndpoint[j.Org+"/"+j.Target]
		if e == nil {
			c.fail("I16", "job %s lives, and its endpoint %s does not exist", j.ID, j.Target)
		}
		e.live++
		if j.Waits() {
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
}
