package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"windlass/scripts/chaos/record"
)

func readFile(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}

// diskHang: a write of the leader's log does not return. Its watchdog ends the
// process, because nothing else would make it step down (F9).
func diskHang(ctx context.Context, a *arena) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	f := a.ofNodes(hangLimit, n)
	f.Exit = n.name
	over, err := a.outage(ctx, f, func() error { return n.strike("store.before", "hang") })
	if err == nil {
		err = gone(ctx, n, healTime)
	}
	over()
	if err := errors.Join(err, n.spare("store.before")); err != nil {
		return err
	}
	return n.start(ctx)
}

// slow makes writes of some coordinators slow for a while: 50 ms, then 300 ms.
func (a *arena) slow(ctx context.Context, nodes ...*node) error {
	over := a.fault(a.ofNodes(0, nodes...))
	defer over()
	for _, how := range []string{"sleep 50ms", "sleep 300ms"} {
		for _, n := range nodes {
			if err := n.strike("store.before", how); err != nil {
				return err
			}
		}
		if err := pause(ctx, cutTime); err != nil {
			return err
		}
	}
	var err error
	for _, n := range nodes {
		err = errors.Join(err, n.spare("store.before"))
	}
	return err
}

// slowLeader: the leader's disk is slow (F10).
func slowLeader(ctx context.Context, a *arena) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.slow(ctx, n)
}

// slowAll: all disks are slow (F10).
func slowAll(ctx context.Context, a *arena) error { return a.slow(ctx, a.nodes...) }

// fsyncEIO: one write of the leader's log fails, and the next would succeed: it
// must end, not go on (F11).
func fsyncEIO(ctx context.Context, a *arena) error { return a.eio(ctx, "store.before") }

// voteEIO: a vote cannot be written while another leader is elected (F11).
func voteEIO(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	v := others[0]
	f := a.ofNodes(0, v, n)
	f.Exit = v.name
	over := a.fault(f)
	defer over()
	if err := v.strike("vote.before", "eio"); err != nil {
		return err
	}
	n.kill()
	// Two of three are gone then, so nobody leads until one is back.
	return errors.Join(gone(ctx, v, healTime), a.healthy(ctx))
}

func (a *arena) eio(ctx context.Context, point string) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	f := a.ofNodes(stopLimit, n)
	f.Exit = n.name
	over, err := a.outage(ctx, f, func() error { return n.strike(point, "eio") })
	if err == nil {
		err = gone(ctx, n, healTime)
	}
	over()
	if err != nil {
		return err
	}
	return n.start(ctx)
}

// wipedDisk: a follower's disk is emptied while it is down. It comes back as
// somebody new, and votes for nothing that it forgot (F16).
func wipedDisk(ctx context.Context, a *arena) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	over := a.fault(a.ofNodes(0, n))
	defer over()
	n.kill()
	if err := n.wipe(); err != nil {
		return err
	}
	return n.start(ctx)
}

func (n *node) wipe() error { return os.RemoveAll(n.data) }

// damage changes a file of a follower while it is down. The coordinator either
// refuses to start, saying what to do, or it starts and has everything: the
// checker compares what it applies from then on, and what it holds.
func (a *arena) damage(ctx context.Context, change func(*node) (bool, error)) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	over := a.fault(a.ofNodes(0, n))
	defer over()
	n.kill()
	done, err := change(n)
	if err != nil {
		return err
	}
	if !done {
		return n.start(ctx)
	}
	if err := n.start(ctx); err == nil {
		return nil
	}
	if n.alive() {
		return fmt.Errorf("%s neither serves nor ends with a damaged disk", n.name)
	}
	told, err := logHas(n, "remove the data directory", "remove this data directory", "join again")
	if err != nil {
		return err
	}
	if !told {
		return fmt.Errorf("%s refuses a damaged disk and does not say how it is repaired", n.name)
	}
	if err := n.wipe(); err != nil {
		return err
	}
	return n.start(ctx)
}

