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
	store *state.Store
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
	responses := make([]any, len(logs))
	if len(logs) == 0 {
		return responses
	}
	txn, open := f.store.Begin(), true
	last := f.store.View().Index()
	for i, log := range logs {
		if log.Index <= last {
			panic(fmt.Errorf("cannot apply log %d: log %d was applied before", log.Index, last))
		}
		last = log.Index
		if !open {
			txn, open = f.store.Begin(), true
		}
		if log.Type != raft.LogCommand {
			continue
		}
		batch, err := command.Unmarshal(log.Data)
		if err != nil {
			panic(fmt.Errorf("cannot apply log %d of term %d: %w", log.Index, log.Term, err))
		}
		var checkpoint bool
		if responses[i], checkpoint = apply(txn, log.Index, batch); checkpoint {
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
