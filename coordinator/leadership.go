package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// establishPause is between two attempts to take up a leadership that raft
// granted: long enough not to fill the log with barriers.
const establishPause = time.Second

// followLeadership owns everything that only the leader does. It runs one term
// at a time and waits for its end before the next begins: two trues in a row
// are two leaderships. It returns when ctx ends, or with the error that the
// process cannot go on with.
func (c *Coordinator) followLeadership(ctx context.Context) error {
	failed := make(chan error, 1)
	end := func() {}
	defer func() { end() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case leads := <-c.node.Leadership():
			end()
			end = func() {}
			if leads {
				end = c.beginTerm(ctx, failed)
			} else {
				c.log.Info().Msg("this coordinator does not lead any more")
			}
		}
	}
}

// beginTerm starts the leader's work; the function it returns ends that work
// and waits for it.
func (c *Coordinator) beginTerm(ctx context.Context, failed chan<- error) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.lead(ctx); err != nil && ctx.Err() == nil {
			failed <- err
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// duty is work that only the leader does. It runs from the moment that the
// broker serves until ctx ends, beside the other duties; one that has nothing
// more to do may return before.
type duty func(ctx context.Context)

// duties are all of them, in no order.
func (c *Coordinator) duties() []duty {
	return []duty{
		c.keepSettings,
		c.retain,
		c.collectShared,
		c.clockRule().watch,
		c.raiseFeature,
		c.proposeCheckpoints,
	}
}

// lead is one leadership: everything committed is applied, then the clock is
// anchored to it, then the broker is built from it and accepts. Only after
// that is anything proposed, and the duties begin.
func (c *Coordinator) lead(ctx context.Context) error {
	for {
		err := c.node.Barrier(ctx)
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		c.log.Warn().Err(err).Msg("leadership cannot be taken up yet")
		if !pause(ctx, establishPause) {
			return nil
		}
	}
	c.place.term.Store(c.node.Stats().Term)
	offsetMs, ok := c.clockRule().settle(ctx)
	if !ok {
		return nil
	}
	view := c.store.View()
	c.node.Clock().Anchor(view.ClockMs(), c.wallMs()+offsetMs)
	c.log.Info().Uint64("index", view.Index()).Int64("bytes", view.Bytes()).Msg("this coordinator leads")
	return c.serveTerm(ctx, c.node.Clock().NowMs())
}

// serveTerm runs the broker and, beside it, the duties, until ctx ends or the
// broker cannot go on.
func (c *Coordinator) serveTerm(ctx context.Context, sinceMs int64) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	serves := c.broker.Ready()
	work.Go(func() {
		select {
		case <-serves:
		case <-ctx.Done():
			return
		}
		for _, d := range c.duties() {
			work.Go(func() { d(ctx) })
		}
	})
	defer c.place.serve(ctx, sinceMs)()
	err := c.broker.Run(ctx)
	cancel()
	work.Wait()
	if err != nil {
		return fmt.Errorf("cannot lead: %w", err)
	}
	return nil
}

// keepSettings makes the replicated limits those of this leader's
// configuration: all nodes must refuse the same submit.
func (c *Coordinator) keepSettings(ctx context.Context) {
	want := int64(c.cfg.State.MaxBytes)
	for c.store.View().Settings().MaxBytes != want {
		put := &command.Command{Op: &command.Command_PutSettings{PutSettings: &command.PutSettings{MaxBytes: want}}}
		if _, err := c.node.Proposer().Propose(ctx, put); err != nil {
			if ctx.Err() != nil {
				return
			}
			c.log.Warn().Err(err).Msg("limits could not be replicated yet")
			if !pause(ctx, establishPause) {
				return
			}
		}
	}
}

const (
	// retainPeriod is how late a job may leave after archive.keep.
	retainPeriod = time.Minute

	// evictBatch bounds one Evict: its apply stays a fraction of a millisecond
	// per hundred jobs, and other commands are not held up behind it.
	evictBatch = 256
)

// retain removes jobs that ended longer ago than archive.keep, until ctx ends.
func (c *Coordinator) retain(ctx context.Context) {
	for {
		if err := c.evictExpired(ctx); err != nil && ctx.Err() == nil {
			c.log.Warn().Err(err).Msg("old jobs could not be removed yet")
		}
		if !pause(ctx, retainPeriod) {
			return
		}
	}
}

func (c *Coordinator) evictExpired(ctx context.Context) error {
	cutoff := c.node.Clock().NowMs() - c.cfg.Archive.Keep.Std().Milliseconds()
	var after protocol.JobID
	for {
		jobs, last, more := expired(c.store.View(), after, cutoff)
		if len(jobs) > 0 {
			evict := &command.Command{Op: &command.Command_Evict{Evict: &command.Evict{Jobs: jobs}}}
			if _, err := c.node.Proposer().Propose(ctx, evict); err != nil {
				return err
			}
		}
		if !more {
			return nil
		}
		after = last
	}
}

// expired returns up to evictBatch jobs after the cursor that ended before the
// cutoff, and the cursor behind them. Ids begin with their creation time, and
// nothing ends before it is created, so the walk stops at the cutoff: it costs
// what is old, not what is there.
func expired(view *state.View, after protocol.JobID, cutoffMs int64) (jobs [][]byte, last protocol.JobID, more bool) {
	last = after
	view.Jobs(after, false, func(j *state.Job) bool {
		if int64(j.ID.CreatedAt()) >= cutoffMs {
			return false
		}
		if len(jobs) == evictBatch {
			more = true
			return false
		}
		last = j.ID
		if j.Status.Terminal() && endedMs(j) < cutoffMs {
			jobs = append(jobs, j.ID[:])
		}
		return true
	})
	return jobs, last, more
}

func endedMs(j *state.Job) int64 {
	if j.Outcome != nil {
		return j.Outcome.EndedMs
	}
	return j.CreatedMs
}

// pause waits for d, or less when ctx ends; it reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
