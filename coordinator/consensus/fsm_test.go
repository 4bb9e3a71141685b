package consensus

import (
	"context"
	"encoding/json"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/command"
)

// ledger is a state machine that remembers the value of every PutSettings.
type ledger struct {
	mu      sync.Mutex
	Clock   int64
	Values  []int64
	Entries int
	Fenced  bool
}

func (f *ledger) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *ledger) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]any, len(logs))
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		b, err := command.Unmarshal(l.Data)
		if err != nil {
			out[i] = err
			continue
		}
		f.Entries++
		f.Clock = max(f.Clock, b.ClockMs)
		results := make([]command.Result, len(b.Commands))
		for j, c := range b.Commands {
			v := c.GetPutSettings().MaxBytes
			f.Values = append(f.Values, v)
			results[j] = command.Result{Index: l.Index, Count: v}
		}
		out[i] = results
	}
	return out
}

func (f *ledger) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, err := json.Marshal(f)
	return ledgerSnapshot(raw), err
}

func (f *ledger) Restore(r io.ReadCloser) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	fresh := ledger{}
	err := json.NewDecoder(r).Decode(&fresh)
	f.Clock, f.Values, f.Entries, f.Fenced = fresh.Clock, fresh.Values, fresh.Entries, fresh.Fenced
	return err
}

func (f *ledger) values() []int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]int64(nil), f.Values...)
}

func (f *ledger) fenced() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Fenced
}

func (f *ledger) clock() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.Clock
}

type ledgerSnapshot []byte

func (s ledgerSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return err
	}
	return sink.Close()
}

func (s ledgerSnapshot) Release() {}

func put(v int64) *command.Command {
	return &command.Command{Op: &command.Command_PutSettings{PutSettings: &command.PutSettings{MaxBytes: v}}}
}

// member is a node under test with its state machine.
type member struct {
	*Node
	fsm *ledger
}

func start(t *testing.T, cfg Config) *member {
	t.Helper()
	m, err := open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.end(t) })
	return m
}

func open(cfg Config) (*member, error) {
	f := &ledger{}
	cfg.FSM = f
	if cfg.Expect == 0 {
		cfg.Expect = 1
	}
	cfg.Log = zerolog.Nop()
	n, err := Open(cfg)
	return &member{n, f}, err
}

// openIn is open with a directory that may be refused.
func openIn(path string, cfg Config) (*member, error) {
	d, err := OpenDirectory(path)
	if err != nil {
		return nil, err
	}
	cfg.Directory = d
	return open(cfg)
}

// directory takes the directory, or ends the test.
func directory(path string) *Directory {
	d, err := OpenDirectory(path)
	if err != nil {
		panic(err)
	}
	return d
}

func (m *member) end(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := m.Close(ctx); err != nil {
		t.Error(err)
	}
}

func (m *member) lead(t *testing.T) {
	t.Helper()
	for range m.Leadership() {
		if m.IsLeader() {
			break
		}
	}
	if err := m.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (m *member) mustPut(t *testing.T, values ...int64) {
	t.Helper()
	for _, v := range values {
		results, err := m.Proposer().Propose(t.Context(), put(v))
		if err != nil {
			t.Fatal(err)
		}
		if len(results) != 1 || results[0].Count != v {
			t.Fatalf("put %d answered %v", v, results)
		}
	}
}

func nop() zerolog.Logger { return zerolog.Nop() }
