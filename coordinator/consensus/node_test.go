package consensus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"windlass/protocol"
)

const childDir = "WINDLASS_TEST_CONSENSUS_CHILD"

// TestMain is the child of TestKillKeepsAcknowledged when it is told so.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		child(dir)
		return
	}
	os.Exit(m.Run())
}

// child acknowledges values on stdout until it is killed.
func child(dir string) {
	m, err := open(Config{Directory: directory(dir)})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for range m.Leadership() {
		if m.IsLeader() {
			break
		}
	}
	if err := m.Barrier(context.Background()); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for i := int64(len(m.fsm.values()) + 1); ; i++ {
		if _, err := m.Proposer().Propose(context.Background(), put(i)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println(i)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	dir := t.TempDir()
	a := start(t, Config{Directory: directory(dir)})
	a.lead(t)
	a.mustPut(t, 1, 2, 3)
	if err := a.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	a.mustPut(t, 4, 5)
	id := a.Identity()
	if id.ServerID == "" || id.ClusterID == "" {
		t.Fatalf("identity %+v", id)
	}
	a.end(t)

	b := start(t, Config{Directory: directory(dir)})
	b.lead(t)
	if got, want := b.fsm.values(), []int64{1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Fatalf("after the restart %v, want %v", got, want)
	}
	if b.Identity() != id {
		t.Fatalf("identity %+v became %+v", id, b.Identity())
	}
	if err := b.VerifyLeader(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestKillKeepsAcknowledged(t *testing.T) {
	dir := t.TempDir()
	acknowledged := int64(0)
	for range 3 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			v, err := strconv.ParseInt(lines.Text(), 10, 64)
			if err != nil {
				t.Fatalf("child says %q", lines.Text())
			}
			acknowledged = v
			if n == 20 {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("child ended by itself")
		}
	}
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	got := m.fsm.values()
	if int64(len(got)) < acknowledged {
		t.Fatalf("%d acknowledged, %d there", acknowledged, len(got))
	}
	for i, v := range got {
		if v != int64(i+1) {
			t.Fatalf("value %d is %d", i+1, v)
		}
	}
}

func TestDamagedNewestSnapshotRefuses(t *testing.T) {
	for _, file := range []string{"state.bin", "meta.json"} {
		t.Run(file, func(t *testing.T) {
			dir := t.TempDir()
			m := start(t, Config{Directory: directory(dir)})
			m.lead(t)
			for i := range int64(2) {
				m.mustPut(t, i+1)
				if err := m.raft.Snapshot().Error(); err != nil {
					t.Fatal(err)
				}
			}
			newest, err := m.snaps.List()
			if err != nil {
				t.Fatal(err)
			}
			m.end(t)
			flip(t, filepath.Join(dir, "snapshots", newest[0].ID, file))
			_, err = open(Config{Directory: directory(dir)})
			var damaged *SnapshotError
			if !errors.As(err, &damaged) {
				t.Fatalf("started with %v", err)
			}
			if !strings.HasSuffix(err.Error(), "restore a backup") {
				t.Fatalf("no remedy in %q", err)
			}
		})
	}
}

func TestUnfinishedSnapshotsAreRemoved(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 1)
	if err := m.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	m.end(t)
	half := filepath.Join(dir, "snapshots", "2-9-1795907703509.tmp")
	if err := os.MkdirAll(half, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(half, "state.bin"), []byte("half of it"), 0o600); err != nil {
		t.Fatal(err)
	}
	m = start(t, Config{Directory: directory(dir)})
	if list, err := m.snaps.List(); err != nil || len(list) != 1 {
		t.Fatalf("the finished snapshots are %v: %v", list, err)
	}
	if _, err := os.Stat(half); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("the unfinished snapshot is still there: %v", err)
	}
}

func flip(t *testing.T, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[0] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDirectoryHasOneOwner(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	_, err := OpenDirectory(dir)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), strconv.Itoa(os.Getpid())) {
		t.Fatalf("second owner got %v", err)
	}
	m.end(t)
	start(t, Config{Directory: directory(dir)})
}

func TestVerifyLeaderIsShared(t *testing.T) {
	m := start(t, Config{Memory: NewMemory()})
	m.lead(t)
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if err := m.VerifyLeader(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	m.end(t)
	if err := m.VerifyLeader(t.Context()); protocol.CodeOf(err) != protocol.CodeUnavailable {
		t.Fatalf("after close: %v", err)
	}
}

func TestFollowerRefuses(t *testing.T) {
	m := start(t, Config{Memory: NewMemory(), Expect: 3}) // nobody adds it
	_, err := m.Proposer().Propose(t.Context(), put(1))
	wantOutcome(t, err, protocol.CodeNoLeader, outcomeNone)
	if err := m.VerifyLeader(t.Context()); protocol.CodeOf(err) != protocol.CodeNoLeader {
		t.Fatalf("verify: %v", err)
	}
	if err := m.Barrier(t.Context()); protocol.CodeOf(err) != protocol.CodeNoLeader {
		t.Fatalf("barrier: %v", err)
	}
}

func wantOutcome(t *testing.T, err error, code protocol.Code, outcome string) {
	t.Helper()
	var e *protocol.Error
	if !errors.As(err, &e) || e.Code != code || e.Details["outcome"] != outcome {
		t.Fatalf("got %v, want %s with outcome %s", err, code, outcome)
	}
}
