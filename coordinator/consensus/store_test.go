package consensus

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"windlass/protocol"
)

// disk is a backend that can fail or hang.
type disk struct {
	backend
	broken atomic.Pointer[error]
	hang   chan struct{}
}

func (d *disk) StoreLogs(logs []*raft.Log) error {
	if d.hang != nil {
		<-d.hang
	}
	if err := d.broken.Load(); err != nil {
		return *err
	}
	return d.backend.StoreLogs(logs)
}

func TestStalledWriteIsFatal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := &disk{backend: raft.NewInmemStore(), hang: make(chan struct{})}
		began := time.Now()
		var fired atomic.Int64
		s, _, err := newStore(d, stallLimit, func(error) { fired.Store(int64(time.Since(began))) })
		if err != nil {
			t.Fatal(err)
		}
		answer := make(chan error)
		go func() { answer <- s.StoreLogs([]*raft.Log{{Index: 1}}) }()
		pass(stallLimit - time.Millisecond)
		synctest.Wait()
		if after := time.Duration(fired.Load()); after != 0 {
			t.Fatalf("fatal after %s", after)
		}
		pass(time.Millisecond)
		synctest.Wait()
		if after := time.Duration(fired.Load()); after != stallLimit {
			t.Fatalf("fatal after %s, want %s", after, stallLimit)
		}
		close(d.hang) // the late write lands, and is still not acknowledged
		if err := <-answer; err == nil {
			t.Fatal("a stalled write was acknowledged")
		}
		if err := s.SetUint64([]byte("CurrentTerm"), 2); err == nil {
			t.Fatal("a vote was stored after the stall")
		}
	})
}

func TestStorageErrorIsFatal(t *testing.T) {
	var d *disk
	fatal := make(chan error, 1)
	m := start(t, Config{
		Directory: directory(t.TempDir()),
		Fatal:     func(err error) { fatal <- err },
		wrap:      func(b backend) backend { d = &disk{backend: b}; return d },
	})
	m.lead(t)
	m.mustPut(t, 1)
	full := errors.New("no space left on device")
	d.broken.Store(&full)
	_, err := m.Proposer().Propose(t.Context(), put(2))
	wantOutcome(t, err, protocol.CodeUnavailable, outcomeUnknown)
	if err := <-fatal; !errors.Is(err, full) {
		t.Fatalf("fatal with %v", err)
	}
	if err := <-m.Fatal(); !errors.Is(err, full) {
		t.Fatalf("Fatal() delivered %v", err)
	}
	d.broken.Store(nil) // space returns: this process stays silent all the same
	if results, err := m.Proposer().Propose(t.Context(), put(3)); err == nil {
		t.Fatalf("acknowledged %v after a storage error", results)
	}
}

func TestSnapshotErrorIsFatal(t *testing.T) {
	dir := t.TempDir()
	fatal := make(chan error, 1)
	m := start(t, Config{Directory: directory(dir), Fatal: func(err error) { fatal <- err }})
	m.lead(t)
	m.mustPut(t, 1)
	file := snapshots{SnapshotStore: brokenSnapshots{}, fail: m.store.fail}
	if _, err := file.Create(1, 1, 1, raft.Configuration{}, 1, m.trans); err == nil {
		t.Fatal("created")
	}
	if err := <-fatal; !errors.Is(err, errBroken) {
		t.Fatalf("fatal with %v", err)
	}
}

var errBroken = errors.New("no space left on device")

type brokenSnapshots struct{ raft.SnapshotStore }

func (brokenSnapshots) Create(raft.SnapshotVersion, uint64, uint64, raft.Configuration, uint64, raft.Transport) (raft.SnapshotSink, error) {
	return nil, errBroken
}

func TestDeletedEntriesAreNotFound(t *testing.T) {
	w, err := openWAL(t.TempDir(), hclog.NewNullLogger())
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := newStore(w, stallLimit, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	for i := range uint64(10) {
		if err := s.StoreLog(&raft.Log{Index: i + 1, Data: []byte("entry")}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.DeleteRange(1, 5); err != nil {
		t.Fatal(err)
	}
	var l raft.Log
	if err := s.GetLog(5, &l); !errors.Is(err, raft.ErrLogNotFound) {
		t.Fatalf("the deleted entry 5 was answered: %v", err)
	}
	if err := s.GetLog(6, &l); err != nil || l.Index != 6 {
		t.Fatalf("entry 6 is %d: %v", l.Index, err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestStoreIsMonotonicWhenTheLogIs(t *testing.T) {
	m := start(t, Config{Directory: directory(t.TempDir())})
	if !m.logs.IsMonotonic() {
		t.Fatal("raft does not see that the log is monotonic")
	}
	mem := start(t, Config{Memory: NewMemory()})
	if mem.logs.IsMonotonic() {
		t.Fatal("raft's memory store is not monotonic")
	}
}

func TestBudgetFollowsEntrySize(t *testing.T) {
	m := start(t, Config{Memory: NewMemory()})
	for _, c := range []struct{ perEntry, trailing uint64 }{
		{1, maxTrailing}, {64 << 10, 1024}, {1 << 20, minTrailing}, {1 << 30, minTrailing},
	} {
		if err := m.setBudget(c.perEntry); err != nil {
			t.Fatal(err)
		}
		if got := m.raft.ReloadableConfig().TrailingLogs; got != c.trailing {
			t.Errorf("%d bytes an entry: %d trailing, want %d", c.perEntry, got, c.trailing)
		}
	}
}
