package main

import (
	"slices"
	"time"

	"windlass/scripts/chaos/check"
)

// shrink looks for fewer actions that break the same promise: it leaves out
// what came later, whole kinds, then halves, quarters and so on, as long as the
// run still fails. It returns the shortest plan that it found and what that one broke.
func shrink(p *plan, v *check.Violation, failedAt int64, budget time.Duration) (*plan, *check.Violation) {
	end := time.Now().Add(budget)
	best := *p
	try := func(actions []action) bool {
		q := best
		q.Actions = actions
		_, got := run(&q, nil)
		if got == nil || got.Promise != v.Promise {
			return false
		}
		best, v = q, got
		return true
	}
	for _, drop := range []func(action) bool{
		func(a action) bool { return a.At > failedAt },
		func(a action) bool { return a.Kind == doAgain || a.Kind == doCancel || a.Kind == doRetry },
		func(a action) bool { return a.Kind == doCheck || a.Kind == doRead },
	} {
		try(slices.DeleteFunc(slices.Clone(best.Actions), drop))
	}
	for size := (len(best.Actions) + 1) / 2; size > 0; {
		left := false
		for at := 0; at < len(best.Actions); {
			if time.Now().After(end) {
				return &best, v
			}
			to := min(at+size, len(best.Actions))
			if try(slices.Concat(best.Actions[:at], best.Actions[to:])) {
				left = true
			} else {
				at = to
			}
		}
		if size == 1 && !left {
			break
		}
		if !left || size > len(best.Actions) {
			size = min(size/2, len(best.Actions)/2)
		}
	}
	return &best, v
}