// bitFlip: one bit of the log, of a vote or of a snapshot changes (F15).
func bitFlip(ctx context.Context, a *arena) error {
	return a.damage(ctx, func(n *node) (bool, error) {
		file, size, err := n.someFile(a.rand.IntN)
		if err != nil || size == 0 {
			return false, err
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		raw[a.rand.IntN(len(raw))] ^= 1 << a.rand.IntN(8)
		fmt.Printf("    a bit of %s of %s\n", filepath.Base(file), n.name)
		return true, os.WriteFile(file, raw, 0o600)
	})
}

// tornTail: the newest log segment loses its end (F14).
func tornTail(ctx context.Context, a *arena) error {
	return a.damage(ctx, func(n *node) (bool, error) {
		logs, err := filepath.Glob(filepath.Join(n.data, "coordinator", "raft", "*.wal"))
		if err != nil || len(logs) == 0 {
			return false, fmt.Errorf("%s has no log to cut: %w", n.name, err)
		}
		slices.Sort(logs)
		last := logs[len(logs)-1]
		raw, err := os.ReadFile(last)
		if err != nil {
			return false, err
		}
		// A segment is made in its full size: behind what was written are zeros.
		end := len(raw)
		for end > 0 && raw[end-1] == 0 {
			end--
		}
		cut := min(end, 1+a.rand.IntN(4096))
		clear(raw[end-cut : end])
		return true, os.WriteFile(last, raw, 0o600)
	})
}

// someFile picks a file of the log, the votes or the snapshots.
func (n *node) someFile(pick func(int) int) (string, int64, error) {
	var files []string
	for _, dir := range []string{"raft", "snapshots"} {
		err := filepath.WalkDir(filepath.Join(n.data, "coordinator", dir), func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				files = append(files, path)
			}
			return nil
		})
		if err != nil {
			return "", 0, err
		}
	}
	if len(files) == 0 {
		return "", 0, errors.New(n.name + " has no files")
	}
	file := files[pick(len(files))]
	info, err := os.Stat(file)
	if err != nil {
		return "", 0, err
	}
	return file, info.Size(), nil
}

// clockJump: the leader's wall clock is a day ahead, then a day behind, and
// leadership moves in both states: nothing expires, nothing freezes (F17).
func clockJump(ctx context.Context, a *arena) error {
	for _, day := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		n, others, err := a.leaderAnd(ctx)
		if err != nil {
			return err
		}
		over := a.fault(a.ofNodes(0, n, others[0]))
		if err := n.strike("clock", strconv.FormatInt(day.Milliseconds(), 10)); err != nil {
			return err
		}
		err = pause(ctx, cutTime)
		if err == nil {
			// A killed follower makes the one with the wrong clock needed.
			others[0].kill()
			err = others[0].start(ctx)
		}
		if err == nil {
			n.kill()
			err = errors.Join(n.start(ctx), pause(ctx, cutTime))
		}
		over()
		if err := errors.Join(err, n.spare("clock")); err != nil {
			return err
		}
	}
	return nil
}

// snapshotInstall: a follower is away for so long that it needs a snapshot when
// it comes back, three times in a row (F20).
func snapshotInstall(ctx context.Context, a *arena) error {
	for range 3 {
		if err := a.install(ctx, nil); err != nil {
			return err
		}
	}
	return nil
}

// restoreEIO: the snapshot cannot be read to its end while it is installed
// (F21): half of it is never served, and the next try has all of it.
func restoreEIO(ctx context.Context, a *arena) error {
	var hit *node
	err := a.install(ctx, func(n *node) error {
		hit = n
		return n.strike("restore.read", "eio")
	})
	if err == nil && hit.told("restore.read") {
		err = errors.New("the run is invalid: no snapshot was read")
	}
	return err
}

// install takes a follower away while the others write several snapshots, which
// leave it nothing to catch up from.
func (a *arena) install(ctx context.Context, before func(*node) error) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	over := a.fault(a.ofNodes(0, n))
	defer over()
	n.kill()
	if err := a.advance(ctx, awayEntries); err != nil {
		return err
	}
	installed, err := installs(n)
	if err != nil {
		return err
	}
	if before != nil {
		if err := before(n); err != nil {
			return err
		}
	}
	if err := n.start(ctx); err != nil && before == nil {
		return err
	}
	if err := a.healthy(ctx); err != nil {
		return err
	}
	again, err := installs(n)
	if err == nil && again == installed {
		err = fmt.Errorf("the run is invalid: %s needed no snapshot", n.name)
	}
	return err
}

// awayEntries are three times what is kept behind a snapshot, which is itself up
// to one and a half times as old.
const awayEntries = 768

// advance waits until the log has grown by so many entries.
func (a *arena) advance(ctx context.Context, entries uint64) error {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	first := uint64(0)
	for {
		n, err := a.leader(ctx)
		if err != nil {
			return err
		}
		if s, err := n.status(ctx, false); err == nil {
			if first == 0 {
				first = s.Index
			}
			if s.Index >= first+entries {
				return nil
			}
		}
		if err := pause(ctx, 5*readyLook); err != nil {
			return fmt.Errorf("the log did not grow by %d entries: %w", entries, err)
		}
	}
}

// installs counts how often a coordinator passed over entries that others
// applied: it has them from a snapshot. Entries without commands make gaps too,
// of a few indexes at most.
func installs(n *node) (int, error) {
	h, err := record.LoadApplied(filepath.Join(n.faults, record.AppliedFile))
	jumps := 0
	for i := 1; i < len(h); i++ {
		if h[i].Index > h[i-1].Index+awayEntries/4 {
			jumps++
		}
	}
	return jumps, err
}
