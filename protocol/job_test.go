package protocol

import "testing"

func TestTerminalLeavesOnlyByReopen(t *testing.T) {
	t.Parallel()
	for _, tr := range Transitions() {
		if tr.From.Terminal() && tr.Trigger != TriggerReopen {
			t.Errorf("%v leaves %v by %s", tr.To, tr.From, tr.Trigger)
		}
	}
}

func TestTransitionsAreDeterministic(t *testing.T) {
	t.Parallel()
	type key struct {
		from    Status
		trigger Trigger
	}
	seen := make(map[key]Status)
	reached := map[Status]bool{}
	for _, tr := range Transitions() {
		k := key{tr.From, tr.Trigger}
		if to, dup := seen[k]; dup {
			t.Errorf("%v by %s leads to %v and %v", tr.From, tr.Trigger, to, tr.To)
		}
		seen[k] = tr.To
		reached[tr.To] = true
	}
	for s := StatusQueued; s <= StatusPaused; s++ {
		if !reached[s] {
			t.Errorf("nothing leads to %v", s)
		}
		if back, err := ParseStatus(s.String()); err != nil || back != s {
			t.Errorf("ParseStatus(%s) = %v, %v", s, back, err)
		}
	}
}

func TestPriorities(t *testing.T) {
	t.Parallel()
	if p, err := ParsePriority(""); err != nil || p != PriorityNormal {
		t.Errorf("no priority is %v, %v; want normal", p, err)
	}
	for p := PriorityCritical; p <= PriorityLow; p++ {
		if back, err := ParsePriority(p.String()); err != nil || back != p {
			t.Errorf("ParsePriority(%s) = %v, %v", p, back, err)
		}
	}
	for _, s := range []string{"urgent", "HIGH", "0"} {
		if p, err := ParsePriority(s); err == nil {
			t.Errorf("ParsePriority(%q) = %v, want an error", s, p)
		}
	}
}
