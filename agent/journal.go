package agent

import (
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
	return out, nil
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
