package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"windlass/scripts/chaos/record"
)

// smallDisk is a file system of memory for one coordinator's data, which a
// ballast fills. It needs root.
type smallDisk struct{ dir string }

const (
	diskSize = 256 << 20 // holds a few segments of the usual size
	// tightRoom is what is left when the log is to run out of space, and
	// noRoom when a snapshot is: the log's segment has its space already.
	tightRoom = 768 << 10
	noRoom    = 16 << 10
	// fillBytes is the input of each job that fills a log; below what is kept
	// beside it as a blob.
	fillBytes = 12 << 10
	// fillSegment is a segment that some fifty such jobs fill.
	fillSegment = "524288"
)

func (n *node) smallDisk() (*smallDisk, error) {
	if err := os.MkdirAll(n.data, 0o700); err != nil {
		return nil, err
	}
	if err := syscall.Mount("tmpfs", n.data, "tmpfs", 0, fmt.Sprint("size=", diskSize)); err != nil {
		return nil, fmt.Errorf("cannot mount a small disk: %w; run as root", err)
	}
	return &smallDisk{dir: n.data}, nil
}

func (d *smallDisk) ballast() string { return filepath.Join(d.dir, "ballast") }

// fill leaves so much room. What is written at the same time may take it first.
func (d *smallDisk) fill(room uint64) error {
	f, err := os.OpenFile(d.ballast(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	for err = syscall.ENOSPC; errors.Is(err, syscall.ENOSPC); {
		var s syscall.Statfs_t
		if err = syscall.Statfs(d.dir, &s); err != nil {
			break
		}
		free := s.Bavail * uint64(s.Bsize)
		if free <= room {
			break
		}
		err = syscall.Fallocate(int(f.Fd()), 0, 0, int64(free-room))
	}
	return errors.Join(err, f.Close())
}

// empty takes the ballast away.
func (d *smallDisk) empty() error { return os.Remove(d.ballast()) }

func (d *smallDisk) release() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) }

// filler submits large jobs until it is stopped.
func (b *bed) filler(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	all.Go(func() {
		c := &caller{b: b, name: "filler"}
		for i := 0; ctx.Err() == nil; i++ {
			o := b.newOrder(0)
			o.task.Mode = "x" + strings.ToLower(rand.Text())
			o.task.Mode = strings.Repeat(o.task.Mode, fillBytes/len(o.task.Mode))
			_ = c.submit(ctx, b.nodes[i%len(b.nodes)], o)
			_ = pause(ctx, again) // they all have to run in the end
		}
	})
	return func() {
		cancel()
		all.Wait()
	}
}

// saysWhy: a coordinator that ended on a full disk tells so in its last words.
func saysWhy(n *node, what string) error {
	log, err := readFile(n.log)
	if err != nil {
		return err
	}
	for line := range strings.Lines(log) {
		if strings.Contains(line, "no space left") && strings.Contains(line, what) {
			return nil
		}
	}
	return fmt.Errorf("the log of %s does not say that the disk is full (%s)", n.name, what)
}

// diskFull: the disk under the only coordinator fills up. It stops acknowledging
// and ends with a clear line; with space it starts again and nothing is gone
// (F12).
func diskFull(ctx context.Context, b *bed) error {
	n := b.nodes[0]
	disk, err := n.smallDisk()
	if err != nil {
		return err
	}
	defer disk.release()
	if err := n.strike("log.segment", fillSegment); err != nil {
		return err
	}
	if err := b.startAll(ctx); err != nil {
		return err
	}
	over := b.fault(record.Fault{Name: "disk-full", Target: []string{n.name}})
	defer over()
	if err := disk.fill(tightRoom); err != nil {
		return err
	}
	stop := b.filler(ctx)
	err = gone(ctx, n, healTime)
	stop()
	if err := errors.Join(err, saysWhy(n, ""), disk.empty()); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	over()
	if _, err := b.startAgent("agent-1", 4); err != nil {
		return err
	}
	return b.settle(ctx)
}

// diskFullOne: the disk of one of three fills up, the leader's, then a
// follower's: it ends, the others go on, and with space it catches up (F12).
func diskFullOne(ctx context.Context, b *bed) error {
	return b.onSmallDisks(ctx, "disk-full-one", fillSegment, func(a *arena, disks map[*node]*smallDisk) error {
		for _, choose := range []func(context.Context) (*node, error){a.leading, a.follower} {
			n, err := choose(ctx)
			if err != nil {
				return err
			}
			stop := b.filler(ctx)
			err = a.fullUp(ctx, n, disks[n], tightRoom)
			stop()
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// diskFullSnapshot: there is space for the log of one of three, and none for
// the snapshot that comes next (F12).
func diskFullSnapshot(ctx context.Context, b *bed) error {
	for _, n := range b.nodes {
		if err := n.strike("snapshot.entries", snapshotEntries); err != nil {
			return err
		}
	}
	return b.onSmallDisks(ctx, "disk-full-snapshot", "", func(a *arena, disks map[*node]*smallDisk) error {
		for _, choose := range []func(context.Context) (*node, error){a.leading, a.follower} {
			n, err := choose(ctx)
			if err != nil {
				return err
			}
			if err := a.fullUp(ctx, n, disks[n], noRoom); err != nil {
				return err
			}
			if err := saysWhy(n, "snapshot"); err != nil {
				return err
			}
		}
		return nil
	})
}

// onSmallDisks runs faults under load in a cluster whose disks can be filled.
func (b *bed) onSmallDisks(ctx context.Context, name, segment string, run func(*arena, map[*node]*smallDisk) error) error {
	disks := make(map[*node]*smallDisk)
	defer func() {
		b.halt() // before the disks go
		for _, d := range disks {
			d.release()
		}
	}()
	for _, n := range b.nodes {
		d, err := n.smallDisk()
		if err != nil {
			return err
		}
		disks[n] = d
		if segment != "" {
			if err := n.strike("log.segment", segment); err != nil {
				return err
			}
		}
	}
	if err := b.simple(ctx, 6); err != nil {
		return err
	}
	a := &arena{bed: b, load: b.startLoad(ctx), name: name}
	defer a.load.end()
	if err := run(a, disks); err != nil {
		return err
	}
	a.load.end()
	err := b.settle(ctx)
	b.log.Ending()
	return err
}

// fullUp fills one coordinator's disk, and lets it start again with space.
func (a *arena) fullUp(ctx context.Context, n *node, d *smallDisk, room uint64) error {
	if err := a.healthy(ctx); err != nil {
		return err
	}
	if err := a.load.warm(ctx); err != nil {
		return err
	}
	if err := os.Truncate(n.log, 0); err != nil { // only what it says from now on counts
		return err
	}
	fault := a.inject(a.ofNodes(killLimit, n))
	defer fault.over()
	if err := errors.Join(d.fill(room), gone(ctx, n, healTime)); err != nil {
		return err
	}
	fault.measure(ctx)
	fault.over()
	if err := errors.Join(saysWhy(n, ""), d.empty()); err != nil {
		return err
	}
	return n.start(ctx)
}
