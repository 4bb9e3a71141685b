package consensus

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

const (
	// stallLimit is how long one write may take before the process ends: a
	// leader whose disk hangs keeps its leadership for ever, because raft's
	// heartbeats need no disk (reliability D1). An error would not do: the late
	// write may still land, after another leader has rewritten that index.
	stallLimit = 5 * time.Second

	// cachedEntries is the ring of newest entries kept in memory, from which
	// replication reads. An entry is a whole batch, up to a megabyte, so the
	// ring is small.
	cachedEntries = 128
)

// backend is a log and stable store, as raft-wal and raft's in-memory store
// are.
type backend interface {
	raft.LogStore
	raft.StableStore
}

// store is a backend that gives no second chance: the first error, and a write
// that takes longer than stallLimit, are reported to fatal, and from then on
// every write fails with the same error, so that nothing is acknowledged by a
// process that is about to end (DESIGN 6).
type store struct {
	backend
	stall   time.Duration
	fatal   func(error)
	mark    *watermark    // nil in memory
	covered func() uint64 // how far the newest snapshot goes; nil: unknown

	anew    atomic.Bool // the term that is there does not count: beginAnew
	running atomic.Bool // raft has started
	failed  atomic.Pointer[error]
	syncs   atomic.Uint64
	entries atomic.Uint64
	bytes   atomic.Uint64
	nanos   atomic.Uint64
}

// openWAL opens the log on disk. raft-wal syncs once for each StoreLogs.
func openWAL(dir string, log hclog.Logger) (*wal.WAL, error) {
	var w *wal.WAL
	err := caught(func() (err error) {
		w, err = wal.Open(dir, wal.WithLogger(log), wal.WithMetaStore(&walMeta{}), wal.WithSegmentSize(segmentSize(wal.DefaultSegmentSize)))
		return err
	})
	return w, damaged(filepath.Clean(dir), err)
}

// newStore guards b. cached is what raft gets as its log store.
func newStore(b backend, stall time.Duration, fatal func(error)) (s *store, cached *raft.LogCache, err error) {
	s = &store{backend: b, stall: stall, fatal: fatal}
	cached, err = raft.NewLogCache(cachedEntries, s)
	return s, cached, err
}

