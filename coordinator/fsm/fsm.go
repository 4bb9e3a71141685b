// Package fsm applies the replicated log to the state, and writes and reads
// its snapshots.
package fsm

import (
	"fmt"
	"io"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
)

// FSM is the state machine that raft drives. It knows no clock, no randomness
// and none of its readers.
type FSM struct {
	store   *state.Store
	decoder command.Decoder
}

var (
	_ raft.FSM         = (*FSM)(nil)
	_ raft.BatchingFSM = (*FSM)(nil)
)

// New returns a state machine that writes to the store and is its only writer.
func New(store *state.Store) *FSM { return &FSM{store: store} }

// Apply applies one log; see ApplyBatch.
func (f *FSM) Apply(log *raft.Log) any { return f.ApplyBatch([]*raft.Log{log})[0] }

// ApplyBatch applies the logs in one transaction. The response of each command
// log is a []command.Result in the order of its commands; that of any other log
// is nil. Results do not depend on how logs are grouped into calls.
//
// It panics with an error, which wraps command.ErrCorrupt, command.ErrUnknown or
// command.ErrInvalid, when a log cannot be read: going on without it would make
// this node different from the others, so the process has to end.
func (f *FSM) ApplyBatch(logs []*raft.Log) []any {
	return f.apply(len(logs), func(i int) Entry {
		log := logs[i]
		if log.Type != raft.LogCommand {
			return Entry{Index: log.Index}
		}
		batch, err := f.decoder.Decode(log.Data)
		if err != nil {
			panic(fmt.Errorf("cannot apply log %d of term %d: %w", log.Index, log.Term, err))
		}
		return Entry{Index: log.Index, Batch: batch}
	})
}

// Entry is one log that was read already.
type Entry struct {
	Index uint64
	Batch *command.Batch // nil: the log holds no commands
}

// ApplyEntries is ApplyBatch for a caller that has read the logs itself. Several
// state machines may be given the same batches: applying changes none of them.
func (f *FSM) ApplyEntries(entries []Entry) []any {
	return f.apply(len(entries), func(i int) Entry { return entries[i] })
}

// apply reads n entries one after the other, so that only one of them is in
// memory beside what it leads to.
func (f *FSM) apply(n int, entry func(int) Entry) []any {
	responses := make([]any, n)
	if n == 0 {
		return responses
	}
	txn, open := f.store.Begin(), true
	last := f.store.View().Index()
	for i := range n {
		e := entry(i)
		if e.Index <= last {
			panic(fmt.Errorf("cannot apply log %d: log %d was applied before", e.Index, last))
		}
		last = e.Index
		if !open {
			txn, open = f.store.Begin(), true
		}
		if e.Batch == nil {
			continue
		}
		var checkpoint bool
		if responses[i], checkpoint = apply(txn, e.Index, e.Batch); checkpoint {
			// Every node must see the state at exactly this log, however raft
			// grouped the logs.
			txn.Commit(last)
			f.store.MarkCheckpoint()
			open = false
		}
	}
	if open {
		txn.Commit(last)
	}
	return responses
}

// Snapshot returns the state after the newest batch. It is a pointer, so that
// applying goes on while it is written.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	return &snapshot{view: f.store.View()}, nil
}

// Restore replaces the whole state, or leaves it as it was on an error.
func (f *FSM) Restore(source io.ReadCloser) error {
	defer source.Close() // raft closes it too; the data was verified by then
	builder := state.NewBuilder()
	meta, err := read(source, builder)
	if err != nil {
		return fmt.Errorf("cannot restore snapshot: %w", err)
	}
	f.store.Replace(builder, meta)
	return nil
}
