//go:build chaos

package consensus

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sys/unix"
)

// A build with the tag chaos can be told to fail. chaosFolder names a folder;
// a file in it that is called like a point makes that point fail as the file's
// text says, at its next use:
//
//	kill        the process kills itself; the file is removed before
//	eio         the operation answers "input/output error" once; the file is removed
//	sleep 200ms the operation takes that much longer, as long as the file is there
//	hang        the operation does not return as long as the file is there
//
// The points are store.before, store.after (entries with commands),
// config.before, config.after (entries with a membership), vote.before,
// apply.before, apply.after, snapshot.write, snapshot.close and restore.read.
// What the FSM applied is appended to appliedFile in the same folder.
const (
	chaosFolder = "WINDLASS_CHAOS"
	appliedFile = "applied.jsonl"

	// chaosEntries is an optional file: the number of entries between two
	// snapshots, and kept behind one.
	chaosEntries = "snapshot.entries"

	// chaosSegment is an optional file: the bytes of a segment of the log.
	chaosSegment = "log.segment"
)

// hangLook is how often a hanging operation looks whether it may go on.
const hangLook = 20 * time.Millisecond

// Strike is strike for the points of other packages: webhook.before and webhook.after.
func Strike(point string) { _ = strike(point) }

// strike does at a point what the folder says.
func strike(point string) error {
	dir := os.Getenv(chaosFolder)
	if dir == "" {
		return nil
	}
	file := filepath.Join(dir, point)
	text, err := os.ReadFile(file)
	if err != nil {
		return nil
	}
	verb, arg, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	switch verb {
	case "kill":
		_ = os.Remove(file)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // the signal is on its way
	case "eio":
		_ = os.Remove(file)
		return &os.PathError{Op: "fsync", Path: point, Err: syscall.EIO}
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil {
			return err
		}
		time.Sleep(d)
	case "hang":
		for {
			if _, err := os.Stat(file); err != nil {
				return nil
			}
			time.Sleep(hangLook)
		}
	}
	return nil
}

type chaosDisk struct{ backend }

func faultyDisk(b backend) backend { return chaosDisk{b} }

// IsMonotonic implements raft.MonotonicLogStore for the backend.
func (d chaosDisk) IsMonotonic() bool {
	m, ok := d.backend.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// StoreLogs implements raft.LogStore.
func (d chaosDisk) StoreLogs(logs []*raft.Log) error {
	kind := "store"
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			kind = "config"
		}
	}
	if err := strike(kind + ".before"); err != nil {
		return err
	}
	if err := d.backend.StoreLogs(logs); err != nil {
		return err
	}
	return strike(kind + ".after")
}

// StoreLog implements raft.LogStore.
func (d chaosDisk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

// Set implements raft.StableStore.
func (d chaosDisk) Set(key, value []byte) error {
	return errors.Join(strike("vote.before"), d.backend.Set(key, value))
}

// SetUint64 implements raft.StableStore.
func (d chaosDisk) SetUint64(key []byte, value uint64) error {
	return errors.Join(strike("vote.before"), d.backend.SetUint64(key, value))
}

// chaosFSM fails around the FSM and writes down what it applied.
type chaosFSM struct {
	raft.FSM
	journal *os.File

	mu sync.Mutex
}

func faultyFSM(f raft.FSM) raft.FSM {
	dir := os.Getenv(chaosFolder)
	if dir == "" {
		return f
	}
	file, err := os.OpenFile(filepath.Join(dir, appliedFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return f
	}
	// The life before may have ended in the middle of a line.
	_, _ = file.WriteString("\n")
	return &chaosFSM{FSM: f, journal: file}
}

// Apply implements raft.FSM.
func (f *chaosFSM) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

// ApplyBatch implements raft.BatchingFSM.
func (f *chaosFSM) ApplyBatch(logs []*raft.Log) []any {
	_ = strike("apply.before")
	var out []any
	if batch, ok := f.FSM.(raft.BatchingFSM); ok {
		out = batch.ApplyBatch(logs)
	} else {
		for _, l := range logs {
			out = append(out, f.FSM.Apply(l))
		}
	}
	f.write(logs, out)
	_ = strike("apply.after")
	return out
}

func (f *chaosFSM) write(logs []*raft.Log, out []any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var now unix.Timespec // of the clock that all processes of a machine read
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	for i, l := range logs {
		if l.Type != raft.LogCommand {
			continue
		}
		line, err := json.Marshal(struct {
			Index   uint64 `json:"i"`
			Term    uint64 `json:"t"`
			At      int64  `json:"m"`
			Data    []byte `json:"d"`
			Results any    `json:"r"`
		}{l.Index, l.Term, now.Nano(), l.Data, out[i]})
		if err == nil {
			// Not synced: it has to survive this process, not the machine.
			_, _ = f.journal.Write(append(line, '\n'))
		}
	}
}

// Restore implements raft.FSM.
func (f *chaosFSM) Restore(r io.ReadCloser) error { return f.FSM.Restore(&chaosReader{ReadCloser: r}) }

// chaosReader fails in the middle of a snapshot: at its second read.
type chaosReader struct {
	io.ReadCloser
	reads int
}

// Read implements io.Reader.
func (r *chaosReader) Read(p []byte) (int, error) {
	if r.reads++; r.reads == 2 {
		if err := strike("restore.read"); err != nil {
			return 0, err
		}
	}
	return r.ReadCloser.Read(p)
}

type chaosSnapshots struct{ raft.SnapshotStore }

func faultySnapshots(s raft.SnapshotStore) raft.SnapshotStore { return chaosSnapshots{s} }

// Create implements raft.SnapshotStore.
func (s chaosSnapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, err
	}
	return chaosSink{sink}, nil
}

type chaosSink struct{ raft.SnapshotSink }

// Write implements io.Writer.
func (s chaosSink) Write(p []byte) (int, error) {
	if err := strike("snapshot.write"); err != nil {
		return 0, err
	}
	return s.SnapshotSink.Write(p)
}

// Close implements io.Closer.
func (s chaosSink) Close() error {
	return errors.Join(strike("snapshot.close"), s.SnapshotSink.Close())
}

// snapshotLimits makes snapshots as frequent as the folder says.
func snapshotLimits(trailing, threshold uint64, interval time.Duration) (uint64, uint64, time.Duration) {
	if n, ok := chaosNumber(chaosEntries); ok {
		return n, n, time.Second
	}
	return trailing, threshold, interval
}

// segmentSize makes segments as small as the folder says.
func segmentSize(size int) int {
	if n, ok := chaosNumber(chaosSegment); ok {
		return int(n)
	}
	return size
}

func chaosNumber(file string) (uint64, bool) {
	text, err := os.ReadFile(filepath.Join(os.Getenv(chaosFolder), file))
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 31)
	return n, err == nil
}
