package state

import (
	"sync/atomic"

	"github.com/hashicorp/go-memdb"

	"windlass/protocol"
)

// Store is the replicated state of one node: any number of readers, one writer
// (the FSM).
type Store struct {
	view       atomic.Pointer[View] // replaced as a whole by every commit and restore
	checkpoint atomic.Pointer[View] // as it was at the newest checkpoint, until somebody takes it

	// The writer's alone.
	db     *memdb.MemDB
	leases leases
	txn    *Txn // reused by every batch
}

// New returns an empty store.
func New() *Store {
	return NewBuilder().store(Meta{})
}

// View returns the state after the newest batch.
func (s *Store) View() *View { return s.view.Load() }

// Job returns a job as it is after the newest batch, or nil.
func (s *Store) Job(id protocol.JobID) *Job { return s.View().Job(id) }

// Endpoint returns an endpoint as it is after the newest batch, or nil.
func (s *Store) Endpoint(org, id string) *Endpoint { return s.View().Endpoint(org, id) }

// Subscribe returns a cursor over the batches after the given raft index, which
// is usually that of a View taken just before: together they miss and repeat
// nothing. The cursor reports ErrTooOld when the batches are not kept any more.
func (s *Store) Subscribe(after uint64) *Cursor { return s.View().feed.subscribe(after) }

// Replace swaps in restored tables and abandons the cursors of the old ones.
// Only the FSM calls it, never while a Txn is open.
func (s *Store) Replace(b *Builder, meta Meta) {
	fresh := b.store(meta)
	old := s.view.Load()
	s.db, s.leases, s.txn = fresh.db, fresh.leases, nil
	s.view.Store(fresh.view.Load())
	close(old.feed.abandoned)
}

// MarkCheckpoint keeps the newest View for TakeCheckpoint. Only the FSM calls it,
// right after the commit of the entry that is the checkpoint.
func (s *Store) MarkCheckpoint() { s.checkpoint.Store(s.view.Load()) }

// TakeCheckpoint returns the View at the newest checkpoint, once: whoever takes
// it lets go of it soon, because it keeps every row of that moment in memory. nil:
// there was none since the last call.
func (s *Store) TakeCheckpoint() *View { return s.checkpoint.Swap(nil) }
