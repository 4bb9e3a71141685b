// Package check judges the history of a run of chaos: it knows nothing of how
// the system works inside, only what it promised (docs/failure-model.md). Each
// violation names its promise, I1 to I20. See ../DESIGN.md.
package check

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"windlass/scripts/chaos/record"
)

// Violation is one broken promise.
type Violation struct {
	Promise string // "I1"
	Text    string
}

// String names the promise first.
func (v Violation) String() string { return v.Promise + ": " + v.Text }

// Report is the judgement over one history.
type Report struct {
	Violations []Violation

	Calls        int
	Acknowledged int // submits that were answered with success, different jobs
	Lost         int // of them, jobs that somebody did not find afterwards
	Stuck        int // jobs without an end
	Refused      int // late writes of agents that the log refused
	Entries      int // entries of the log that were compared and replayed
	Checked      int // operations that porcupine found in order

	// When it happened (record.Now): first acknowledgements, those of jobs that
	// were lost, second starts of jobs whose agent was well, and linearizable
	// reads that answered with the past.
	AcksAt, LostAt, TwiceAt, StaleAt []int64
}

// Err lists the violations, or is nil.
func (r *Report) Err() error {
	var errs []error
	for _, v := range r.Violations {
		errs = append(errs, errors.New(v.String()))
	}
	return errors.Join(errs...)
}

// maxPerPromise keeps a report readable when everything breaks at once.
const maxPerPromise = 20

func (r *Report) add(promise, format string, args ...any) {
	n := 0
	for _, v := range r.Violations {
		if v.Promise == promise {
			n++
		}
	}
	if n < maxPerPromise {
		r.Violations = append(r.Violations, Violation{Promise: promise, Text: fmt.Sprintf(format, args...)})
	}
}

// History checks everything.
func History(h *record.History) *Report {
	r := &Report{Calls: len(h.Calls)}
	t := newTasks(h)
	r.submits(t)
	r.ends(t)
	r.reads(t)
	r.runs(t)
	r.cancels(t)
	r.linear(t)
	r.finals(h)
	r.agree(h)
	r.replay(h, t)
	r.exits(h)
	r.crashes(h)
	r.gaps(h)
	return r
}

// task is everything that was recorded about one task, which has one key and
// so at most one job.
type task struct {
	n       int
	submits []record.Call
	reads   []record.Call
	cancels []record.Call
	watches []record.Call // frames of streams, in the order in which they came
	runs    []record.Run
	finals  []finalDoc
	lenient bool
}

type finalDoc struct {
	node string
	doc  record.Doc
}

// tasks is the history by task.
type tasks struct {
	h    *record.History
	all  map[int]*task
	keys []int // of all, sorted: a report is the same each time
}

func newTasks(h *record.History) *tasks {
	t := &tasks{h: h, all: make(map[int]*task)}
	for _, c := range h.Calls {
		k := t.of(c.Task)
		switch c.Op {
		case record.OpSubmit:
			k.submits = append(k.submits, c)
		case record.OpRead:
			if !c.Stale {
				k.reads = append(k.reads, c)
			}
		case record.OpCancel:
			k.cancels = append(k.cancels, c)
		case record.OpWatch:
			k.watches = append(k.watches, c)
		}
	}
	for _, run := range h.Runs {
		k := t.of(run.Task)
		k.runs = append(k.runs, run)
	}
	for _, f := range h.Finals {
		for _, d := range f.Docs {
			k := t.of(d.Task)
			k.finals = append(k.finals, finalDoc{node: f.Node, doc: d})
		}
	}
	for n, k := range t.all {
		k.lenient = h.Lenient[n]
		slices.SortStableFunc(k.runs, func(a, b record.Run) int { return cmp.Compare(a.At, b.At) })
		t.keys = append(t.keys, n)
	}
	slices.Sort(t.keys)
	return t
}

func (t *tasks) of(n int) *task {
	k := t.all[n]
	if k == nil {
		k = &task{n: n}
		t.all[n] = k
	}
	return k
}

// each calls fn with every task in order.
func (t *tasks) each(fn func(*task)) {
	for _, n := range t.keys {
		fn(t.all[n])
	}
}

// acknowledged is the first submit that was answered with success.
func (k *task) acknowledged() *record.Call {
	var first *record.Call
	for i := range k.submits {
		if c := &k.submits[i]; c.Outcome == record.OK && (first == nil || c.End < first.End) {
			first = c
		}
	}
	return first
}

// attempted reports whether some submit may have had an effect.
func (k *task) attempted() bool {
	return slices.ContainsFunc(k.submits, func(c record.Call) bool { return c.Outcome != record.No })
}

// starts are the runs' beginnings, in order.
func (k *task) starts() []record.Run {
	var out []record.Run
	for _, run := range k.runs {
		if run.Event == record.EventStart {
			out = append(out, run)
		}
	}
	return out
}

func terminal(status string) bool {
	return status == "completed" || status == "failed" || status == "cancelled" || status == "timeout"
}

func seconds(ns int64) string { return time.Duration(ns).Round(time.Millisecond).String() }
