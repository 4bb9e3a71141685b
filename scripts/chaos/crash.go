package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// leaderKill: kill -9 of whoever leads, at a random moment, three times (F1).
func leaderKill(ctx context.Context, a *arena) error {
	for range 3 {
		n, _, err := a.leaderAnd(ctx)
		if err != nil {
			return err
		}
		if err := a.moment(ctx); err != nil {
			return err
		}
		over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { n.kill(); return nil })
		over()
		if err != nil {
			return err
		}
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// killAt: the leader kills itself exactly at a point of a write (F1, F35).
func killAt(point string) func(context.Context, *arena) error {
	return func(ctx context.Context, a *arena) error {
		n, _, err := a.leaderAnd(ctx)
		if err != nil {
			return err
		}
		fault := a.inject(a.ofNodes(killLimit, n))
		defer fault.over()
		if err := errors.Join(n.strike(point, "kill"), gone(ctx, n, healTime)); err != nil {
			return err
		}
		fault.measure(ctx)
		fault.over()
		return n.start(ctx)
	}
}

// followerKill: kill -9 of one that does not lead: nobody may notice (F2).
func followerKill(ctx context.Context, a *arena) error {
	n, err := a.follower(ctx)
	if err != nil {
		return err
	}
	if err := a.moment(ctx); err != nil {
		return err
	}
	over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { n.kill(); return nil })
	over()
	if err != nil {
		return err
	}
	return n.start(ctx)
}

// allKill: kill -9 of all at once, then of all at once while they start (F2).
func allKill(ctx context.Context, a *arena) error {
	for range 2 {
		if err := a.moment(ctx); err != nil {
			return err
		}
		over := a.fault(a.ofNodes(0, a.nodes...))
		var all sync.WaitGroup
		for _, n := range a.nodes {
			all.Go(n.kill)
		}
		all.Wait()
		over()
		for _, n := range a.nodes {
			if err := a.spawn(n.proc); err != nil {
				return err
			}
		}
	}
	return a.healthy(ctx)
}

// leaderStop: the leader is stopped past its lease and continues in the middle
// of reads and writes: what it believes then must reach nobody (F4).
func leaderStop(ctx context.Context, a *arena) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	if err := a.moment(ctx); err != nil {
		return err
	}
	over, err := a.outage(ctx, a.ofNodes(stopLimit, n), func() error { return n.signal(syscall.SIGSTOP) })
	if err != nil {
		return err
	}
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	err = n.signal(syscall.SIGCONT)
	over()
	if err != nil {
		return err
	}
	// Reads and writes go to it from its first moment on.
	return pause(ctx, 2*time.Second)
}

// stopAgent stops one agent past its leases in the background: its jobs run
// elsewhere, and what it says afterwards is refused (F5).
func (a *arena) stopAgent(ctx context.Context) (<-chan error, error) {
	p := a.agents[len(a.agents)-1]
	if err := a.load.warm(ctx); err != nil {
		return nil, err
	}
	over := a.fault(record.Fault{Name: "agent-stop", Target: []string{p.name}})
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	a.work.Go(func() {
		err := pause(ctx, protocol.LeaseTerm+10*time.Second)
		if cerr := p.signal(syscall.SIGCONT); err == nil {
			err = cerr
		}
		// What it had begun before may end and be refused only now.
		_ = pause(ctx, agentReturn)
		over()
		done <- err
	})
	return done, nil
}

// agentReturn is how long a returned agent needs to hear what became of its jobs.
const agentReturn = 5 * time.Second

// rollingRestart: each coordinator in turn is stopped as a service manager does
// it, and started; the leader hands leadership on (F18).
func rollingRestart(ctx context.Context, a *arena) error {
	for _, n := range a.nodes {
		over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { return n.signal(syscall.SIGTERM) })
		if err == nil {
			err = gone(ctx, n, healTime)
		}
		over()
		if err != nil {
			return err
		}
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

// sameKey: a hundred callers submit one order at three coordinators while the
// leader is killed: one job (F26).
func sameKey(ctx context.Context, a *arena) error {
	const callers = 100
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	o := a.newOrder(50)
	var all sync.WaitGroup
	ctx, cancel := context.WithTimeout(ctx, outageTime)
	defer cancel()
	for i := range callers {
		c := &caller{b: a.bed, name: fmt.Sprint("same-", i)}
		all.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				if c.submit(ctx, a.nodes[(i+k)%len(a.nodes)], o).Outcome == record.OK {
					return
				}
				_ = pause(ctx, callers*time.Millisecond) // together ten a second at each
			}
		})
	}
	if err := pause(ctx, 30*time.Millisecond); err != nil {
		return err
	}
	over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { n.kill(); return nil })
	all.Wait()
	over()
	if err != nil {
		return err
	}
	return n.start(ctx)
}
