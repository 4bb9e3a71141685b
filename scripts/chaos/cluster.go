package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"windlass/scripts/chaos/record"
)

// episode is one fault in a cluster under load.
type episode struct {
	name  string
	quick bool
	run   func(context.Context, *arena) error
}

// arena is a cluster with agents and load.
type arena struct {
	*bed
	load *load
	name string // of the episode that runs
}

// episodes are those of a cluster of so many, in the order of the catalogue of
// faults, F1 to F35.
func episodes(coordinators int) []episode {
	if coordinators == 5 {
		return []episode{
			{"two-of-five-kill", false, killTwo},
			{"minority-of-five", false, minorityOfFive},
			{"bridge-of-five", false, bridgeOfFive},
		}
	}
	return []episode{
		{"leader-kill", true, leaderKill},
		{"leader-kill-before-store", false, killAt("store.before")},
		{"leader-kill-after-store", true, killAt("store.after")},
		{"leader-kill-before-apply", false, killAt("apply.before")},
		{"leader-kill-after-apply", false, killAt("apply.after")},
		{"leader-kill-in-snapshot", false, killAt("snapshot.write")},
		{"follower-kill", false, followerKill},
		{"all-kill", true, allKill},
		{"leader-stop", true, leaderStop},
		{"leader-isolated", true, leaderIsolated},
		{"follower-isolated", false, followerIsolated},
		{"oneway-leader-mute", false, leaderMute},
		{"oneway-leader-deaf", false, leaderDeaf},
		{"oneway-to-follower", false, leaderToFollower},
		{"partial-cut", false, partialCut},
		{"net-delay", false, netDelay},
		{"net-loss", false, netLoss},
		{"net-resets", false, netResets},
		{"net-duplicates", false, netDuplicates},
		{"half-open", false, halfOpen},
		{"leader-disk-hang", true, diskHang},
		{"slow-fsync-leader", false, slowLeader},
		{"slow-fsync-all", false, slowAll},
		{"fsync-eio", true, fsyncEIO},
		{"vote-eio", false, voteEIO},
		{"wiped-disk", true, wipedDisk},
		{"torn-tail", false, tornTail},
		{"bit-flip", true, bitFlip},
		{"clock-jump", false, clockJump},
		{"rolling-restart", false, rollingRestart},
		{"snapshot-install", false, snapshotInstall},
		{"restore-eio", false, restoreEIO},
		{"membership", false, membership},
		{"leader-kill-in-membership", false, memberKill},
		{"same-key", true, sameKey},
		{"emfile", false, noFiles},
		{"cpu-quota", false, noProcessor},
		{"oom-kill", false, noMemory},
	}
}

// Limits of I20: how soon a submit must succeed after a fault.
const (
	killLimit = 3 * time.Second
	stopLimit = 5 * time.Second
	hangLimit = 10 * time.Second
)

// cooldown is how long load goes on after a fault was healed.
const cooldown = time.Second

// cluster runs the faults of a cluster of this size, one after the other, in one
// cluster under one load, and records one history. While it does, one agent is
// stopped past its leases.
func cluster(ctx context.Context, b *bed) error {
	for _, n := range b.nodes {
		if err := errors.Join(n.strike("snapshot.entries", snapshotEntries), n.strike("log.segment", segmentBytes)); err != nil {
			return err
		}
	}
	if err := b.startAll(ctx); err != nil {
		return err
	}
	for i := range clusterAgents {
		if _, err := b.startAgent(fmt.Sprint("agent-", i+1), 4); err != nil {
			return err
		}
	}
	a := &arena{bed: b, load: b.startLoad(ctx)}
	defer a.load.end()
	stopped, err := a.stopAgent(ctx)
	if err != nil {
		return err
	}
	for _, e := range b.chosen(ctx) {
		a.name = e.name
		start := time.Now()
		if err := a.one(ctx, e); err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		fmt.Printf("  %-26s %5.1fs\n", e.name, time.Since(start).Seconds())
	}
	if err := <-stopped; err != nil {
		return err
	}
	a.load.end()
	return b.settle(ctx)
}

// snapshotEntries are the log entries between two snapshots here, and kept
// behind one: a few seconds, so that every fault meets snapshots, and one who
// was away needs one.
const snapshotEntries = "256"

// segmentBytes make a segment of the log end every few seconds as well.
const segmentBytes = "131072"

// clusterAgents are enough that two serve the load while one is stopped.
const clusterAgents = 3

// chosen are the episodes of this run. They come in a random order, because
// what one fault leaves behind is what the next one meets.
func (b *bed) chosen(ctx context.Context) []episode {
	o, _ := ctx.Value(planKey{}).(options)
	var out []episode
	for _, e := range episodes(len(b.nodes)) {
		if o.episodes != "" && listed(o.episodes, e.name) || o.episodes == "" && (e.quick || o.set == "all") {
			out = append(out, e)
		}
	}
	r := rand.New(rand.NewPCG(b.rand.Uint64(), 3))
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// one runs one episode: it must be well before, and it must be well after.
func (a *arena) one(ctx context.Context, e episode) error {
	if err := a.healthy(ctx); err != nil {
		return err
	}
	if err := a.load.warm(ctx); err != nil {
		return err
	}
	if err := errors.Join(e.run(ctx, a), a.net.Heal()); err != nil {
		return err
	}
	if err := a.healthy(ctx); err != nil {
		return err
	}
	return pause(ctx, cooldown)
}

// leaderAnd returns who leads, and the others.
func (a *arena) leaderAnd(ctx context.Context) (*node, []*node, error) {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	n, err := a.leader(ctx)
	if err != nil {
		return nil, nil, err
	}
	return n, a.others(n), nil
}

// leading is who leads.
func (a *arena) leading(ctx context.Context) (*node, error) {
	n, _, err := a.leaderAnd(ctx)
	return n, err
}

// follower is one of those that do not lead.
func (a *arena) follower(ctx context.Context) (*node, error) {
	_, others, err := a.leaderAnd(ctx)
	if err != nil {
		return nil, err
	}
	return others[a.rand.IntN(len(others))], nil
}

// moment is a random one, so that a fault meets every stage of the work.
func (a *arena) moment(ctx context.Context) error {
	return pause(ctx, time.Duration(a.rand.IntN(300))*time.Millisecond)
}

// ofNodes is a fault of these coordinators that must not hold up submits for
// longer than limit; 0: that is not the question.
func (a *arena) ofNodes(limit time.Duration, nodes ...*node) record.Fault {
	f := record.Fault{Name: a.name, Limit: int64(limit)}
	for _, n := range nodes {
		f.Target = append(f.Target, n.name)
	}
	return f
}

// logHas reports whether a process said something.
func logHas(n *node, texts ...string) (bool, error) {
	log, err := readFile(n.log)
	if err != nil {
		return false, err
	}
	for _, t := range texts {
		if strings.Contains(log, t) {
			return true, nil
		}
	}
	return false, nil
}

var errNotGone = errors.New("the coordinator did not end")

// gone waits until a coordinator has ended by itself.
func gone(ctx context.Context, n *node, d time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	select {
	case <-n.over():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %s, within %s", errNotGone, n.name, d)
	}
}
