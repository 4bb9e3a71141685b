// Package retry is the one back-off of Windlass: exponential with full jitter,
// which spreads callers that failed at the same moment over the whole interval.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Backoff describes waits that double from Base up to Max. The zero value waits
// between 0 and DefaultBase at first and never longer than DefaultMax.
type Backoff struct {
	Base time.Duration
	Max  time.Duration
}

// The defaults suit a client that waits for a failover: the first waits are
// below a second, a coordinator that is down is asked every few seconds.
const (
	DefaultBase = 200 * time.Millisecond
	DefaultMax  = 5 * time.Second
)

// Bound is the longest wait after the given number of failures, counted from 0.
func (b Backoff) Bound(failures int) time.Duration {
	base, limit := b.Base, b.Max
	if base <= 0 {
		base = DefaultBase
	}
	if limit <= 0 {
		limit = DefaultMax
	}
	for ; failures > 0 && base < limit; failures-- {
		base *= 2
	}
	return min(base, limit)
}

// Delay is a uniformly random wait between 0 and Bound(failures).
func (b Backoff) Delay(failures int) time.Duration {
	return Jitter(b.Bound(failures))
}

// Wait sleeps for Delay(failures), or until ctx ends; then it returns the cause of ctx.
func (b Backoff) Wait(ctx context.Context, failures int) error {
	return Sleep(ctx, b.Delay(failures))
}

// Jitter is a uniformly random duration between 0 and d.
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

// Sleep waits for d, or until ctx ends; then it returns the cause of ctx. A
// deadline before the end of d is an answer that cannot come in time: Sleep
// returns context.DeadlineExceeded at once instead of waiting for it.
func Sleep(ctx context.Context, d time.Duration) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) < d {
		return context.DeadlineExceeded
	}
	if d <= 0 {
		return nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
