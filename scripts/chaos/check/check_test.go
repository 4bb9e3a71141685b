package check

import (
	"slices"
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

func TestSoundHistoryPasses(t *testing.T) {
	r := History(sound(t))
	if len(r.Violations) != 0 {
		t.Fatalf("a sound history was refused: %v", r.Violations)
	}
	if r.Acknowledged != 2 || r.Entries != 6 || r.Checked == 0 || r.Calls != 9 {
		t.Fatalf("the report counts %+v", r)
	}
}

// spoiled is a sound history with one promise broken.
type spoiled struct {
	name, promise, text string
	spoil               func(*testing.T, *record.History)
}

// TestEveryBrokenPromiseIsFound breaks the sound history in one place and wants
// exactly that promise named.
func TestEveryBrokenPromiseIsFound(t *testing.T) {
	for _, c := range slices.Concat(brokenSubmits(), brokenLeases(), brokenEnds(), brokenReads(), brokenNodes()) {
		t.Run(c.name, func(t *testing.T) {
			h := sound(t)
			c.spoil(t, h)
			broken(t, h, c.promise, c.text)
		})
	}
}

// TestExcuses: what a fault explains is no violation.
func TestExcuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*testing.T, *record.History)
	}{
		{"a second start after the agent was stopped", func(t *testing.T, h *record.History) {
			h.Faults = append(h.Faults, record.Fault{Name: "agent-stop", Target: []string{"agent-1"}, At: 5 * second, Until: 9 * second})
			h.Runs = append(h.Runs, run(1, "agent-2", record.EventStart, 8*second))
			h.Applied = nil
		}},
		{"a maybe that took effect", func(t *testing.T, h *record.History) {
			h.Calls[0].Outcome, h.Calls[0].Job, h.Calls[0].Status = record.Maybe, "", 0
		}},
		{"a maybe that had none", func(_ *testing.T, h *record.History) {
			h.Calls = append(h.Calls, submit(6, second, 2*second, record.Maybe))
		}},
		{"a slow machine", func(_ *testing.T, h *record.History) {
			h.Faults[0].Limit = second
			h.Stalls = []record.Stall{{At: second, Span: 2 * second}}
		}},
		{"an exit in time", func(_ *testing.T, h *record.History) {
			h.Faults = append(h.Faults, record.Fault{Name: "fsync-eio", Target: []string{"c1"}, At: second, Exit: "c1"})
			h.Exits = append(h.Exits, record.Exit{Node: "c1", At: 2 * second})
		}},
		{"a refused late write", func(t *testing.T, h *record.History) {
			add(t, h, 15, finishCommand(1, 1, 1), command.Result{Code: protocol.CodeStaleAttempt})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := sound(t)
			c.change(t, h)
			if r := History(h); len(r.Violations) != 0 {
				t.Fatalf("it was refused: %v", r.Violations)
			}
		})
	}
}
