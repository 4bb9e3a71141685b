package consensus

import (
	"testing"
	"testing/synctest"
	"time"
)

const dayMs = 24 * 60 * 60 * 1000

// TestClockSurvivesWallJumps restarts a coordinator three times with its wall
// clock set back and forth by a day, and reads the replicated clock.
func TestClockSurvivesWallJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mem := NewMemory()
		offset := int64(0)
		wall := func() int64 { return time.Now().UnixMilli() + offset }
		last, began := int64(0), time.Now()
		for _, offset = range []int64{0, dayMs, -dayMs, 0} {
			m := start(t, Config{Memory: mem, WallMs: wall})
			m.lead(t)
			m.Clock().Anchor(m.fsm.clock(), wall())
			for i := range int64(5) {
				pass(time.Second)
				before := m.Clock().NowMs()
				m.mustPut(t, i)
				now := m.fsm.clock()
				if now < last || now < before {
					t.Fatalf("clock went from %d to %d", max(last, before), now)
				}
				if ahead := now - began.UnixMilli(); ahead > dayMs+time.Since(began).Milliseconds() {
					t.Fatalf("clock %d is ahead of every wall clock", now)
				}
				last = now
			}
			m.end(t)
		}
	})
}

func TestClockSlews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		offset := int64(0)
		c := newClock(func() int64 { return time.Now().UnixMilli() + offset })
		c.Anchor(0, time.Now().UnixMilli())
		for _, offset = range []int64{dayMs, -dayMs} {
			for range 60 {
				from, began := c.NowMs(), time.Now()
				pass(time.Minute)
				passed, real := c.NowMs()-from, time.Since(began).Milliseconds()
				if diff := passed - real; diff < -real/slewParts || diff > real/slewParts || diff == 0 {
					t.Fatalf("%d ms passed in %d", passed, real)
				}
			}
		}
	})
}
