package consensus

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/command"
)

// gated is a state machine that applies commands when it is let.
type gated struct {
	*ledger
	gate chan struct{}
}

func (f gated) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f gated) ApplyBatch(logs []*raft.Log) []any {
	if logs[0].Type == raft.LogCommand {
		<-f.gate
	}
	return f.ledger.ApplyBatch(logs)
}

// A barrier that waits behind a slow entry when the node is closed: raft, told to
// stop, may or may not answer it before its state machine's loop ends.
func TestCloseWaitsForWhatRaftWasAsked(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			f := gated{&ledger{}, make(chan struct{})}
			n, err := Open(Config{Memory: NewMemory(), Expect: 1, FSM: f, Log: zerolog.Nop()})
			if err != nil {
				t.Fatal(err)
			}
			m := &member{n, f.ledger}
			m.lead(t)
			data, err := command.Marshal(1, []*command.Command{put(1)})
			if err != nil {
				t.Fatal(err)
			}
			n.raft.Apply(data, 0)
			synctest.Wait()
			asked := make(chan error, 1)
			go func() { asked <- n.Barrier(context.Background()) }()
			synctest.Wait()
			go func() {
				pass(time.Second) // until Close waits, too
				close(f.gate)
			}()
			m.end(t)
			if err := <-asked; err != nil {
				t.Error(err)
			}
			if err := n.Barrier(t.Context()); err == nil {
				t.Error("a closed node answers")
			}
		})
	}
}

// endless is a state whose snapshot has no end.
type endless struct {
	*ledger
	begun chan struct{}
}

func (f endless) Snapshot() (raft.FSMSnapshot, error) { return f, nil }

func (f endless) Persist(sink raft.SnapshotSink) error {
	close(f.begun)
	for {
		if _, err := sink.Write(make([]byte, 1<<10)); err != nil {
			return errors.Join(err, sink.Cancel())
		}
	}
}

func (f endless) Release() {}

// Restore reads for ever, too.
func (f endless) Restore(r io.ReadCloser) error {
	_, err := io.Copy(io.Discard, r)
	return err
}

func TestCloseGivesUpTheSnapshotThatIsWritten(t *testing.T) {
	f := endless{&ledger{}, make(chan struct{})}
	n, err := Open(Config{Directory: directory(t.TempDir()), Expect: 1, FSM: f, Log: zerolog.Nop(), Fatal: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	m := &member{n, f.ledger}
	m.lead(t)
	m.mustPut(t, 1)
	taken := make(chan error, 1)
	go func() { taken <- n.raft.Snapshot().Error() }()
	<-f.begun
	m.end(t)
	if err := <-taken; err == nil {
		t.Error("the snapshot is there")
	}
}

func TestARestoreEndsWithTheNode(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	tr := newTracker(ctx, endless{&ledger{}, nil}, raft.NewInmemSnapshotStore())
	stop()
	if err := tr.Restore(io.NopCloser(zeros{})); !errors.Is(err, errStopping) {
		t.Errorf("it ended with %v", err)
	}
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
