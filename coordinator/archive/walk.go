package archive

import (
	"bytes"
	"context"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Walk goes over the archived jobs of a view, newest id first. It reads a
// segment when it comes to its range, and one block at a time. It belongs to one
// goroutine.
type Walk struct {
	a       *Archive
	before  protocol.JobID // exclusive; the zero id: from the newest on
	cursors []*cursor
}

// cursor is the place of a walk in one segment.
type cursor struct {
	g     *state.Segment
	x     *index
	block int // of list
	list  []item
	bound protocol.JobID // nothing above it is left; exact once list is not empty
	ended bool
}

// item is one record of the block that a cursor is in.
type item struct {
	id     protocol.JobID
	record []byte
}

// Newest returns a walk over the jobs below before, or over all of them when it
// is the zero id. Nothing is read before Next.
func (a *Archive) Newest(view *state.View, before protocol.JobID) *Walk {
	w := &Walk{a: a, before: before}
	for _, g := range view.Segments() {
		if before.IsZero() || bytes.Compare(g.First[:], before[:]) < 0 {
			w.cursors = append(w.cursors, &cursor{g: g, bound: g.Last})
		}
	}
	return w
}

// Bound returns an id that no job that is left lies above; false when none is
// left. It reads nothing.
func (w *Walk) Bound() (bound protocol.JobID, ok bool) {
	for _, c := range w.cursors {
		if !c.ended && (!ok || bytes.Compare(c.bound[:], bound[:]) > 0) {
			bound, ok = c.bound, true
		}
	}
	if ok && !w.before.IsZero() && bytes.Compare(bound[:], w.before[:]) > 0 {
		bound = w.before
	}
	return bound, ok
}

// Next returns the job with the highest id that is left, in its newest state, or
// nil at the end. Jobs whose time is over are left out. After an error, which is
// as that of Archive.Job, the walk is over.
func (w *Walk) Next(ctx context.Context) (*state.Job, error) {
	for {
		top, err := w.top(ctx)
		if top == nil || err != nil {
			return nil, err
		}
		var newest *state.Job
		for _, c := range w.cursors { // a job that was run again is in several
			if c.ended || len(c.list) == 0 || c.bound != top.bound || c == top {
				continue
			}
			if newest, err = w.take(c, newest); err != nil {
				return nil, err
			}
		}
		if newest, err = w.take(top, newest); err != nil {
			return nil, err
		}
		if !w.a.Expired(EndedMs(newest)) {
			return newest, nil
		}
	}
}

// top returns a cursor whose next record has the highest id of all.
func (w *Walk) top(ctx context.Context) (*cursor, error) {
	for {
		var top *cursor
		for _, c := range w.cursors {
			if c.ended {
				continue
			}
			// Of equal bounds, one that is not read yet goes first: it may have the id.
			if above := top == nil || bytes.Compare(c.bound[:], top.bound[:]) > 0; above || c.bound == top.bound && len(c.list) == 0 {
				top = c
			}
		}
		if top == nil || len(top.list) > 0 {
			return top, nil
		}
		if err := w.load(ctx, top); err != nil {
			return nil, err
		}
	}
}

// load reads the cursor's next block that has something for the walk.
func (w *Walk) load(ctx context.Context, c *cursor) error {
	if c.x == nil {
		x, err := w.a.index(ctx, c.g)
		if err != nil {
			return err
		}
		c.x, c.block = x, len(x.blocks)
		if !w.before.IsZero() {
			n, _ := x.find(w.before)
			c.block = n + 1
		}
	}
	if c.block == 0 {
		c.ended = true
		return nil
	}
	c.block--
	raw, err := w.a.block(ctx, c.g, c.x, c.block)
	if err != nil {
		return err
	}
	c.list = c.list[:0]
	for r := (records{raw: raw}); ; {
		id, record, ok := r.next()
		if !ok {
			break
		}
		if w.before.IsZero() || bytes.Compare(id[:], w.before[:]) < 0 {
			c.list = append(c.list, item{id, record})
		}
	}
	c.settle()
	return nil
}

// settle sets the bound to the next record, or to below the block that is done.
func (c *cursor) settle() {
	switch n := len(c.list); {
	case n > 0:
		c.bound = c.list[n-1].id
	case c.block == 0:
		c.ended = true
	default:
		c.bound = c.x.blocks[c.block].first // the next one is below it
	}
}

// take removes the cursor's next record and returns the newer one of it and j.
func (w *Walk) take(c *cursor, j *state.Job) (*state.Job, error) {
	last := len(c.list) - 1
	it := c.list[last]
	c.list = c.list[:last]
	c.settle()
	found, err := w.a.decode(c.g, it.id, it.record)
	if err != nil || j != nil && j.Index >= found.Index {
		return j, err
	}
	return found, nil
}
