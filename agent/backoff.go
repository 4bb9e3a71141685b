package agent

import (
	"context"
	"math/rand/v2"
	"time"
)

// Bounds of the back-off towards coordinators (agent.md 4.3).
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 20 * time.Second
)

// backoff is full jitter: a uniform time up to a bound that doubles, so that a
// fleet that lost its coordinator does not come back as one.
type backoff struct{ bound time.Duration }

func (b *backoff) reset() { b.bound = 0 }

// wait sleeps; it returns false when ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	b.bound = min(max(2*b.bound, backoffMin), backoffMax)
	return pause(ctx, jitter(b.bound))
}

// jitter is a uniform time in [0, d].
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return ctx.Err() == nil
	}
}
