package consensus

import (
	"sync"
	"time"
)

const (
	// slewParts bounds how fast the clock is drawn towards the wall clock:
	// 1/2000 of the time that passed, the 500 ppm of DESIGN 3.6. No interval is
	// wrong by more than that.
	slewParts = 2000

	// slewEvery is how often the drift is looked at: rare enough that 1/2000 of
	// it is whole milliseconds.
	slewEvery = 10 * time.Second
)

// Clock is the time that a leader stamps on batches. It starts where the
// replicated clock or the wall clock stands, whichever is later, and then
// follows the machine's monotonic clock, so a wall clock that is set expires
// nothing early and extends nothing (reliability I12).
type Clock struct {
	wall func() int64 // unix ms

	mu   sync.Mutex
	base int64     // ms at `at`
	at   time.Time // with a monotonic reading
	last int64     // newest answer since the anchor
}

func newClock(wall func() int64) *Clock {
	if wall == nil {
		wall = func() int64 { return time.Now().UnixMilli() }
	}
	return &Clock{wall: wall, base: wall(), at: time.Now()}
}

// Anchor starts the clock of a new leadership at the later of the replicated
// clock and the median of the voters' wall clocks, both in unix milliseconds.
// It may set the clock back to that, never below the replicated clock: what
// this node read while it did not lead was nobody's time.
func (c *Clock) Anchor(fsmMs, medianMs int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.base, c.at = max(fsmMs, medianMs), time.Now()
	c.last = c.base
}

// NowMs is the leader's time in unix milliseconds. Between two anchors it
// never decreases.
func (c *Clock) NowMs() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	passed := time.Since(c.at)
	now := c.base + passed.Milliseconds()
	if passed >= slewEvery {
		limit := passed.Milliseconds() / slewParts
		c.base = now + min(max(c.wall()-now, -limit), limit)
		c.at = c.at.Add(passed.Truncate(time.Millisecond))
		now = c.base
	}
	c.last = max(c.last, now)
	return c.last
}
