package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"sync"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/check"
	"windlass/scripts/chaos/record"
)

// settle lets every acknowledged job end, and writes down what each coordinator
// holds then. What it cannot wait for is the checker's to judge.
func (b *bed) settle(ctx context.Context) error {
	if err := b.healthy(ctx); err != nil {
		return err
	}
	c := &caller{b: b, name: "settle"}
	b.mu.Lock()
	tasks := maps.Clone(b.tasks)
	b.mu.Unlock()
	var open []int
	for n := range tasks {
		open = append(open, n)
	}
	slices.Sort(open)
	var wg sync.WaitGroup
	errs := make([]error, settlers)
	for i := range settlers {
		wg.Go(func() {
			for k := i; k < len(open); k += settlers {
				_, err := c.await(ctx, open[k], tasks[open[k]])
				errs[i] = errors.Join(errs[i], err)
				if ctx.Err() != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if err := b.idle(ctx); err != nil {
		return err
	}
	b.log.Settled()
	return b.finals(ctx)
}

// idle waits until no job is left that nobody was told about. Whether one is
// stuck is the checker's to say, so it waits no longer than jobs may take here.
func (b *bed) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healTime)
	defer cancel()
	for {
		n, err := b.leader(ctx)
		if err != nil {
			return err
		}
		if s, err := n.status(ctx, false); err == nil && s.Jobs.Queued+s.Jobs.Running == 0 {
			return nil
		}
		if pause(ctx, 5*readyLook) != nil {
			return nil
		}
	}
}

// settlers wait side by side for jobs to end.
const settlers = 4

// finals waits until all coordinators have applied the same, and writes down
// what they hold.
func (b *bed) finals(ctx context.Context) error {
	return within(ctx, healTime, func(ctx context.Context) error {
		for {
			all, equal, err := b.digests(ctx)
			if err == nil && equal {
				return b.lists(ctx, all)
			}
			if perr := pause(ctx, 5*readyLook); perr != nil {
				return fmt.Errorf("the coordinators did not come to the same index: %v %w", all, errors.Join(err, perr))
			}
		}
	})
}

func (b *bed) digests(ctx context.Context) (all []record.Final, equal bool, err error) {
	equal = true
	for _, n := range b.nodes {
		s, err := n.status(ctx, true)
		if err != nil {
			return nil, false, err
		}
		all = append(all, record.Final{Node: n.name, Index: s.Index, Digest: s.Digest})
		equal = equal && s.Index == all[0].Index
	}
	return all, equal, nil
}

// lists reads every coordinator's own list of jobs.
func (b *bed) lists(ctx context.Context, all []record.Final) error {
	for i, n := range b.nodes {
		cursor := ""
		for {
			var page protocol.Page[protocol.JobStatus]
			q := url.Values{"limit": {"1000"}, "consistency": {"stale"}}
			if cursor != "" {
				q.Set("cursor", cursor)
			}
			if err := n.get(ctx, "/v2/jobs?"+q.Encode(), &page); err != nil {
				return err
			}
			for j := range page.Data {
				all[i].Docs = append(all[i].Docs, docOf(&page.Data[j]))
			}
			if cursor = page.NextCursor; cursor == "" {
				break
			}
		}
		b.log.Final(all[i])
	}
	return nil
}

// injection is a fault that is not over yet.
type injection struct {
	b    *bed
	once sync.Once
	f    record.Fault
}

func (b *bed) inject(f record.Fault) *injection {
	f.At = record.Now()
	b.mu.Lock()
	b.injected++
	b.mu.Unlock()
	return &injection{b: b, f: f}
}

func (i *injection) over() {
	i.once.Do(func() {
		i.f.Until = record.Now()
		i.b.log.Fault(i.f)
	})
}

// fault writes down that something was done to somebody, from now until the
// returned function is called. limit is how soon a submit must succeed again; 0
// where that is not the question.
func (b *bed) fault(f record.Fault) (over func()) { return b.inject(f).over }

// hit is a fault of a moment.
func (b *bed) hit(name string, targets ...string) {
	b.fault(record.Fault{Name: name, Target: targets})()
}

// probePace is how often a submit is begun while an outage is measured.
const probePace = 50 * time.Millisecond

// outage injects a fault and measures for how long nobody serves.
func (b *bed) outage(ctx context.Context, f record.Fault, inject func() error) (over func(), err error) {
	fault := b.inject(f)
	if err := inject(); err != nil {
		return fault.over, err
	}
	fault.measure(ctx)
	return fault.over, nil
}

// measure begins when a fault is wholly in force: it keeps submitting, at every
// coordinator in turn, until one is acknowledged that began after that. The
// checker says how long it was.
func (i *injection) measure(ctx context.Context) {
	i.f.Struck = record.Now()
	done := make(chan struct{})
	var first sync.Once
	var probes sync.WaitGroup
	defer probes.Wait()
	c := &caller{b: i.b, name: "probe"}
	ctx, cancel := context.WithTimeout(ctx, outageTime)
	defer cancel()
	tick := time.NewTicker(probePace)
	defer tick.Stop()
	for n := 0; ; n++ {
		probes.Go(func() {
			if c.submit(ctx, i.b.nodes[n%len(i.b.nodes)], i.b.newOrder(0)).Outcome == record.OK {
				first.Do(func() { close(done) })
			}
		})
		select {
		case <-done:
			return
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// outageTime is when an outage is given up.
const outageTime = 30 * time.Second

// newOrder is an order with a task number that nobody had.
func (b *bed) newOrder(ms int) order {
	return order{task: task{N: int(b.next.Add(1)), Ms: ms}, endpoint: b.point}
}

// judge reads the history back and checks it.
func judge(dir string) (*check.Report, *record.History, error) {
	h, err := record.Load(dir)
	if err != nil {
		return nil, nil, err
	}
	return check.History(h), h, nil
}
