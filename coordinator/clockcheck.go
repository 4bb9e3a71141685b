package coordinator

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/consensus"
)

const (
	// maxClockOffsetMs is how far the wall clock of a leader may be from the
	// median (DESIGN 3.6). What the leader tells is its wall clock within this.
	maxClockOffsetMs = 5_000

	// clockWait bounds how long a new leader waits to hear the clocks of a
	// majority, which it asks once a second anyway: after a failover it knows
	// them, after a start of all it has to hear them first.
	clockWait = 5 * time.Second

	// clockPeriod is between two looks at the clocks while leading.
	clockPeriod = 5 * time.Second

	// clockPause is between two looks while a new leader waits for the clocks, or
	// for another coordinator to take over.
	clockPause = 250 * time.Millisecond
)

// clockRule keeps a node whose wall clock is wrong from leading, and tells a
// leader at what time its term begins.
type clockRule struct {
	members  func() []consensus.Member
	transfer func(ctx context.Context, server string) error
	log      zerolog.Logger
}

func (c *Coordinator) clockRule() *clockRule {
	return &clockRule{members: c.node.Members, transfer: c.node.Transfer, log: c.log}
}

// wallClocks is what the voters' wall clocks say, relative to this node's.
type wallClocks struct {
	medianMs int64  // of those that are known
	majority bool   // of the voters' clocks are known
	better   string // a voter near the median that answers; "" when there is none
}

// read asks the members. Of two in the middle the median is the lower one, so that
// all nodes that see the same clocks choose the same, and a wrong clock among two
// never makes time jump ahead: nothing expires early for it.
func (r *clockRule) read() wallClocks {
	var known []consensus.Member
	voters := 0
	for _, m := range r.members() {
		if !m.Voter {
			continue
		}
		voters++
		if m.Self {
			m.OffsetMs = 0
		}
		if m.Self || m.Reachable {
			known = append(known, m)
		}
	}
	if len(known) == 0 {
		return wallClocks{}
	}
	slices.SortFunc(known, func(a, b consensus.Member) int { return cmp.Compare(a.OffsetMs, b.OffsetMs) })
	w := wallClocks{medianMs: known[(len(known)-1)/2].OffsetMs, majority: 2*len(known) > voters}
	best := int64(maxClockOffsetMs)
	for _, m := range known {
		if off := absolute(m.OffsetMs - w.medianMs); !m.Self && off <= best && (off < best || w.better == "") {
			w.better, best = m.Server, off
		}
	}
	return w
}

// wrong reports whether this node must not lead. Without the clocks of a majority
// nobody knows who is wrong, and the leader goes by what it has.
func (w wallClocks) wrong() bool { return w.majority && absolute(w.medianMs) > maxClockOffsetMs }

// settle returns how far the median is from this node's wall clock, once this node
// may lead by its clock; false when ctx ended before, as it does when the
// leadership is handed on.
func (r *clockRule) settle(ctx context.Context) (offsetMs int64, ok bool) {
	for began := time.Now(); ; {
		w := r.read()
		switch {
		case w.wrong():
			r.handOn(ctx, w)
		case w.majority:
			return w.medianMs, true
		case time.Since(began) >= clockWait:
			r.log.Warn().Msg("the wall clocks of a majority are not known: time goes on by those that are")
			return w.medianMs, true
		}
		if !pause(ctx, clockPause) {
			return 0, false
		}
	}
}

// watch hands leadership on when the wall clock of this node goes wrong while it
// leads. Until then its time follows the monotonic clock, which nobody can set.
func (r *clockRule) watch(ctx context.Context) {
	for pause(ctx, clockPeriod) {
		if w := r.read(); w.wrong() {
			r.handOn(ctx, w)
		}
	}
}

func (r *clockRule) handOn(ctx context.Context, w wallClocks) {
	r.log.Error().Int64("offsetMs", -w.medianMs).Str("to", w.better).
		Msg("the wall clock of this coordinator is wrong, so it does not lead: correct the clock of this machine")
	if err := r.transfer(ctx, w.better); err != nil && ctx.Err() == nil {
		r.log.Warn().Err(err).Msg("leadership could not be handed on yet")
	}
}

func absolute(n int64) int64 { return max(n, -n) }
