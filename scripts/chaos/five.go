package main

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"windlass/scripts/chaos/record"
	"windlass/scripts/chaos/wire"
)

// killTwo: two of five are killed at once, the leader among them: three are a
// majority (F2).
func killTwo(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	if err := a.moment(ctx); err != nil {
		return err
	}
	dead := []*node{n, others[a.rand.IntN(len(others))]}
	over, err := a.outage(ctx, a.ofNodes(killLimit, dead...), func() error {
		var all sync.WaitGroup
		for _, d := range dead {
			all.Go(d.kill)
		}
		all.Wait()
		return nil
	})
	over()
	if err != nil {
		return err
	}
	return a.healthy(ctx)
}

// across is everything between the two sides of a partition.
func across(one, other []*node) (out []wire.Pair) {
	for _, n := range one {
		out = append(out, around(n, other...)...)
	}
	return out
}

// minorityOfFive: the leader and one more are cut off from three; both sides
// have clients (F6).
func minorityOfFive(ctx context.Context, a *arena) error {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	minority := []*node{n, others[0]}
	return a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(across(minority, others[1:])...) }, minority...)
}

// bridgeOfFive: two pairs do not reach each other, and a fifth reaches both. It
// is the leader, and then somebody else is: leadership stays where it is, or
// moves once (F7).
func bridgeOfFive(ctx context.Context, a *arena) error {
	for _, leads := range []bool{true, false} {
		for tries := 0; ; tries++ {
			began := record.Now()
			moved, err := a.bridge(ctx, leads)
			if err != nil {
				return err
			}
			if moved <= 1 {
				break
			}
			if tries == bridgeTries || !a.spoiled(began) {
				return fmt.Errorf("I20: leadership moved %d times although one coordinator reached everybody", moved)
			}
			fmt.Println("    leadership moved, but this machine was too busy to blame anybody: once more")
		}
	}
	return nil
}

// bridgeTries are those on a machine that is too busy.
const bridgeTries = 4

// bridge cuts two pairs off from each other, and returns how often leadership
// moved meanwhile.
func (a *arena) bridge(ctx context.Context, leads bool) (moved uint64, err error) {
	n, others, err := a.leaderAnd(ctx)
	if err != nil {
		return 0, err
	}
	bridge := n
	if !leads {
		bridge = others[a.rand.IntN(len(others))]
	}
	rest := slices.DeleteFunc(slices.Clone(a.nodes), func(o *node) bool { return o == bridge })
	before, err := n.status(ctx, false)
	if err != nil {
		return 0, err
	}
	if err := a.duringCut(ctx, stopLimit, func() error { return a.net.Cut(across(rest[:2], rest[2:])...) }, rest...); err != nil {
		return 0, err
	}
	if n, _, err = a.leaderAnd(ctx); err != nil {
		return 0, err
	}
	after, err := n.status(ctx, false)
	if err != nil {
		return 0, err
	}
	return after.Term - before.Term, a.healthy(ctx)
}
