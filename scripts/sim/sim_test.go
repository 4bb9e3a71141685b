package main

import (
	"cmp"
	"fmt"
	"slices"
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

// fixedSeeds are runs that take a fraction of a second each, two of them crowds.
func fixedSeeds() []uint64 {
	var out []uint64
	crowds := 0
	for n := uint64(1); len(out) < 24; n++ {
		switch p := newPlan(n); {
		case p.Span > hour:
		case len(p.Actions) < 3000:
			out = append(out, n)
		case len(p.Actions) < 7000 && crowds < 2:
			crowds++
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

// buggy is a plan in which one replica forgets cancels for a while: somebody else's
// bug, so that what the simulator does with one can be shown.
func buggy() *plan {
	p := newPlan(fixedSeeds()[0])
	p.Actions = append(p.Actions, action{At: p.Span / 4, Kind: doForget, A: 1, B: p.Span / 2}, action{At: p.Span / 4, Kind: doForget, A: 2, B: p.Span / 2})
	slices.SortStableFunc(p.Actions, func(a, b action) int { return cmp.Compare(a.At, b.At) })
	return p
}

// TestFailureReplays: a run that fails does it again in the same way, to the last bit.
func TestFailureReplays(t *testing.T) {
	var said [2]strings.Builder
	var traces [2]uint64
	for i := range said {
		w, v := run(buggy(), &said[i])
		if v == nil || v.Promise != "I17" {
			t.Fatalf("a replica that forgets cancels was not found: %v", v)
		}
		fmt.Fprintln(&said[i], v)
		traces[i] = w.trace
	}
	if said[0].String() != said[1].String() || traces[0] != traces[1] {
		t.Errorf("two runs of one plan differ: traces %016x and %016x, histories of %d and %d bytes", traces[0], traces[1], said[0].Len(), said[1].Len())
	}
}

// TestShrinkFindsWhatMatters: of a whole plan what breaks the promise is left: a
// job, its cancel, and the replica that forgets it. Nothing of it can be left out.
func TestShrinkFindsWhatMatters(t *testing.T) {
	p := buggy()
	w, v := run(p, nil)
	if v == nil {
		t.Fatal("nothing failed")
	}
	q, v := shrink(p, v, w.now, time.Minute)
	var kinds []kind
	for _, a := range q.Actions {
		kinds = append(kinds, a.Kind)
	}
	if slices.Sort(kinds); !slices.Equal(kinds, []kind{doCancel, doForget, doSubmit}) || v.Promise != "I17" {
		t.Fatalf("of %d actions %v are left: %v", len(p.Actions), q.Actions, v)
	}
	if _, again := run(q, nil); again == nil || *again != *v {
		t.Errorf("the shrunken plan breaks %v, and then %v", v, again)
	}
	for i := range q.Actions {
		less := *q
		less.Actions = slices.Delete(slices.Clone(q.Actions), i, i+1)
		if _, v := run(&less, nil); v != nil {
			t.Errorf("without %s it fails as well: %v", q.Actions[i], v)
		}
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
