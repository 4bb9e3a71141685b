package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"windlass/scripts/chaos/record"
)

const (
	floodCallers = 96               // far more than the coordinators serve at once here
	floodTime    = 12 * time.Second // several beats of every agent
	floodQueue   = 1500             // limits.queue, which the flood reaches
	heldJobs     = 6                // run through the whole flood on healthy agents
	heldMs       = 20_000           // longer than the flood
)

// overload: three times and more of what the cluster can take is submitted, at
// every coordinator, until the queue is full. Refusals are honest and have no
// effect, the limit is exact, and no agent loses a lease (F28).
func overload(ctx context.Context, b *bed) error {
	b.log.QueueLimit(floodQueue)
	for _, n := range b.nodes {
		if err := n.configure(fmt.Sprintf("limits: {queue: %d}\n", floodQueue)); err != nil {
			return err
		}
	}
	if err := b.simple(ctx, heldJobs+2); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	for range heldJobs {
		o := b.newOrder(heldMs)
		o.priority = "critical"
		job, err := c.must(ctx, o)
		if err != nil {
			return err
		}
		if err := c.running(ctx, o.task.N, job); err != nil {
			return err
		}
	}
	over := b.fault(record.Fault{Name: "overload"})
	refused, slow := b.flood(ctx)
	over()
	if refused == 0 {
		return errors.New("the run is invalid: nothing was refused, so it was no overload")
	}
	if slow > 0 {
		return fmt.Errorf("%d submits were neither taken nor refused within %s", slow, callTime)
	}
	if _, err := b.startAgent("agent-2", 8); err != nil {
		return err
	}
	return b.settle(ctx)
}

// flood submits from all sides and counts refusals and calls without an answer.
func (b *bed) flood(ctx context.Context) (refused, silent int64) {
	ctx, cancel := context.WithTimeout(ctx, floodTime)
	defer cancel()
	var wg sync.WaitGroup
	var no, slow atomic.Int64
	for i := range floodCallers {
		c := &caller{b: b, name: fmt.Sprint("flood-", i)}
		wg.Go(func() {
			for k := i; ctx.Err() == nil; k++ {
				r := c.submit(context.WithoutCancel(ctx), b.nodes[k%len(b.nodes)], b.newOrder(0))
				switch {
				case r.Status == http.StatusTooManyRequests:
					no.Add(1)
					_ = pause(ctx, again)
				case r.Status == 0:
					slow.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return no.Load(), slow.Load()
}
