package consensus

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
)

// page is a file of which only what was synced survives a power failure, and of
// what was not, any part may have.
type page struct {
	now, synced [2 * slotSize]byte
	syncs       int
	inSync      func()
}

func (p *page) WriteAt(b []byte, off int64) (int, error) { return copy(p.now[off:], b), nil }

func (p *page) sync() error {
	p.synced = p.now
	p.syncs++
	if p.inSync != nil {
		p.inSync()
	}
	return nil
}

func (p *page) ReadAt(b []byte, off int64) (int, error) { return copy(b, p.now[off:]), nil }

func newPage(t *testing.T, server string) (*page, *watermark) {
	t.Helper()
	p := &page{}
	for seq := range uint64(2) {
		copy(p.now[seq*slotSize:], appendSlot(nil, seq, promise{server: server}))
	}
	p.synced = p.now
	return p, p.open(t)
}

func (p *page) open(t *testing.T) *watermark {
	t.Helper()
	w := &watermark{file: p, sync: p.sync}
	w.settled.L = &w.mu
	if err := w.load(p, "dir"); err != nil {
		t.Fatal(err)
	}
	return w
}

func acknowledge(t *testing.T, w *watermark, index uint64) {
	t.Helper()
	if err := w.change(func(p *promise) { p.index = max(p.index, index) }); err != nil {
		t.Fatal(err)
	}
}

func TestWatermarkIsReadBack(t *testing.T) {
	p, w := newPage(t, "srv_a")
	want := promise{server: "srv_a", cluster: "cluster_b", index: 7, term: 3, voteTerm: 2, candidate: "srv_b"}
	if err := w.change(func(p *promise) { *p = want }); err != nil {
		t.Fatal(err)
	}
	if got := p.open(t).current(); got != want {
		t.Fatalf("read %+v, want %+v", got, want)
	}
}

// TestTornWatermarkIsTheOneBefore cuts the power in every state of the file, with
// the page that was being written in any state.
func TestTornWatermarkIsTheOneBefore(t *testing.T) {
	p, w := newPage(t, "srv_a")
	durable := uint64(0)
	check := func(newest uint64) {
		t.Helper()
		for torn := range 2 * slotSize {
			if torn%slotSize > 120 {
				continue // nothing is written there
			}
			after := &page{now: p.synced}
			// Some pages that were not synced arrived, one of them in part.
			start := torn / slotSize * slotSize
			copy(after.now[start:torn], p.now[start:torn])
			got := after.open(t).current().index
			if got < durable || got > newest {
				t.Fatalf("after a power failure at byte %d: %d, synced was %d, newest %d", torn, got, durable, newest)
			}
		}
	}
	for i := uint64(1); i <= 40; i++ {
		acknowledge(t, w, i)
		check(i)
		if i%7 == 0 {
			p.inSync = func() { acknowledge(t, w, i); check(i) } // appends go on meanwhile
			if err := w.flush(); err != nil {
				t.Fatal(err)
			}
			p.inSync = nil
			durable = i
			check(i)
		}
	}
}

// TestWatermarkIsLoweredInBothSlots: one damaged slot afterwards must not bring
// back the promise that was taken back.
func TestWatermarkIsLoweredInBothSlots(t *testing.T) {
	p, w := newPage(t, "srv_a")
	acknowledge(t, w, 9)
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	acknowledge(t, w, 10)
	before := p.syncs
	if err := w.lower(20); err != nil || p.syncs != before {
		t.Fatalf("lowering to more than is promised: %v, %d syncs", err, p.syncs-before)
	}
	if err := w.lower(4); err != nil {
		t.Fatal(err)
	}
	for slot := range 2 {
		after := &page{now: p.synced}
		after.now[slot*slotSize] ^= 1
		if got := after.open(t).current().index; got != 4 {
			t.Errorf("without slot %d: %d, want 4", slot, got)
		}
	}
}

func TestWatermarkSyncErrorIsReported(t *testing.T) {
	_, w := newPage(t, "srv_a")
	w.sync = func() error { return errBroken }
	acknowledge(t, w, 1)
	if err := w.flush(); !errors.Is(err, errBroken) {
		t.Errorf("flush: %v", err)
	}
	if err := w.lower(0); !errors.Is(err, errBroken) {
		t.Errorf("lower: %v", err)
	}
}

// watched is a backend that looks at the watermark at the moment of a cut.
type watched struct {
	backend
	onDelete func()
}

func (b *watched) DeleteRange(first, last uint64) error {
	b.onDelete()
	return b.backend.DeleteRange(first, last)
}

