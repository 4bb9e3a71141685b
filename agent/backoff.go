package agent

import (
	"context"
	"time"

	"windlass/protocol/retry"
)

// Bounds of the back-off towards coordinators (agent.md 4.3).
const (
	backoffMin = 500 * time.Millisecond
	backoffMax = 20 * time.Second
)

// backoff counts the failures of one conversation.
type backoff struct{ failures int }

func (b *backoff) reset() { b.failures = 0 }

// wait sleeps; it returns false when ctx ended.
func (b *backoff) wait(ctx context.Context) bool {
	b.failures++
	return retry.Backoff{Base: backoffMin, Max: backoffMax}.Wait(ctx, b.failures-1) == nil
}

// pause sleeps; it returns false when ctx ended.
func pause(ctx context.Context, d time.Duration) bool { return retry.Sleep(ctx, d) == nil }
