package main

import (
	"context"
	"time"
)

// cutTime is how long a cut lasts: several election timeouts.
const cutTime = 5 * time.Second

// duringCut cuts, measures, keeps it so for a while, and heals.
func (a *arena) duringCut(ctx context.Context, limit time.Duration, inject func(), nodes ...*node) error {
	over, err := a.outage(ctx, a.ofNodes(limit, nodes...), func() error { inject(); return nil })
	if err == nil {
		err = pause(ctx, cutTime)
	}
	a.healLinks()
	over()
	return err
}

// leaderIsolated: nothing passes between the leader and the others; clients
// still reach all three (F6).
func leaderIsolated(ctx context.Context, a *arena) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() { a.isolate(n) }, n)
}

// followerIsolated: a minority with clients attached (F6).
func followerIsolated(ctx context.Context, a *arena) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() { a.isolate(n) }, n)
}

// leaderMute: what the leader sends arrives nowhere; it hears everybody (F7).
func leaderMute(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() {
		for _, o := range others {
			a.packets(n, o, cut)
		}
	}, n)
}

// leaderDeaf: the leader hears nobody; what it sends arrives (F7).
func leaderDeaf(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() {
		for _, o := range others {
			a.packets(o, n, cut)
		}
	}, n)
}

// leaderToFollower: the leader's packets to one follower are lost (F7).
func leaderToFollower(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() { a.packets(n, others[0], cut) }, n, others[0])
}

// partialCut: the leader and one follower do not reach each other, the third
// sees both (F7).
func partialCut(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() { a.cutBetween(n, others[0]) }, n, others[0])
}

// delayLoss: every way between coordinators takes 75 ms give or take 50, and
// every tenth chunk is sent again (F8).
func delayLoss(ctx context.Context, a *arena) error {
	bad := func(w *way) { w.delay, w.jitter, w.loss = 75*time.Millisecond, 50*time.Millisecond, 0.1 }
	return a.duringCut(ctx, 0, func() {
		for _, n := range a.nodes {
			for _, o := range a.others(n) {
				a.packets(n, o, bad)
			}
		}
	}, a.nodes...)
}

// resetStorm: every connection between coordinators is reset, twenty times, and
// some are refused (F8).
func resetStorm(ctx context.Context, a *arena) error {
	over := a.fault(a.ofNodes(0, a.nodes...))
	defer over()
	for range 20 {
		for _, l := range a.links {
			l.reset()
		}
		if err := pause(ctx, time.Duration(50+a.rand.IntN(200))*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}