// TestCutTailLowersTheWatermarkFirst: a follower that truncates entries of a
// deposed leader may lose power between the two, and must then not refuse.
func TestCutTailLowersTheWatermarkFirst(t *testing.T) {
	p, w := newPage(t, "srv_a")
	b := &watched{backend: raft.NewInmemStore()}
	s, _, err := newStore(b, stallLimit, func(err error) { t.Error(err) })
	if err != nil {
		t.Fatal(err)
	}
	s.mark = w
	snapshot := uint64(0)
	s.covered = func() uint64 { return snapshot }
	var logs []*raft.Log
	for i := uint64(1); i <= 10; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Data: []byte("x")})
	}
	if err := s.StoreLogs(logs); err != nil {
		t.Fatal(err)
	}
	if got := w.current().index; got != 10 {
		t.Fatalf("acknowledged %d, want 10", got)
	}
	expect := func(want uint64, cut func() error) {
		t.Helper()
		b.onDelete = func() {
			if got := (&page{now: p.synced}).open(t).current().index; got != want {
				t.Errorf("durable at the cut: %d, want %d", got, want)
			}
		}
		if err := cut(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.flush(); err != nil {
		t.Fatal(err)
	}
	expect(10, func() error { return s.DeleteRange(1, 3) }) // behind a snapshot: the tail stays
	expect(7, func() error { return s.DeleteRange(8, 10) })
	snapshot = 6
	expect(6, func() error { return s.DeleteRange(4, 7) }) // all of it: what the snapshot has is still there
	if err := s.StoreLogs([]*raft.Log{{Index: 20, Term: 3}, {Index: 21, Term: 3}}); err != nil {
		t.Fatal(err)
	}
	snapshot = 15 // of a later term, and below the log
	expect(15, func() error { return s.DeleteRange(20, 21) })
}

func TestCutLogRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 1, 2, 3, 4, 5)
	m.end(t)
	w, err := openWAL(filepath.Join(dir, "raft"), newBridge(nop()))
	if err != nil {
		t.Fatal(err)
	}
	last, err := w.LastIndex()
	if err == nil {
		err = errors.Join(w.DeleteRange(last, last), w.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	wantDamage(t, dir, "the log was cut")
}

// wantDamage opens the directory, which must be refused with a remedy.
func wantDamage(t *testing.T, dir, what string) {
	t.Helper()
	m, err := openIn(dir, Config{})
	var damage *DamageError
	if !errors.As(err, &damage) || !strings.Contains(err.Error(), what) {
		if err == nil {
			m.end(t)
		}
		t.Fatalf("started with %v, want %q", err, what)
	}
	if !strings.HasSuffix(err.Error(), "restore a backup") {
		t.Fatalf("no remedy in %q", err)
	}
}

func TestOlderVoteRefusesToStart(t *testing.T) {
	for name, c := range map[string]struct {
		change func(backend) error
		what   string
	}{
		"term":        {func(b backend) error { return b.SetUint64([]byte(keyCurrentTerm), 1) }, "the vote store is older"},
		"vote":        {func(b backend) error { return b.SetUint64([]byte(keyVoteTerm), 1) }, "this node voted in term"},
		"candidate":   {func(b backend) error { return b.Set([]byte(keyCandidate), []byte("srv_other")) }, "this node voted in term"},
		"future vote": {func(b backend) error { return b.SetUint64([]byte(keyVoteTerm), 1<<40) }, "a vote in 1099511627776"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for range 2 { // the second term is above the first
				m := start(t, Config{Directory: directory(dir)})
				m.lead(t)
				m.end(t)
			}
			w, err := openWAL(filepath.Join(dir, "raft"), newBridge(nop()))
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(c.change(w), w.Close()); err != nil {
				t.Fatal(err)
			}
			wantDamage(t, dir, c.what)
		})
	}
}

func TestMixedDirectoryRefusesToStart(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.end(t)
	if err := saveIdentity(filepath.Join(dir, "raft"), Identity{ServerID: "srv_other", ClusterID: "cluster_x"}); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, dir, "mixed from two")
}

// TestDirectoryWithoutWatermarkStarts: earlier versions kept none.
func TestDirectoryWithoutWatermarkStarts(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 1, 2)
	want := m.store.mark.current()
	m.end(t)
	if err := os.Remove(filepath.Join(dir, "raft", watermarkFile)); err != nil {
		t.Fatal(err)
	}
	m = start(t, Config{Directory: directory(dir)})
	if got := m.store.mark.current(); got.index < want.index || got.term < want.term {
		t.Fatalf("promise is %+v, want at least %+v", got, want)
	}
	m.lead(t)
	m.mustPut(t, 3)
}

func TestMissingSnapshotsRefuseToStart(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 1, 2, 3)
	conf := m.raft.ReloadableConfig()
	conf.TrailingLogs = 1
	if err := m.raft.ReloadConfig(conf); err != nil {
		t.Fatal(err)
	}
	if err := m.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	m.mustPut(t, 4)
	m.end(t)
	if err := os.RemoveAll(filepath.Join(dir, "snapshots")); err != nil {
		t.Fatal(err)
	}
	wantDamage(t, dir, "entries are missing")
}

// BenchmarkAcknowledge is what the watermark adds to each append.
func BenchmarkAcknowledge(b *testing.B) {
	w, file, _, err := openWatermark(b.TempDir(), "srv_abcdefghijklmnopqrstuvwxyz")
	if err != nil {
		b.Fatal(err)
	}
	defer file.Close()
	n := uint64(0)
	for b.Loop() {
		n++
		if err := w.change(func(p *promise) { p.index = n }); err != nil {
			b.Fatal(err)
		}
	}
}
