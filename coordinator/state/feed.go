package state

import (
	"context"
	"errors"
	"sync/atomic"
)

var (
	// ErrAbandoned says that a snapshot replaced the tables: the subscriber
	// must rebuild from a new View and subscribe again.
	ErrAbandoned = errors.New("state was replaced by a snapshot")
	// ErrTooOld says that changes after the given index are not kept any more:
	// take a new View and subscribe after its index.
	ErrTooOld = errors.New("changes are not kept back to that index")
)

// keptChanges is how many batches a subscription may lie behind the newest one.
// It only has to span the moment between a View and the Subscribe that follows.
const keptChanges = 64

// feed is a linked list of changes with one writer. Cursors hold their place in
// it; what lies behind the slowest cursor is garbage.
type feed struct {
	tail      atomic.Pointer[change]
	oldest    atomic.Pointer[change] // keptChanges behind tail
	abandoned chan struct{}
}

// change is one element; ready is closed when next is set.
type change struct {
	changes Changes
	age     uint64 // position in the list
	next    atomic.Pointer[change]
	ready   chan struct{}
}

func newFeed(index uint64) *feed {
	f := &feed{abandoned: make(chan struct{})}
	head := &change{changes: Changes{Index: index}, ready: make(chan struct{})}
	f.tail.Store(head)
	f.oldest.Store(head)
	return f
}

// append is called by the single writer.
func (f *feed) append(c Changes) {
	tail := f.tail.Load()
	node := &change{changes: c, age: tail.age + 1, ready: make(chan struct{})}
	tail.next.Store(node)
	f.tail.Store(node)
	close(tail.ready)
	if oldest := f.oldest.Load(); node.age-oldest.age > keptChanges {
		f.oldest.Store(oldest.next.Load())
	}
}

// subscribe returns a cursor whose first changes are those after the index.
func (f *feed) subscribe(after uint64) *Cursor {
	c := &Cursor{abandoned: f.abandoned}
	at := f.tail.Load()
	if after < at.changes.Index {
		at = f.oldest.Load()
	}
	if at.changes.Index > after {
		c.err = ErrTooOld
		return c
	}
	for next := at.next.Load(); next != nil && next.changes.Index <= after; next = at.next.Load() {
		at = next
	}
	c.at, c.after = at, after
	return c
}

// Cursor is one subscriber's place in the feed. It belongs to one goroutine and
// needs no closing.
type Cursor struct {
	abandoned <-chan struct{}
	after     uint64 // a View is published before its changes are in the feed: those up to here it held already
	at        *change
	err       error
}

// Next waits for the changes of the next batch. Errors: the context's,
// ErrAbandoned, ErrTooOld.
func (c *Cursor) Next(ctx context.Context) (Changes, error) {
	for {
		changes, ok, err := c.TryNext()
		if ok || err != nil {
			return changes, err
		}
		select {
		case <-c.at.ready:
		case <-c.abandoned:
		case <-ctx.Done():
			return Changes{}, context.Cause(ctx)
		}
	}
}

// TryNext returns the changes of the next batch, or false when there is none yet.
func (c *Cursor) TryNext() (Changes, bool, error) {
	if c.err != nil {
		return Changes{}, false, c.err
	}
	select {
	case <-c.abandoned:
		c.err, c.at = ErrAbandoned, nil
		return Changes{}, false, c.err
	default:
	}
	for next := c.at.next.Load(); next != nil; next = c.at.next.Load() {
		c.at = next
		if next.changes.Index > c.after {
			return next.changes, true, nil
		}
	}
	return Changes{}, false, nil
}
