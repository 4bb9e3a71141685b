package webhook

import "time"

// jitter is how far a wait is stretched or shortened at random, in percent, so that
// the deliveries that one outage delayed do not come back together.
const jitter = 10

// waits is seed S3's schedule: how long after each attempt that failed the next
// one is made. After the last one there is none.
func waits() []time.Duration {
	return []time.Duration{2 * time.Minute, 4 * time.Minute, 8 * time.Minute, 16 * time.Minute}
}

// wait returns when to try again after so many attempts of a round, the newest of
// which ended as o; false when that was the last one. draw returns a number in [0, n).
func wait(schedule []time.Duration, tries int, o *outcome, draw func(n int64) int64) (time.Duration, bool) {
	if tries > len(schedule) {
		return 0, false
	}
	d := schedule[tries-1]
	if spread := int64(d) * jitter / 100; spread > 0 {
		d += time.Duration(draw(2*spread) - spread)
	}
	return max(d, o.retryAfter), true
}
