package coordinator

import (
	"context"
	"fmt"
	"sync"
	"time"

	"windlass/coordinator/command"
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
		c.keepArchive,
		c.collectShared,
		c.clockRule().watch,
		c.raiseFeature,
		c.keepSecret,
		c.webhook.Run,
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
