package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent/shim"
	"windlass/protocol"
)

// Bounds of the journal (agent.md 4.6). A result is never dropped for them: the
// agent stops taking work instead.
const (
	journalEntries = 10_000
	journalBytes   = 10 << 30
	// journalAge is when a result is of no use any more: no job lives longer.
	journalAge = protocol.MaxPolicyTime
	// orphanFiles is how old files without a result are when they are removed; no
	// shim takes that long between a copy and the result that names it.
	orphanFiles = 24 * time.Hour
	// journalLook is how often the directory is measured.
	journalLook = 10 * time.Second
)

// journal is the directory of results that nobody has answered yet. Shims write
// to it, and the agent for attempts that never reached one.
type journal struct {
	dir string
	log zerolog.Logger

	mu     sync.Mutex
	looked time.Time
	isFull bool
}

// load removes what was never completed or is too old, and lists the rest,
// oldest first.
func (j *journal) load(now time.Time) ([]protocol.HeldAttempt, error) {
	files, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("cannot read journal: %w", err)
	}
	type dated struct {
		key protocol.HeldAttempt
		at  time.Time
	}
	var all []dated
	for _, f := range files {
		path := filepath.Join(j.dir, f.Name())
		info, err := f.Info()
		if err != nil {
			continue // answered in the meantime
		}
		key, ok := shim.ParseEntryName(f.Name())
		switch {
		case !ok && (!strings.HasPrefix(f.Name(), ".tmp-") || now.Sub(info.ModTime()) < journalLook):
			continue // not ours, or being written by a shim at this moment
		case !ok, now.Sub(info.ModTime()) > journalAge:
			j.log.Warn().Str("file", f.Name()).Msg("a journal file is removed because it is incomplete or too old")
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("cannot clean journal: %w", err)
			}
		default:
			all = append(all, dated{key, info.ModTime()})
		}
	}
	slices.SortFunc(all, func(a, b dated) int { return a.at.Compare(b.at) })
	out := make([]protocol.HeldAttempt, len(all))
	for i, d := range all {
		out[i] = d.key
	}
	j.sweepFiles(out, now)
	return out, nil
}

// discard removes a result that nobody wants, with its files.
func (j *journal) discard(k protocol.HeldAttempt) error {
	var files string
	if found, err := os.ReadDir(shim.FilesDir(j.dir, "")); err == nil && len(found) > 0 {
		e, _ := shim.ReadEntry(j.dir, k) // one that is damaged or gone has none that we know of
		files = e.Files
	}
	return errors.Join(shim.RemoveEntry(j.dir, k), shim.RemoveFiles(j.dir, files))
}

// sweepFiles removes files of results that are not in the journal any more: what
// was left when a process ended between the one and the other. Young ones may be of
// a run that is just ending in its shim.
func (j *journal) sweepFiles(keys []protocol.HeldAttempt, now time.Time) {
	found, err := os.ReadDir(shim.FilesDir(j.dir, ""))
	if err != nil || len(found) == 0 {
		return
	}
	needed := make(map[string]bool)
	for _, k := range keys {
		if e, err := shim.ReadEntry(j.dir, k); err == nil {
			needed[e.Files] = true
		}
	}
	for _, f := range found {
		info, err := f.Info()
		if err != nil || needed[f.Name()] || now.Sub(info.ModTime()) < orphanFiles {
			continue
		}
		j.log.Warn().Str("files", f.Name()).Msg("files of a result that is gone are removed")
		if err := shim.RemoveFiles(j.dir, f.Name()); err != nil {
			j.log.Error().Err(err).Msg("files of a result that is gone stay")
		}
	}
}

// full reports whether the journal is at its bound.
func (j *journal) full() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if now := time.Now(); now.Sub(j.looked) >= journalLook {
		j.looked = now
		j.isFull = j.measure()
	}
	return j.isFull
}

func (j *journal) measure() bool {
	var n, size int64
	err := filepath.WalkDir(j.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if info, err := d.Info(); err == nil {
			n, size = n+1, size+info.Size()
		}
		return nil
	})
	return err != nil || n >= journalEntries || size >= journalBytes
}

// quarantine keeps a damaged entry for the operator, out of the way.
func (j *journal) quarantine(k protocol.HeldAttempt) error {
	path := shim.EntryPath(j.dir, k)
	if err := os.Rename(path, path+".damaged"); err != nil {
		return fmt.Errorf("cannot set damaged result of %s aside: %w", k.Job, err)
	}
	return nil
}
