package board

import (
	"context"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Subscription wakes one reader when its job changed. Signals carry nothing
// and merge: a slow reader finds the newest state, never a backlog.
type Subscription struct {
	board *Board
	job   protocol.JobID
	c     chan struct{}
}

// Subscribe returns a subscription to the changes of one job. Its first signal
// is pending at once; the caller must Close it.
func (b *Board) Subscribe(job protocol.JobID) *Subscription {
	s := &Subscription{board: b, job: job, c: make(chan struct{}, 1)}
	s.c <- struct{}{}
	b.mu.Lock()
	defer b.mu.Unlock()
	subs := b.watch[job]
	if subs == nil {
		subs = make(map[*Subscription]struct{}, 1)
		b.watch[job] = subs
	}
	subs[s] = struct{}{}
	return s
}

// C returns the channel that signals a change.
func (s *Subscription) C() <-chan struct{} { return s.c }

// Close ends the subscription; it may be called twice.
func (s *Subscription) Close() {
	s.board.mu.Lock()
	defer s.board.mu.Unlock()
	subs := s.board.watch[s.job]
	delete(subs, s)
	if len(subs) == 0 {
		delete(s.board.watch, s.job)
	}
}

// wake signals everyone who watches a job; the lock is held.
func (b *Board) wake(job protocol.JobID) {
	for s := range b.watch[job] {
		select {
		case s.c <- struct{}{}:
		default: // a signal is pending: the reader will see this change with it
		}
	}
}

// Observe takes the changes of one applied batch: it forgets attempts that
// ended and wakes the streams of the jobs that changed.
func (b *Board) Observe(changes *state.Changes) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range changes.List {
		c := &changes.List[i]
		switch {
		case c.Job != nil:
			if e := b.entries[c.Job.ID]; e != nil && (c.Job.Lease == nil || c.Job.Attempt > e.soft.Attempt) {
				b.drop(c.Job.ID)
			}
			b.wake(c.Job.ID)
		case !c.Evicted.IsZero():
			b.drop(c.Evicted)
			b.wake(c.Evicted)
		}
	}
}

// Resync is for a gap in the change feed: it forgets every attempt that the
// job table does not lease any more and wakes every stream.
func (b *Board) Resync() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, e := range b.entries {
		if row := b.cfg.Job(id); row == nil || row.Lease == nil || row.Attempt != e.soft.Attempt {
			b.drop(id)
		}
	}
	for id := range b.watch {
		b.wake(id)
	}
}

// Run follows the job table until ctx ends, which is its only end.
func (b *Board) Run(ctx context.Context, store *state.Store) {
	for ctx.Err() == nil {
		view := store.View()
		b.Resync()
		cursor := store.Subscribe(view.Index())
		for {
			changes, err := cursor.Next(ctx)
			if err != nil {
				break // the context's end, or a snapshot replaced the tables: start over
			}
			b.Observe(&changes)
		}
	}
}
