package consensus

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"windlass/protocol"
)

// verifier answers "does this node still lead, and is its state as new as that
// leadership" for any number of callers with one round of messages: a check
// serves all who asked before it began, and none who asked after.
type verifier struct {
	raft    *raft.Raft
	check   func() error               // raft's own check
	fresh   func(since time.Time) bool // a majority answered to something sent since
	track   *tracker
	barrier func() error // commits an entry, waits until the FSM is there, settles the term
	logs    raft.LogStore
	ended   sync.WaitGroup
	wake    chan struct{} // capacity 1

	settled atomic.Uint64 // term in which a barrier has been passed

	mu     sync.Mutex
	next   *check // for the next round; nil when nobody waits
	closed bool
}

// check is one round.
type check struct {
	done  chan struct{}
	index uint64 // what the FSM must have applied
	err   error
}

func newVerifier(v *verifier) *verifier {
	v.wake = make(chan struct{}, 1)
	v.ended.Go(v.run)
	return v
}

// verify succeeds when this node led at some moment after the call. A state
// that has applied the index it returns holds everything that was committed
// before.
func (v *verifier) verify(ctx context.Context) (uint64, error) {
	v.mu.Lock()
	if v.closed {
		v.mu.Unlock()
		return 0, protocol.NewError(protocol.CodeUnavailable, "this coordinator is shutting down")
	}
	c := v.next
	if c == nil {
		c = &check{done: make(chan struct{})}
		v.next = c
		v.wake <- struct{}{} // one token for one check: never full
	}
	v.mu.Unlock()
	select {
	case <-c.done:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	if c.err != nil {
		return 0, proposalError(c.err, false)
	}
	return c.index, nil
}

func (v *verifier) run() {
	for range v.wake {
		v.mu.Lock()
		c := v.next
		v.next = nil
		v.mu.Unlock()
		c.index, c.err = v.round()
		close(c.done)
	}
}

// round is one check. Until a barrier has passed in this term, the commit index
// may lag behind what earlier leaders acknowledged.
func (v *verifier) round() (uint64, error) {
	term := v.raft.CurrentTerm()
	if v.settled.Load() != term {
		err := v.barrier()
		return v.track.index(), err
	}
	commit := v.raft.CommitIndex()
	if err := v.lead(); err != nil {
		return 0, err
	}
	return v.visible(commit)
}

// lead succeeds when this node led at some moment after the call: raft's check
// alone may be confirmed by what a follower had answered before.
func (v *verifier) lead() error {
	began := time.Now()
	for {
		if err := v.check(); err != nil {
			return err
		}
		if v.fresh(began) {
			return nil
		}
	}
}

// visible is the newest entry at or below index that the FSM gets to see: raft
// keeps the markers of leaderships and barriers to itself, so waiting for one
// would be for ever. Almost always it is the first one looked at.
func (v *verifier) visible(index uint64) (uint64, error) {
	var entry raft.Log
	for applied := v.track.index(); index > applied; index-- {
		if err := v.logs.GetLog(index, &entry); err != nil {
			return 0, err
		}
		if entry.Type == raft.LogCommand || entry.Type == raft.LogConfiguration {
			break
		}
	}
	return index, nil
}

func (v *verifier) close() {
	v.mu.Lock()
	if !v.closed {
		v.closed = true
		close(v.wake)
	}
	v.mu.Unlock()
	v.ended.Wait()
}
