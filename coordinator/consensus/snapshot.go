package consensus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
)

// keptSnapshots is the newest and one that a repair can fall back to by hand;
// raft itself must never do that silently.
const keptSnapshots = 2

// SnapshotError says that the newest snapshot is not sound. raft would restart
// from an older one and lose acknowledged commands (reliability D5), so the
// node does not start at all.
type SnapshotError struct {
	Path string
	Err  error
}

// Error implements error; it ends with the repair.
func (e *SnapshotError) Error() string {
	return fmt.Sprintf("cannot start: newest snapshot %s is damaged: %v: with other coordinators running, remove this data directory and let this one join again; alone, restore a backup", e.Path, e.Err)
}

// Unwrap returns what is wrong with it.
func (e *SnapshotError) Unwrap() error { return e.Err }

// openSnapshots opens dir/snapshots after its newest snapshot has verified.
func openSnapshots(dir string, verify func(io.Reader) error, log hclog.Logger) (*raft.FileSnapshotStore, error) {
	snaps, err := raft.NewFileSnapshotStoreWithLogger(dir, keptSnapshots, log)
	if err != nil {
		return nil, fmt.Errorf("cannot open snapshots in %s: %w", dir, err)
	}
	if err := removeHalf(filepath.Join(dir, "snapshots")); err != nil {
		return nil, err
	}
	if err := checkMeta(filepath.Join(dir, "snapshots")); err != nil {
		return nil, err
	}
	return snaps, verifyNewest(snaps, filepath.Join(dir, "snapshots"), verify)
}

// unfinished ends the name of a snapshot that is being written, as raft calls it.
const unfinished = ".tmp"

// removeHalf removes the snapshots that a process before this one did not finish:
// raft passes over them and keeps them for ever, each as large as the state.
func removeHalf(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read snapshots: %w", err)
	}
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("cannot remove an unfinished snapshot: %w", err)
		}
	}
	return nil
}

// checkMeta finds snapshots that raft would pass over because it cannot read
// what they are; any of them may be the newest.
func checkMeta(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("cannot read snapshots: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() || strings.HasSuffix(e.Name(), unfinished) {
			continue
		}
		path := filepath.Join(dir, e.Name())
		raw, err := os.ReadFile(filepath.Join(path, "meta.json"))
		var meta raft.SnapshotMeta
		if err == nil {
			err = json.Unmarshal(raw, &meta)
		}
		if err == nil && meta.ID != e.Name() {
			err = fmt.Errorf("it calls itself %q", meta.ID)
		}
		if err == nil {
			err = checkSeal(path, raw)
		}
		if err != nil {
			return &SnapshotError{Path: path, Err: err}
		}
	}
	return nil
}

func verifyNewest(snaps raft.SnapshotStore, dir string, verify func(io.Reader) error) error {
	list, err := snaps.List()
	if err != nil {
		return fmt.Errorf("cannot list snapshots: %w", err)
	}
	if len(list) == 0 {
		return nil
	}
	path := filepath.Join(dir, list[0].ID)
	_, r, err := snaps.Open(list[0].ID) // checks raft's checksum over the whole file
	if err != nil {
		return &SnapshotError{Path: path, Err: err}
	}
	if verify != nil {
		err = verify(r)
	}
	err = errors.Join(err, r.Close())
	if errors.As(err, new(*command.FeatureError)) {
		return fmt.Errorf("cannot start: %w", err) // it is sound
	}
	if err != nil {
		return &SnapshotError{Path: path, Err: err}
	}
	return sealMissing(path)
}

// snapshots makes every failed write of a snapshot fatal like any other
// storage error.
type snapshots struct {
	raft.SnapshotStore
	dir  string // holds snapshots/; "" in memory
	fail func(error) error
}

// Create implements raft.SnapshotStore.
func (s snapshots) Create(v raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, c, ci, t)
	if err != nil {
		return nil, s.fail(fmt.Errorf("cannot create snapshot: %w", err))
	}
	own := &snapshotSink{SnapshotSink: sink, fail: s.fail}
	if s.dir == "" {
		return own, nil
	}
	own.path = filepath.Join(s.dir, "snapshots", sink.ID())
	f, err := os.OpenFile(filepath.Join(own.path+".tmp", "state.bin"), os.O_WRONLY, 0)
	if err != nil {
		return nil, errors.Join(s.fail(fmt.Errorf("cannot open snapshot: %w", err)), sink.Cancel())
	}
	own.file = f
	return own, nil
}

// syncStep is how much of a snapshot is written before it is synced: the log is
// synced on the same disk, and a file system that orders data before its journal
// (ext4) first writes out whatever waits of other new files. Some milliseconds of
// a disk.
const syncStep = 4 << 20

type snapshotSink struct {
	raft.SnapshotSink
	fail  func(error) error
	path  string // where it will be until it is there or cancelled; "" in memory
	file  syncer // of the state, for syncs beside raft's own; nil in memory
	ahead int    // bytes since the last one
}

// syncer is an *os.File here.
type syncer interface {
	io.Closer
	Sync() error
}

// Write implements io.Writer.
func (s *snapshotSink) Write(p []byte) (int, error) {
	n, err := s.SnapshotSink.Write(p)
	if s.ahead += n; err == nil && s.file != nil && s.ahead >= syncStep {
		s.ahead = 0
		err = s.file.Sync()
	}
	if err != nil {
		err = s.fail(fmt.Errorf("cannot write snapshot: %w", err))
	}
	return n, err
}

// Cancel implements raft.SnapshotSink.
func (s *snapshotSink) Cancel() error {
	s.path = ""
	return errors.Join(s.release(), s.SnapshotSink.Cancel())
}

// release closes the file of our own.
func (s *snapshotSink) release() error {
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}

// Close implements io.Closer: it syncs, and puts the snapshot in its place.
func (s *snapshotSink) Close() error {
	err := errors.Join(s.release(), s.SnapshotSink.Close())
	if err == nil && s.path != "" {
		err = sealMeta(s.path)
		s.path = ""
	}
	if err != nil && !errors.Is(err, fs.ErrClosed) {
		err = s.fail(fmt.Errorf("cannot complete snapshot: %w", err))
	}
	return err
}
