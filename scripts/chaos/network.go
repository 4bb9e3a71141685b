package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"windlass/scripts/chaos/wire"
)

// cutTime is how long a cut lasts: several election timeouts.
const cutTime = 5 * time.Second

// outward is what one coordinator sends to the others.
func outward(n *node, others ...*node) (out []wire.Pair) {
	for _, o := range others {
		out = append(out, wire.Pair{From: n.name, To: o.name})
	}
	return out
}

// inward is what one coordinator is sent by the others.
func inward(n *node, others ...*node) (out []wire.Pair) {
	for _, o := range others {
		out = append(out, wire.Pair{From: o.name, To: n.name})
	}
	return out
}

// around is everything between one coordinator and the others.
func around(n *node, others ...*node) []wire.Pair {
	return append(outward(n, others...), inward(n, others...)...)
}

// everyPair is everything between coordinators.
func (b *bed) everyPair() (out []wire.Pair) {
	for _, n := range b.nodes {
		out = append(out, outward(n, b.others(n)...)...)
	}
	return out
}

// metBy runs something that breaks the network, and fails when nothing that was
// sent met that.
func (a *arena) metBy(run func() error) error {
	before, err := a.net.Met()
	if err != nil {
		return err
	}
	if err := run(); err != nil {
		return err
	}
	after, err := a.net.Met()
	if err == nil && after == before {
		err = errors.New("the run is invalid: nothing that was sent met the fault")
	}
	return err
}

// duringCut breaks the network, measures, keeps it so for a while, and heals.
func (a *arena) duringCut(ctx context.Context, limit time.Duration, inject func() error, nodes ...*node) error {
	return a.metBy(func() error {
		over, err := a.outage(ctx, a.ofNodes(limit, nodes...), inject)
		if err == nil {
			err = pause(ctx, cutTime)
		}
		err = errors.Join(err, a.net.Heal())
		over()
		return err
	})
}

// leaderIsolated: nothing passes between the leader and the others; clients
// still reach all three (F6).
func leaderIsolated(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(around(n, others...)...) }, n)
}

// followerIsolated: a minority with clients attached (F6).
func followerIsolated(ctx context.Context, a *arena) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(around(n, a.others(n)...)...) }, n)
}

// leaderMute: what the leader sends arrives nowhere; it hears everybody (F7).
func leaderMute(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(outward(n, others...)...) }, n)
}

// leaderDeaf: the leader hears nobody; what it sends arrives (F7).
func leaderDeaf(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(inward(n, others...)...) }, n)
}

// leaderToFollower: the leader's packets to one follower are lost (F7).
func leaderToFollower(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(outward(n, others[0])...) }, n, others[0])
}

// partialCut: the leader and one follower do not reach each other, the third
// sees both (F7).
func partialCut(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(around(n, others[0])...) }, n, others[0])
}

// netDelay: every way between coordinators takes 75 ms give or take 50 (F8).
func netDelay(ctx context.Context, a *arena) error {
	return a.duringCut(ctx, 0, func() error { return a.net.Delay(75*time.Millisecond, 50*time.Millisecond, a.everyPair()...) }, a.nodes...)
}

// netLoss: every way between coordinators loses a tenth, then a third of what is
// sent (F8).
func netLoss(ctx context.Context, a *arena) error {
	for _, share := range []float64{0.1, 0.3} {
		if err := a.duringCut(ctx, 0, func() error { return a.net.Lose(share, a.everyPair()...) }, a.nodes...); err != nil {
			return fmt.Errorf("%.0f%%: %w", 100*share, err)
		}
	}
	return nil
}

// resets are those of one storm.
const resets = 20

// netResets: connections between coordinators are reset as soon as something is
// sent on them, and new ones refused, for a moment, again and again (F8).
func netResets(ctx context.Context, a *arena) error {
	over := a.fault(a.ofNodes(0, a.nodes...))
	defer over()
	return a.metBy(func() error {
		for range resets {
			if err := a.net.Refuse(a.everyPair()...); err != nil {
				return err
			}
			if err := pause(ctx, a.short()); err != nil {
				return err
			}
			if err := a.net.Heal(); err != nil {
				return err
			}
			if err := pause(ctx, a.short()); err != nil {
				return err
			}
		}
		return nil
	})
}

// short is about a heartbeat.
func (a *arena) short() time.Duration { return time.Duration(50+a.rand.IntN(200)) * time.Millisecond }

// netDuplicates: what coordinators send to each other on new connections arrives
// once more, later, on a connection of its own (F8).
func netDuplicates(ctx context.Context, a *arena) error {
	return a.duringCut(ctx, 0, func() error { return a.net.Double(a.everyPair()...) }, a.nodes...)
}

// halfOpen: the connections that the leader has with the others carry nothing
// any more, in neither direction, and nobody is told; new ones do (F8).
func halfOpen(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Silence(around(n, others...)...) }, n)
}
