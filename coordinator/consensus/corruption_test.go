package consensus

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// quick elects a lone voter as soon as raft allows.
var quickTimeouts = Timeouts{Heartbeat: 10 * time.Millisecond, Election: 10 * time.Millisecond, Lease: 5 * time.Millisecond}

// values of the directory that soundDir makes: before and after its snapshot.
const (
	snapshotValues = 30
	allValues      = 60
)

// soundDir makes a data directory with two snapshots, several log segments, and
// a vote, and closes it.
func soundDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir), Timeouts: quickTimeouts})
	m.lead(t)
	for i := int64(1); i <= allValues; i++ {
		m.mustPut(t, i)
		if i == snapshotValues/2 || i == snapshotValues {
			if err := m.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
		}
	}
	m.end(t)
	splitLog(t, filepath.Join(dir, "raft"))
	return dir
}

// splitLog writes the log of a closed directory again in small segments.
func splitLog(t *testing.T, dir string) {
	t.Helper()
	from, err := openWAL(dir, newBridge(nop()))
	if err != nil {
		t.Fatal(err)
	}
	fresh := dir + ".new"
	if err := os.Mkdir(fresh, 0o700); err != nil {
		t.Fatal(err)
	}
	to, err := wal.Open(fresh, wal.WithLogger(newBridge(nop())), wal.WithSegmentSize(2048))
	if err != nil {
		t.Fatal(err)
	}
	first, _ := from.FirstIndex()
	last, _ := from.LastIndex()
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := errors.Join(from.GetLog(i, &l), to.StoreLogs([]*raft.Log{&l})); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{keyCurrentTerm, keyVoteTerm} {
		n, err := from.GetUint64([]byte(key))
		if err := errors.Join(err, to.SetUint64([]byte(key), n)); err != nil {
			t.Fatal(err)
		}
	}
	candidate, err := from.Get([]byte(keyCandidate))
	if err := errors.Join(err, to.Set([]byte(keyCandidate), candidate), from.Close(), to.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{identityFile, watermarkFile} {
		if err := os.Rename(filepath.Join(dir, name), filepath.Join(fresh, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.RemoveAll(dir), os.Rename(fresh, dir)); err != nil {
		t.Fatal(err)
	}
}

// harm is one way to damage a file.
type harm struct {
	name string
	do   func([]byte) []byte
}

// harms are bit flips all over the file, zeroed blocks, and cuts.
func harms(size int) []harm {
	var out []harm
	flips := 24
	for i := range flips {
		at := i * size / flips
		out = append(out, harm{fmt.Sprintf("bit %d of byte %d", i%8, at), func(b []byte) []byte { b[at] ^= 1 << (i % 8); return b }})
	}
	for at := 0; at < size; at += max(4096, size/6/4096*4096) {
		end := min(at+4096, size)
		out = append(out, harm{fmt.Sprintf("zeroed %d to %d", at, end), func(b []byte) []byte { clear(b[at:end]); return b }})
	}
	for _, keep := range []int{0, min(100, size-1), size / 3, size / 2, size - 1} {
		out = append(out, harm{fmt.Sprintf("cut to %d of %d", keep, size), func(b []byte) []byte { return b[:keep] }})
	}
	return out
}

// TestCorruptionIsFoundOrHarmless damages every file of a data directory in many
// ways. The node must refuse to start or halt with a typed error, or have
// everything and go on; anything else would be silently wrong.
func TestCorruptionIsFoundOrHarmless(t *testing.T) {
	origin := soundDir(t)
	var files []string
	err := filepath.WalkDir(origin, func(path string, d os.DirEntry, err error) error {
		if rel, _ := filepath.Rel(origin, path); err == nil && !d.IsDir() && rel != "LOCK" {
			files = append(files, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	segments := slices.DeleteFunc(slices.Clone(files), func(f string) bool { return !strings.HasSuffix(f, ".wal") })
	if len(segments) < 3 {
		t.Fatalf("only %d log segments", len(segments))
	}
	var mu sync.Mutex
	tally := make(map[string]int)
	t.Run("cases", func(t *testing.T) {
		for _, file := range files {
			raw, err := os.ReadFile(filepath.Join(origin, file))
			if err != nil {
				t.Fatal(err)
			}
			list := harms(len(raw))
			list = append(list, harm{"removed", nil})
			for _, h := range list {
				t.Run(file+"/"+h.name, func(t *testing.T) {
					t.Parallel()
					outcome := corrupt(t, origin, file, h)
					mu.Lock()
					defer mu.Unlock()
					tally[outcome]++
				})
			}
		}
	})
	t.Logf("of the damages: %v", tally)
	if tally["refused"] == 0 || tally["harmless"] == 0 {
		t.Errorf("the matrix shows nothing: %v", tally)
	}
}

// corrupt damages one file of a copy, starts it, and says what came of it.
func corrupt(t *testing.T, origin, file string, h harm) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(origin)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, file)
	if h.do == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	} else {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path, h.do(raw), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	fatal := make(chan error, 1)
	cfg := Config{Timeouts: quickTimeouts, Fatal: func(err error) { fatal <- err }}
	for round := range int64(2) {
		m, err := openIn(dir, cfg)
		if err != nil {
			var damage *DamageError
			var snapshot *SnapshotError
			if round > 0 || !errors.As(err, &damage) && !errors.As(err, &snapshot) || !strings.HasSuffix(err.Error(), "restore a backup") {
				t.Fatalf("start %d: %v", round, err)
			}
			return "refused"
		}
		defer m.end(t)
		deadline := time.After(20 * time.Second)
		for led := false; !led; {
			select {
			case err := <-fatal:
				t.Logf("halted: %v", err)
				return "halted"
			case led = <-m.Leadership():
			case <-deadline:
				t.Fatal("started, and neither leads nor says why not")
			}
		}
		if err := m.Barrier(t.Context()); err != nil {
			return halted(t, err, fatal)
		}
		want := make([]int64, 0, allValues+1)
		for i := int64(1); i <= allValues+round; i++ {
			want = append(want, i)
		}
		if got := m.fsm.values(); !slices.Equal(got, want) {
			t.Fatalf("silently wrong: %d values %v", len(got), got)
		}
		if _, err := m.Proposer().Propose(t.Context(), put(allValues+1+round)); err != nil {
			return halted(t, err, fatal)
		}
		m.end(t)
	}
	return "harmless"
}

func halted(t *testing.T, err error, fatal chan error) string {
	t.Helper()
	select {
	case err := <-fatal:
		t.Logf("halted: %v", err)
	default:
		t.Fatalf("failed with %v and did not halt", err)
	}
	return "halted"
}
