package coordinator

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/consensus"
)

const dayMs = 24 * 60 * 60 * 1000

// voter is a member whose wall clock is ahead of true time.
func voter(server string, aheadMs int64) consensus.Member {
	return consensus.Member{Server: server, Voter: true, Joined: true, Reachable: true, OffsetMs: aheadMs}
}

// seenBy are the members as one of them sees them: offsets are against its clock.
func seenBy(self string, all ...consensus.Member) []consensus.Member {
	own := int64(0)
	for _, m := range all {
		if m.Server == self {
			own = m.OffsetMs
		}
	}
	out := append([]consensus.Member(nil), all...)
	for i := range out {
		out[i].OffsetMs -= own
		if out[i].Server == self {
			out[i].Self, out[i].OffsetMs = true, 12345 // never its own
		}
	}
	return out
}

func away(m consensus.Member) consensus.Member {
	m.Reachable = false
	return m
}

func TestMedianOfWallClocks(t *testing.T) {
	type clocks = []consensus.Member
	for name, c := range map[string]struct {
		members  clocks
		self     string
		medianMs int64 // of true time
		wrong    bool
		better   string
	}{
		"one":                       {clocks{voter("a", dayMs)}, "a", dayMs, false, ""},
		"three right":               {clocks{voter("a", 3), voter("b", -2), voter("c", 1)}, "a", 1, false, "c"},
		"a day ahead":               {clocks{voter("a", dayMs), voter("b", 20), voter("c", 0)}, "a", 20, true, "b"},
		"a day behind":              {clocks{voter("a", -dayMs), voter("b", 20), voter("c", 0)}, "a", 0, true, "c"},
		"another one ahead":         {clocks{voter("a", 0), voter("b", dayMs), voter("c", 7)}, "a", 7, false, "c"},
		"opposite offsets":          {clocks{voter("a", 4000), voter("b", -4000), voter("c", 0)}, "a", 0, false, "c"},
		"opposite days":             {clocks{voter("a", dayMs), voter("b", -dayMs), voter("c", 0)}, "a", 0, true, "c"},
		"six seconds":               {clocks{voter("a", 6000), voter("b", 0), voter("c", 0)}, "a", 0, true, "b"},
		"two, this one ahead":       {clocks{voter("a", dayMs), voter("b", 0), away(voter("c", 0))}, "a", 0, true, "b"},
		"two, the other one ahead":  {clocks{voter("a", 0), voter("b", dayMs), away(voter("c", 0))}, "a", 0, false, ""},
		"no majority":               {clocks{voter("a", dayMs), away(voter("b", 0)), away(voter("c", 0))}, "a", dayMs, false, ""},
		"who does not vote is mute": {clocks{voter("a", 0), {Server: "b", Reachable: true, OffsetMs: dayMs}, {Server: "c", Reachable: true, OffsetMs: dayMs}}, "a", 0, false, ""},
	} {
		own := int64(0)
		for _, m := range c.members {
			if m.Server == c.self {
				own = m.OffsetMs
			}
		}
		r := clockRule{members: func() []consensus.Member { return seenBy(c.self, c.members...) }}
		w := r.read()
		if w.medianMs+own != c.medianMs || w.wrong() != c.wrong || w.better != c.better {
			t.Errorf("%s: median %d, wrong %t, better %q; want %d, %t, %q", name, w.medianMs+own, w.wrong(), w.better, c.medianMs, c.wrong, c.better)
		}
	}
}

// TestEveryPairAgreesWhoLeads: with two clocks known, exactly one of the two may
// lead, or leadership would go back and forth for ever.
func TestEveryPairAgreesWhoLeads(t *testing.T) {
	for _, ahead := range []int64{-dayMs, -6000, 0, 4000, 6000, dayMs} {
		all := []consensus.Member{voter("a", 0), voter("b", ahead), away(voter("c", 0))}
		leads := 0
		for _, self := range []string{"a", "b"} {
			r := clockRule{members: func() []consensus.Member { return seenBy(self, all...) }}
			if !r.read().wrong() {
				leads++
			}
		}
		if leads == 0 || leads == 2 && absolute(ahead) > maxClockOffsetMs {
			t.Errorf("b ahead by %d ms: %d of the two may lead", ahead, leads)
		}
	}
}

// TestWrongClockDoesNotTakeUpLeadership hands it on, and again when that failed.
func TestWrongClockDoesNotTakeUpLeadership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, lost := context.WithCancel(t.Context())
		var to []string
		r := &clockRule{
			members: func() []consensus.Member { return seenBy("a", voter("a", dayMs), voter("b", -dayMs), voter("c", 0)) },
			transfer: func(_ context.Context, server string) error {
				if to = append(to, server); len(to) == 1 {
					return errors.New("not now")
				}
				lost()
				return nil
			},
			log: zerolog.Nop(),
		}
		if _, ok := r.settle(ctx); ok || len(to) != 2 || to[0] != "c" || to[1] != "c" {
			t.Errorf("took it up: %t, handed on to %v", ok, to)
		}
	})
}

func TestNewLeaderWaitsForClocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := &clockRule{log: zerolog.Nop(), members: func() []consensus.Member {
			all := []consensus.Member{voter("a", 300), away(voter("b", 0)), away(voter("c", -100))}
			if time.Since(began) > 2*time.Second {
				all[1].Reachable = true
			}
			return seenBy("a", all...)
		}}
		if offset, ok := r.settle(t.Context()); !ok || offset != -300 || time.Since(began) > 3*time.Second {
			t.Errorf("offset %d, %t after %s", offset, ok, time.Since(began))
		}
		// Without a majority it goes by what it has, after a bounded wait.
		began = time.Now().Add(time.Hour)
		at := time.Now()
		if offset, ok := r.settle(t.Context()); !ok || offset != 0 || time.Since(at) < clockWait || time.Since(at) > 2*clockWait {
			t.Errorf("alone: offset %d, %t after %s", offset, ok, time.Since(at))
		}
	})
}

// TestClockThatGoesWrongHandsLeadershipOn: the wall clock of a leader is set.
func TestClockThatGoesWrongHandsLeadershipOn(t *testing.T) {
	for _, jump := range []int64{dayMs, -dayMs} {
		synctest.Test(t, func(t *testing.T) {
			var ahead atomic.Int64
			var to []string
			r := &clockRule{
				members: func() []consensus.Member {
					return seenBy("a", voter("a", ahead.Load()), voter("b", 10), voter("c", -10))
				},
				transfer: func(_ context.Context, server string) error { to = append(to, server); return nil },
				log:      zerolog.Nop(),
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go r.watch(ctx)
			pass(time.Minute)
			synctest.Wait()
			if len(to) != 0 {
				t.Fatalf("handed on to %v with a right clock", to)
			}
			ahead.Store(jump)
			pass(clockPeriod)
			synctest.Wait()
			if len(to) != 1 || to[0] == "a" {
				t.Errorf("handed on to %v", to)
			}
		})
	}
}
