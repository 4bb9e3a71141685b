package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// operate runs one command of the CLI against this coordinator, as an operator
// does.
func (n *node) operate(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, n.b.binary, append([]string{"cluster"}, args...)...)
	cmd.Env = append(os.Environ(), "WINDLASS_ADDR=http://"+n.api, "WINDLASS_API_KEY="+bedKey)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("windlass cluster %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}

// membership: under load, leadership is moved by hand, a follower leaves and
// comes back as a new one, a dead one is removed and replaced, and the leader
// itself leaves (F19).
func membership(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { return n.operate(ctx, "transfer-leader") })
	over()
	if err != nil {
		return err
	}
	if err := a.leave(ctx, others[0]); err != nil {
		return err
	}
	if err := a.replace(ctx); err != nil {
		return err
	}
	if n, _, err = a.leaderAnd(ctx); err != nil {
		return err
	}
	return a.leave(ctx, n)
}

// leave lets a coordinator leave, empties its disk, and starts it again.
func (a *arena) leave(ctx context.Context, n *node) error {
	over, err := a.outage(ctx, a.ofNodes(stopLimit, n), func() error { return n.operate(ctx, "leave", "--yes") })
	if err == nil {
		err = gone(ctx, n, healTime)
	}
	over()
	if err != nil {
		return err
	}
	if err := errors.Join(n.wipe(), n.start(ctx)); err != nil {
		return err
	}
	return a.healthy(ctx)
}

// replace kills a follower for good, removes it, and starts an empty one.
func (a *arena) replace(ctx context.Context) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	dead := others[len(others)-1]
	s, err := dead.status(ctx, false)
	if err != nil {
		return err
	}
	over, err := a.outage(ctx, a.ofNodes(killLimit, dead), func() error { dead.kill(); return nil })
	if err == nil {
		err = n.operate(ctx, "remove", "--yes", s.Node)
	}
	over()
	if err != nil {
		return err
	}
	if err := errors.Join(dead.wipe(), dead.start(ctx)); err != nil {
		return err
	}
	return a.healthy(ctx)
}

// memberKill: the leader kills itself at the entry that changes the membership,
// before and after that is on its disk (F1, F19). Somebody leads, and the
// change has happened or not: a follower that left is started as a new one.
func memberKill(ctx context.Context, a *arena) error {
	for _, point := range []string{"config.before", "config.after"} {
		n, others, err := a.leaderAnd(ctx)
		if err != nil {
			return err
		}
		if err := n.strike(point, "kill"); err != nil {
			return err
		}
		leaver := others[0]
		if err := os.Truncate(leaver.log, 0); err != nil { // only what it says from now on counts
			return err
		}
		var asked sync.WaitGroup
		asked.Go(func() {
			// Refused while nobody leads for a moment; and its answer may be lost with the leader.
			for n.alive() && leaver.alive() && leaver.operate(ctx, "leave", "--yes") != nil && ctx.Err() == nil {
				_ = pause(ctx, again)
			}
		})
		err = gone(ctx, n, healTime)
		if err == nil {
			var over func()
			over, err = a.outage(ctx, a.ofNodes(0, n, leaver), func() error { return n.start(ctx) })
			over()
		}
		asked.Wait()
		if err != nil {
			return err
		}
		left, err := logHas(leaver, "left its cluster", "removed from its cluster")
		if err != nil {
			return err
		}
		if left {
			if err := errors.Join(gone(ctx, leaver, healTime), leaver.wipe()); err != nil {
				return err
			}
		}
		if err := a.healthy(ctx); err != nil {
			return err
		}
	}
	return nil
}

// backup: a snapshot is saved under load and restored into an empty cluster,
// twice; the second time that one is running and has other jobs (F33). What was
// acknowledged before the backup began is there, the same on all.
func backup(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 4); err != nil {
		return err
	}
	l := b.startLoad(ctx)
	defer l.end()
	if err := l.warm(ctx); err != nil {
		return err
	}
	b.mu.Lock()
	before := make(map[int]protocol.JobID, len(b.tasks))
	for task, job := range b.tasks {
		before[task] = job
	}
	b.mu.Unlock()
	file := b.path("backup")
	over := b.fault(record.Fault{Name: "backup-restore"})
	defer over()
	if err := b.nodes[1].operate(ctx, "snapshot", "save", file); err != nil {
		return err
	}
	if err := b.nodes[1].operate(ctx, "snapshot", "verify", file); err != nil {
		return err
	}
	if err := b.restored(ctx, file, before); err != nil {
		return err
	}
	over()
	l.end()
	return b.settle(ctx)
}

// restored restores a snapshot into a second cluster and compares. No agent
// runs there: its jobs are the first cluster's.
func (b *bed) restored(ctx context.Context, file string, want map[int]protocol.JobID) error {
	second, err := newBed(b.world, b.rand, len(b.nodes))
	if err != nil {
		return err
	}
	defer func() { _ = second.remove() }()
	defer second.end()
	if err := second.startAll(ctx); err != nil {
		return err
	}
	for range 2 {
		if err := second.nodes[2].operate(ctx, "snapshot", "restore", "--yes", file); err != nil {
			return err
		}
		if err := second.holds(ctx, want); err != nil {
			return err
		}
		c := &caller{b: second, name: "after"}
		o := second.newOrder(0)
		o.task.N += leftTask
		if _, err := c.must(ctx, o); err != nil {
			return fmt.Errorf("a restored cluster takes no jobs: %w", err)
		}
	}
	return nil
}

// holds checks that every coordinator has these jobs, and the same state.
func (b *bed) holds(ctx context.Context, want map[int]protocol.JobID) error {
	return within(ctx, healTime, func(ctx context.Context) error {
		for {
			all, equal, err := b.digests(ctx)
			if err == nil && equal {
				return b.compare(ctx, all, want)
			}
			if perr := pause(ctx, 5*readyLook); perr != nil {
				return fmt.Errorf("the restored coordinators did not come to the same index: %v %w", all, errors.Join(err, perr))
			}
		}
	})
}

func (b *bed) compare(ctx context.Context, all []record.Final, want map[int]protocol.JobID) error {
	if err := b.lists(ctx, all); err != nil {
		return err
	}
	for _, f := range all {
		have := make(map[string]bool, len(f.Docs))
		for _, d := range f.Docs {
			have[d.Job] = true
		}
		for task, job := range want {
			if !have[job.String()] {
				return fmt.Errorf("I1: task %d (%s) was acknowledged before the backup and is not in %s after the restore", task, job, f.Node)
			}
		}
		if f.Digest != all[0].Digest {
			return fmt.Errorf("I17: %s and %s differ after the restore", f.Node, all[0].Node)
		}
	}
	return nil
}