// IsMonotonic implements raft.MonotonicLogStore for the backend: with it, a
// snapshot install removes the old log, and a restart heals hashicorp/raft#697.
func (s *store) IsMonotonic() bool {
	m, ok := s.backend.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// write runs one durable operation under the watchdog.
func (s *store) write(what string, op func() error) error {
	if err := s.failed.Load(); err != nil {
		return *err
	}
	start := time.Now()
	watchdog := time.AfterFunc(s.stall, func() {
		s.fail(fmt.Errorf("%s has taken longer than %s: the disk hangs", what, s.stall))
	})
	err := caught(op)
	watchdog.Stop()
	s.syncs.Add(1)
	s.nanos.Add(uint64(time.Since(start)))
	if err != nil {
		return s.fail(fmt.Errorf("cannot %s: %w", what, err))
	}
	if err := s.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// fail makes err the answer to every write from now on and returns it.
func (s *store) fail(err error) error {
	if s.failed.CompareAndSwap(nil, &err) {
		s.fatal(err)
	}
	return *s.failed.Load()
}

func (s *store) read(what string, err error) error {
	if err == nil || errors.Is(err, raft.ErrLogNotFound) {
		return err
	}
	return s.fail(fmt.Errorf("cannot %s: %w", what, err))
}

// FirstIndex implements raft.LogStore.
func (s *store) FirstIndex() (uint64, error) {
	i, err := s.backend.FirstIndex()
	return i, s.read("read raft log", err)
}

// LastIndex implements raft.LogStore.
func (s *store) LastIndex() (uint64, error) {
	i, err := s.backend.LastIndex()
	return i, s.read("read raft log", err)
}

// GetLog implements raft.LogStore.
func (s *store) GetLog(index uint64, out *raft.Log) error {
	err := s.entry(index, out)
	if errors.Is(err, errSeal) && s.covered != nil && index <= s.covered() {
		return raft.ErrLogNotFound // a follower that asks for it gets the snapshot
	}
	if err = s.read("read raft log", err); err != nil && !errors.Is(err, raft.ErrLogNotFound) {
		s.endRaft()
	}
	return err
}

// entry reads an entry and checks that it is what was written. raft-wal 0.4.2
// goes on serving what was deleted from the head of its newest segment until
// that is sealed or opened again; a follower would be fed from it, or need a
// snapshot, as the segments happen to lie.
func (s *store) entry(index uint64, out *raft.Log) error {
	err := caught(func() error {
		first, err := s.backend.FirstIndex()
		if err != nil {
			return err
		}
		if index < first {
			return raft.ErrLogNotFound
		}
		return s.backend.GetLog(index, out)
	})
	if err != nil {
		return err
	}
	return unsealEntry(index, out)
}

// StoreLog implements raft.LogStore.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (s *store) StoreLogs(logs []*raft.Log) error {
	n, own := 0, make([]*raft.Log, len(logs))
	for i, l := range logs {
		n += len(l.Data)
		own[i] = sealed(l)
	}
	err := s.write("append to raft log", func() error {
		if err := s.backend.StoreLogs(own); err != nil {
			return err
		}
		return s.mark.change(func(p *promise) { p.index = max(p.index, own[len(own)-1].Index) })
	})
	if err == nil {
		s.entries.Add(uint64(len(logs)))
		s.bytes.Add(uint64(n))
	}
	return err
}

// DeleteRange implements raft.LogStore.
func (s *store) DeleteRange(first, last uint64) error {
	return s.write("truncate raft log", func() error {
		begin, err := s.backend.FirstIndex()
		if err != nil {
			return err
		}
		end, err := s.backend.LastIndex()
		if err != nil {
			return err
		}
		if last >= end { // the tail goes, and with it what was acknowledged
			var keeps uint64
			if first > begin {
				keeps = first - 1
			}
			if s.covered != nil {
				keeps = max(keeps, s.covered())
			}
			if err := s.mark.lower(keeps); err != nil {
				return err
			}
		}
		return s.backend.DeleteRange(first, last)
	})
}

// Set implements raft.StableStore.
func (s *store) Set(key, value []byte) error {
	return s.write("write raft state", func() error {
		if err := s.backend.Set(key, value); err != nil || string(key) != keyCandidate {
			return err
		}
		return s.mark.change(func(p *promise) { p.candidate = string(value) })
	})
}

// endRaft ends the goroutine of raft that calls it, where raft would panic: then a
// stack trace would be the last words of a process that has just been told to end
// with the reason. What it leads is answered, and nothing can be acknowledged.
func (s *store) endRaft() {
	if s.running.Load() {
		runtime.Goexit()
	}
}

// SetUint64 implements raft.StableStore.
func (s *store) SetUint64(key []byte, value uint64) error {
	term := string(key) == keyCurrentTerm
	err := s.write("write raft state", func() error {
		if err := s.backend.SetUint64(key, value); err != nil {
			return err
		}
		switch {
		case term:
			return s.mark.change(func(p *promise) { p.term = max(p.term, value) })
		case string(key) == keyVoteTerm: // the candidate follows in a write of its own
			return s.mark.change(func(p *promise) { p.voteTerm, p.candidate = max(p.voteTerm, value), "" })
		}
		return nil
	})
	if err != nil && term {
		s.endRaft()
	}
	return err
}

// Get implements raft.StableStore. A key that was never set is no fault, and
// the backends have no common error for it, so errors pass.
func (s *store) Get(key []byte) ([]byte, error) { return s.backend.Get(key) }

// GetUint64 implements raft.StableStore.
func (s *store) GetUint64(key []byte) (uint64, error) {
	if s.anew.Load() && string(key) == keyCurrentTerm {
		return 0, nil
	}
	return s.backend.GetUint64(key)
}

// beginAnew lets raft bootstrap in the term that a bootstrap wrote before a
// crash ended it: raft writes the term first and takes it for a cluster. The
// term is never lowered on disk. The function it returns ends that.
func (s *store) beginAnew() (end func()) {
	s.anew.Store(true)
	return func() { s.anew.Store(false) }
}

// empty reports whether no entry was ever written.
func (s *store) empty() bool {
	last, err := s.LastIndex()
	return err == nil && last == 0
}
