package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// load is clients that submit, read and cancel at every coordinator while
// faults happen.
type load struct {
	b    *bed
	stop context.CancelFunc
	wg   sync.WaitGroup
	acks atomic.Int64

	mu     sync.Mutex
	recent []known // the newest acknowledged jobs
	next   int
}

type known struct {
	task int
	job  protocol.JobID
}

const (
	submitters  = 6                       // clients that submit, side by side, so that a fault meets submits in every stage
	readers     = 3                       // clients that read what others submitted
	submitPace  = 100 * time.Millisecond  // between two submits of a client: 60 a second together, of which a loaded machine makes fewer
	readPace    = 25 * time.Millisecond   // between two reads of a client
	recentJobs  = 128                     // jobs that readers choose from
	cancelShare = 0.06                    // of acknowledged jobs
	abandon     = 0.3                     // of submits without success, so that refusals and doubts stand for themselves
	watchers    = 2                       // clients that follow jobs by streams, from one coordinator to the next
	watchTime   = 20 * time.Second        // that one job is followed at most
	longest     = 100                     // ms that a job takes at most
	minRate     = 15.0                    // acknowledged submits a second without which a fault proves nothing
	rateTime    = 1500 * time.Millisecond // over which the rate is taken
)

// startLoad begins; the clients' choices come from the seed.
func (b *bed) startLoad(ctx context.Context) *load {
	ctx, stop := context.WithCancel(ctx)
	l := &load{b: b, stop: stop, recent: make([]known, 0, recentJobs)}
	for i := range submitters {
		r := rand.New(rand.NewPCG(b.rand.Uint64(), uint64(i)))
		l.wg.Go(func() { l.submits(ctx, &caller{b: b, name: fmt.Sprint("submitter-", i)}, r) })
	}
	for i := range readers {
		r := rand.New(rand.NewPCG(b.rand.Uint64(), uint64(i)))
		l.wg.Go(func() { l.reads(ctx, &caller{b: b, name: fmt.Sprint("reader-", i)}, r) })
	}
	for i := range watchers {
		r := rand.New(rand.NewPCG(b.rand.Uint64(), uint64(i)))
		l.wg.Go(func() { l.watches(ctx, fmt.Sprint("watcher-", i), r) })
	}
	return l
}

// end stops the clients and waits for their last answers.
func (l *load) end() {
	l.stop()
	l.wg.Wait()
}

func (l *load) submits(ctx context.Context, c *caller, r *rand.Rand) {
	at := r.IntN(len(l.b.nodes))
	for ctx.Err() == nil {
		o := l.b.newOrder(r.IntN(longest))
		o.priority = protocol.Priority(1 + r.IntN(protocol.Priorities)).String()
		for ctx.Err() == nil {
			call := c.submit(ctx, l.b.nodes[at%len(l.b.nodes)], o)
			if call.Outcome == record.OK {
				l.acknowledged(ctx, c, r, o.task.N, call.Job)
				break
			}
			at++
			_ = pause(ctx, again)
			if r.Float64() < abandon {
				break
			}
		}
		_ = pause(ctx, submitPace)
	}
}

func (l *load) acknowledged(ctx context.Context, c *caller, r *rand.Rand, task int, text string) {
	l.acks.Add(1)
	job, err := protocol.ParseJobID(text)
	if err != nil {
		return
	}
	l.mu.Lock()
	if k := (known{task, job}); len(l.recent) < recentJobs {
		l.recent = append(l.recent, k)
	} else {
		l.recent[l.next%recentJobs] = k
		l.next++
	}
	l.mu.Unlock()
	any := l.b.nodes[r.IntN(len(l.b.nodes))]
	switch p := r.Float64(); {
	case p < cancelShare:
		c.cancel(ctx, any, task, text)
	case p < 0.5: // what was acknowledged is seen at once, everywhere
		c.read(ctx, any, task, text)
	}
}

func (l *load) reads(ctx context.Context, c *caller, r *rand.Rand) {
	for ctx.Err() == nil {
		if k, ok := l.pick(r); ok {
			c.read(ctx, l.b.nodes[r.IntN(len(l.b.nodes))], k.task, k.job.String())
		}
		_ = pause(ctx, readPace)
	}
}

// watches follows one job after the other to its end. The client goes on with
// the next coordinator where a stream broke.
func (l *load) watches(ctx context.Context, name string, r *rand.Rand) {
	for ctx.Err() == nil {
		k, ok := l.pick(r)
		if !ok {
			_ = pause(ctx, readPace)
			continue
		}
		one, cancel := context.WithTimeout(ctx, watchTime)
		for e, err := range l.b.client.Watch(one, k.job) {
			if err != nil {
				break
			}
			var s protocol.JobStatus
			if e.Type != protocol.EventStatus || json.Unmarshal(e.Data, &s) != nil {
				continue
			}
			d, now := docOf(&s), record.Now()
			l.b.log.Call(record.Call{Client: name, Op: record.OpWatch, Task: k.task, Job: k.job.String(), Start: now, End: now, Outcome: record.OK, Index: d.Index, Doc: &d})
		}
		cancel()
	}
}

// pick is one of the newest jobs.
func (l *load) pick(r *rand.Rand) (known, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.recent) == 0 {
		return known{}, false
	}
	return l.recent[r.IntN(len(l.recent))], true
}

// warm waits until enough is acknowledged for a fault to prove something, and
// for as long as this machine is too busy with others for that.
func (l *load) warm(ctx context.Context) error {
	for tries, busy := 0, 0; ; {
		before, began := l.acks.Load(), record.Now()
		if err := pause(ctx, rateTime); err != nil {
			return err
		}
		rate := float64(l.acks.Load()-before) / rateTime.Seconds()
		switch {
		case rate >= minRate:
			return nil
		case l.b.spoiled(began) && busy < busyTries:
			busy++
		case tries < warmTries:
			tries++
		default:
			return fmt.Errorf("the run is invalid: %.0f acknowledged submits a second before a fault, at least %.0f are needed", rate, minRate)
		}
	}
}

// What warm waits for.
const (
	warmTries = 20  // a cluster that recovers
	busyTries = 200 // a machine that is busy with others
)
