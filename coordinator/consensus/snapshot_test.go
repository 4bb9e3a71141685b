package consensus

import (
	"errors"
	"testing"

	"github.com/hashicorp/raft"
)

// syncCount counts the bytes that were written and not synced.
type syncCount struct {
	raft.SnapshotSink
	dirty, most, syncs int
	closed             bool
	err                error
}

func (c *syncCount) Write(p []byte) (int, error) {
	c.dirty += len(p)
	c.most = max(c.most, c.dirty)
	return len(p), nil
}

func (c *syncCount) Cancel() error { return nil }

// file is the same as the file beside the sink.
type file struct{ *syncCount }

func (f file) Sync() error {
	f.dirty, f.syncs = 0, f.syncs+1
	return f.err
}

func (f file) Close() error {
	f.closed = true
	return nil
}

// A snapshot leaves little for a sync of the log to wait for.
func TestASnapshotIsSyncedInSteps(t *testing.T) {
	c := &syncCount{}
	s := &snapshotSink{SnapshotSink: c, file: file{c}}
	const piece = 256 << 10
	for range 100 {
		if _, err := s.Write(make([]byte, piece)); err != nil {
			t.Fatal(err)
		}
	}
	if c.most > syncStep || c.syncs != 100*piece/syncStep {
		t.Errorf("%d bytes waited, %d syncs", c.most, c.syncs)
	}
	if err := s.Cancel(); err != nil || !c.closed {
		t.Errorf("its file was closed: %t, %v", c.closed, err)
	}
}

func TestAFailedSyncOfASnapshotIsFatal(t *testing.T) {
	broken, fatal := errors.New("input/output error"), error(nil)
	c := &syncCount{err: broken}
	s := &snapshotSink{SnapshotSink: c, file: file{c}, fail: func(err error) error { fatal = err; return err }}
	_, err := s.Write(make([]byte, syncStep))
	if !errors.Is(err, broken) || !errors.Is(fatal, broken) {
		t.Errorf("it answers %v and fails with %v", err, fatal)
	}
}
