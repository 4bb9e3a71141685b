package consensus

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// tracker stands between raft and the FSM and knows how far the FSM has come.
// raft's own applied index is only how far it has handed out.
type tracker struct {
	base  context.Context // ends when the node stops
	fsm   raft.FSM
	batch raft.BatchingFSM // fsm, when it takes batches
	snaps raft.SnapshotStore
	fail  func(error) error
	// halted: the state machine refused an entry, and sees no other.
	halted atomic.Bool
	loop   atomic.Pointer[snapshotLoop] // nil until raft has started: its own restore is none

	installs atomic.Uint64 // restores after raft had started

	mu      sync.Mutex
	applied uint64
	waiters map[chan struct{}]uint64
}

func newTracker(base context.Context, f raft.FSM, snaps raft.SnapshotStore) *tracker {
	batch, _ := f.(raft.BatchingFSM)
	return &tracker{base: base, fsm: f, batch: batch, snaps: snaps, waiters: make(map[chan struct{}]uint64)}
}

// ApplyBatch implements raft.BatchingFSM.
func (t *tracker) ApplyBatch(logs []*raft.Log) (out []any) {
	if t.halted.Load() {
		return make([]any, len(logs)) // the proposer acknowledges nothing any more
	}
	defer func() {
		if haltOnPanic(recover(), t.fail) {
			t.halted.Store(true)
			out = make([]any, len(logs))
		}
	}()
	if t.batch != nil {
		out = t.batch.ApplyBatch(logs)
	} else {
		out = make([]any, len(logs))
		for i, l := range logs {
			if l.Type == raft.LogCommand {
				out[i] = t.fsm.Apply(l)
			}
		}
	}
	t.advance(logs[len(logs)-1].Index)
	return out
}

// Apply implements raft.FSM.
func (t *tracker) Apply(l *raft.Log) any {
	return t.ApplyBatch([]*raft.Log{l})[0]
}

// Snapshot implements raft.FSM.
func (t *tracker) Snapshot() (raft.FSMSnapshot, error) {
	if t.halted.Load() {
		return nil, errHalted
	}
	s, err := t.fsm.Snapshot()
	if err != nil {
		return nil, err
	}
	return stopSnapshot{s, t.base}, nil
}

// stopSnapshot is given up when the node stops: raft waits for it, which for a
// large state is longer than a stop may take. The log has everything.
type stopSnapshot struct {
	raft.FSMSnapshot
	base context.Context
}

// Persist implements raft.FSMSnapshot.
func (s stopSnapshot) Persist(sink raft.SnapshotSink) error {
	return s.FSMSnapshot.Persist(stopSink{sink, s.base})
}

type stopSink struct {
	raft.SnapshotSink
	base context.Context
}

// Write implements io.Writer.
func (s stopSink) Write(p []byte) (int, error) {
	if s.base.Err() != nil {
		return 0, errStopping
	}
	return s.SnapshotSink.Write(p)
}

// errStopping is in raft's log when a stop came in between.
var errStopping = errors.New("this coordinator stops")

// stopRestore is the same for a snapshot that is being read.
type stopRestore struct {
	io.ReadCloser
	base context.Context
}

// Read implements io.Reader.
func (r stopRestore) Read(p []byte) (int, error) {
	if r.base.Err() != nil {
		return 0, errStopping
	}
	return r.ReadCloser.Read(p)
}

// errHalted keeps raft from believing in what was not applied.
var errHalted = errors.New("the state machine has halted")

// Restore implements raft.FSM. The index is that of the newest snapshot: raft
// has it in the store before it restores, and an older one is never used.
func (t *tracker) Restore(r io.ReadCloser) error {
	if t.halted.Load() {
		return errHalted
	}
	list, err := t.snaps.List()
	if err != nil {
		return err
	}
	if loop := t.loop.Load(); loop != nil && len(list) > 0 {
		t.installs.Add(1)
		loop.installed(list[0].Index)
	}
	if err := t.fsm.Restore(stopRestore{r, t.base}); err != nil {
		return err
	}
	if len(list) > 0 {
		t.advance(list[0].Index)
	}
	return nil
}

func (t *tracker) advance(index uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.applied = max(t.applied, index)
	for ch, want := range t.waiters {
		if want <= t.applied {
			delete(t.waiters, ch)
			close(ch)
		}
	}
}

// index is the newest entry that the FSM has applied.
func (t *tracker) index() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.applied
}

// wait returns once the FSM has applied index, or with ctx's error.
func (t *tracker) wait(ctx context.Context, index uint64) error {
	t.mu.Lock()
	if t.applied >= index {
		t.mu.Unlock()
		return nil
	}
	ch := make(chan struct{})
	t.waiters[ch] = index
	t.mu.Unlock()
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		t.mu.Lock()
		delete(t.waiters, ch)
		t.mu.Unlock()
		return context.Cause(ctx)
	}
}
