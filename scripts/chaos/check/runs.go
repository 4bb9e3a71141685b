package check

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"windlass/scripts/chaos/record"
)

// Answer is what a well-behaved run of task n returns.
func Answer(n int) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "windlass %d", n))
	return hex.EncodeToString(sum[:])
}

// maxStarts bounds what one job may cost: three failures (maxAttempts) and
// three losses.
const maxStarts = 3 + 3

// runs checks the handlers' own journal: a job whose agent stays well starts
// once (I20, I5), no job starts without end (I9).
func (r *Report) runs(t *tasks) {
	t.each(func(k *task) {
		starts := k.starts()
		if len(starts) > maxStarts {
			r.add("I9", "task %d started %d times, more than its attempts and losses allow", k.n, len(starts))
		}
		for i := 1; i < len(starts); i++ {
			before, again := starts[i-1], starts[i]
			if k.lenient || t.excused(before.Agent, before.At, again.At) || t.excused(again.Agent, before.At, again.At) {
				continue
			}
			r.TwiceAt = append(r.TwiceAt, again.At)
			r.add("I5", "task %d started on %s and %s later on %s, and nothing had happened to its agent", k.n, before.Agent, seconds(again.At-before.At), again.Agent)
		}
	})
}

// excused reports whether something was done to an agent, or to its way to the
// coordinators, in a span of time: only that lets its jobs run again.
func (t *tasks) excused(agent string, from, to int64) bool {
	return slices.ContainsFunc(t.h.Faults, func(f record.Fault) bool {
		hit := f.Agents || slices.Contains(f.Target, agent)
		return hit && f.At <= to && (f.Until == 0 || f.Until >= from)
	})
}

// everExcused is excused for the whole run.
func (t *tasks) everExcused(agent string) bool {
	return slices.ContainsFunc(t.h.Faults, func(f record.Fault) bool { return f.Agents || slices.Contains(f.Target, agent) })
}
