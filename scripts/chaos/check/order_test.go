package check

import (
	"strings"
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// contest is a sound history in which job 9 is submitted as critical behind job
// 8, which is low, and both wait while many entries are applied, until 20
// entries after entry 15. It returns the next index.
func contest(t *testing.T, h *record.History) uint64 {
	t.Helper()
	h.QueueLimit = 0
	low, critical := submitCommand(8, "task-8"), submitCommand(9, "task-9")
	low.GetSubmit().Priority = uint32(protocol.PriorityLow)
	critical.GetSubmit().Priority = uint32(protocol.PriorityCritical)
	entry(t, h, 15, low, command.Result{Job: job(8)})
	entry(t, h, 16, critical, command.Result{Job: job(9)})
	return idle(t, h, 17)
}

// entry is an entry that is applied at its index in seconds.
func entry(t *testing.T, h *record.History, index uint64, c *command.Command, res command.Result) {
	t.Helper()
	a := applied(t, "c1", index, c, res)
	a.At = int64(index) * second
	h.Applied = append(h.Applied, a)
}

// idle adds entries that change nothing, more than are under way at once.
func idle(t *testing.T, h *record.History, index uint64) uint64 {
	t.Helper()
	for range orderEntries + 1 {
		entry(t, h, index, &command.Command{Op: &command.Command_Checkpoint{Checkpoint: &command.Checkpoint{}}}, command.Result{})
		index++
	}
	return index
}

func TestGrantOverABetterJobIsFound(t *testing.T) {
	h := sound(t)
	next := contest(t, h)
	entry(t, h, next, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
	idle(t, h, next+1)
	broken(t, h, "I10", "although "+job(9).String())
}

func TestGrantOverAReturnedJobIsFound(t *testing.T) {
	h := sound(t)
	next := contest(t, h)
	entry(t, h, next, leaseCommand(9, 0, 1), command.Result{Attempt: 1})
	entry(t, h, next+1, rejectCommand(9, 1, 1), command.Result{})
	next = idle(t, h, next+2)
	entry(t, h, next, leaseCommand(8, 0, 1), command.Result{Attempt: 1})
	idle(t, h, next+1)
	broken(t, h, "I10", "although "+job(9).String())
}

func TestGrantsInOrderAreNoViolation(t *testing.T) {
	grant := func(t *testing.T, h *record.History, n int, index uint64) {
		entry(t, h, index, leaseCommand(n, 0, 1), command.Result{Attempt: 1})
	}
	for name, play := range map[string]func(*testing.T, *record.History, uint64){
		"the better one first": func(t *testing.T, h *record.History, next uint64) {
			grant(t, h, 9, next)
			grant(t, h, 8, next+1)
			idle(t, h, next+2)
		},
		"two that were decided at once change places": func(t *testing.T, h *record.History, next uint64) {
			grant(t, h, 8, next)
			grant(t, h, 9, next+1)
			idle(t, h, next+2)
		},
		"the better one was cancelled at once": func(t *testing.T, h *record.History, next uint64) {
			grant(t, h, 8, next)
			entry(t, h, next+1, &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: jobBytes(9), Org: "org_default"}}}, command.Result{})
			idle(t, h, next+2)
		},
		"the better one backs off": func(t *testing.T, h *record.History, next uint64) {
			grant(t, h, 9, next)
			fail := finishCommand(9, 1, 1)
			fail.GetFinish().Outcome, fail.GetFinish().Retryable, fail.GetFinish().NotBeforeMs = string(protocol.OutcomeFailed), true, 1_000_000
			entry(t, h, next+1, fail, command.Result{})
			next = idle(t, h, next+2)
			grant(t, h, 8, next)
			idle(t, h, next+1)
		},
		"the leader was stopped in between": func(t *testing.T, h *record.History, next uint64) {
			h.Faults = append(h.Faults, record.Fault{Name: "leader-stop", Target: []string{"c1"}, At: int64(next-1) * second, Until: int64(next) * second})
			grant(t, h, 8, next)
			idle(t, h, next+1)
		},
		"the machine had no processor": func(t *testing.T, h *record.History, next uint64) {
			h.Stalls = append(h.Stalls, record.Stall{At: 16 * second, Span: int64(next-16) * second})
			grant(t, h, 8, next)
			idle(t, h, next+1)
		},
		"the better one came a moment ago": func(t *testing.T, h *record.History, next uint64) {
			late := submitCommand(10, "task-10")
			late.GetSubmit().Priority = uint32(protocol.PriorityCritical)
			entry(t, h, next, late, command.Result{Job: job(10)})
			grant(t, h, 9, next+1)
			grant(t, h, 8, next+2)
			idle(t, h, next+3)
		},
	} {
		t.Run(name, func(t *testing.T) {
			h := sound(t)
			play(t, h, contest(t, h))
			for _, v := range History(h).Violations {
				if v.Promise == "I10" || strings.Contains(v.Text, "entry") {
					t.Errorf("it was refused: %s", v)
				}
			}
		})
	}
}
