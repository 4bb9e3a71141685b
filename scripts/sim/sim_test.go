package main

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestSeeds plays fixed seeds, each with other faults: leaders that end, stop
// and are deposed, agents that crash and come back, logs that refuse and do not
// tell. `make sim` plays new ones for longer.
func TestSeeds(t *testing.T) {
	for _, seed := range fixedSeeds() {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			p := newPlan(seed)
			w, v := run(p, nil)
			if v != nil {
				q, sv := shrink(p, v, w.now, 5*time.Second)
				var list strings.Builder
				for _, a := range q.Actions[:min(len(q.Actions), shownActions)] {
					fmt.Fprintln(&list, a)
				}
				t.Fatalf("seed %d: %s\nshrunken to %d events: %s\n%s", seed, v, len(q.Actions), sv, list.String())
			}
			if w.count.Commands == 0 || w.count.Digests < w.plan.Replicas {
				t.Errorf("seed %d proves nothing: %+v", seed, w.count)
			}
		})
		if t.Failed() {
			return // one failure is enough to look at
		}
	}
}

// fixedSeeds are runs that take a fraction of a second each.
func fixedSeeds() []uint64 {
	var out []uint64
	for n := uint64(1); len(out) < 24; n++ {
		if p := newPlan(n); p.Span <= hour && len(p.Actions) < 3000 {
			out = append(out, n)
		}
	}
	return out
}

// TestReplay: one seed is one history, to the last bit.
func TestReplay(t *testing.T) {
	seeds := fixedSeeds()[:4]
	for _, seed := range seeds {
		a, va := run(newPlan(seed), nil)
		b, vb := run(newPlan(seed), nil)
		if va != nil || vb != nil {
			t.Fatal(va, vb)
		}
		if a.trace != b.trace || a.count.Events != b.count.Events {
			t.Errorf("seed %d: traces %016x and %016x, %d and %d events", seed, a.trace, b.trace, a.count.Events, b.count.Events)
		}
	}
	other, _ := run(newPlan(seeds[0]+1_000_000), nil)
	if first, _ := run(newPlan(seeds[0]), nil); first.trace == other.trace {
		t.Error("two seeds have one trace")
	}
}

// TestShrinkFindsWhatMatters: of a whole plan the action that breaks the promise
// is left, with what it needs.
func TestShrinkFindsWhatMatters(t *testing.T) {
	p := newPlan(fixedSeeds()[0])
	p.Actions = append(p.Actions, action{At: p.Span - 1, Kind: doLie, A: 1})
	w, v := run(p, nil)
	if v == nil || v.Promise != "I1" {
		t.Fatalf("a lie about an acknowledged job was not found: %v", v)
	}
	q, v := shrink(p, v, w.now, time.Minute)
	if len(q.Actions) != 1 || q.Actions[0].Kind != doLie || v.Promise != "I1" {
		t.Errorf("shrunken to %v: %v", q.Actions, v)
	}
}

// TestEveryPromiseIsNamed keeps the names those of reliability.md.
func TestEveryPromiseIsNamed(t *testing.T) {
	w := newWorld(newPlan(1))
	defer func() {
		s, ok := recover().(stop)
		if !ok || !strings.HasPrefix(s.violation.String(), "I5: at 0.000s: ") {
			t.Errorf("a violation reads %+v", s)
		}
	}()
	w.fail("I5", "twice")
}

// BenchmarkSeeds is what a profile is taken of: a fixed mix of seeds, long ones
// and crowds.
func BenchmarkSeeds(b *testing.B) {
	for b.Loop() {
		var total counts
		total.Faults = make(map[kind]int)
		for seed := uint64(1); seed <= 24; seed++ {
			w, v := run(newPlan(seed), nil)
			if v != nil {
				b.Fatal(v)
			}
			total.add(&w.count)
		}
		b.ReportMetric(float64(total.Commands)/b.Elapsed().Seconds(), "commands/s")
		b.ReportMetric(float64(total.Ms)/float64(hour)/b.Elapsed().Seconds(), "hours/s")
	}
}
