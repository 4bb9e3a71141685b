package check

import (
	"cmp"
	"slices"

	"windlass/scripts/chaos/record"
)

// The stages of a job only grow: it waits, attempt 1 lives, it waits again,
// attempt 2 lives, and so on until it is terminal.
const (
	stageNone     = 0
	stageQueued   = 1
	stageTerminal = 1 << 30
)

func stageOf(d *record.Doc) int {
	switch {
	case terminal(d.Status):
		return stageTerminal
	case d.Status == "queued":
		return stageQueued + 2*d.Attempt
	default:
		return 2 * max(d.Attempt, 1)
	}
}

// fact is a stage that was surely reached at a moment.
type fact struct {
	at    int64
	stage int
	index uint64 // log index of the job's change, when known
	who   string
}

func (k *task) facts() []fact {
	var out []fact
	for _, c := range slices.Concat(k.submits, k.reads, k.cancels, k.watches) {
		switch {
		case c.Outcome == record.OK && c.Doc != nil:
			out = append(out, fact{at: c.End, stage: stageOf(c.Doc), index: c.Doc.Index, who: c.Client + " at " + c.Node})
		case c.Outcome == record.OK && c.Op == record.OpSubmit:
			out = append(out, fact{at: c.End, stage: stageQueued, who: c.Client + " at " + c.Node})
		}
	}
	for i, run := range k.starts() {
		out = append(out, fact{at: run.At, stage: 2 * (i + 1), who: "the handler on " + run.Agent})
	}
	slices.SortStableFunc(out, func(a, b fact) int { return cmp.Compare(a.at, b.at) })
	return out
}

// reads is I13: a read never answers with less than what somebody knew before
// it began.
func (r *Report) reads(t *tasks) {
	t.each(func(k *task) {
		r.backwards(k)
		facts := k.facts()
		// newest[i] is the furthest of the first i+1 facts, by stage and by index.
		far := make([]fact, len(facts))
		high := make([]fact, len(facts))
		for i, f := range facts {
			far[i], high[i] = f, f
			if i > 0 && far[i-1].stage > f.stage {
				far[i] = far[i-1]
			}
			if i > 0 && high[i-1].index > f.index {
				high[i] = high[i-1]
			}
		}
		for _, c := range k.reads {
			if c.Outcome == record.OK && c.Doc != nil {
				r.stale(k, c, facts, far, high)
			}
		}
	})
}

// backwards is I13 for streams: no frame shows less than the one before it,
// also when the stream broke and went on at another coordinator.
func (r *Report) backwards(k *task) {
	newest := make(map[string]record.Call) // by client
	for _, c := range k.watches {
		before, seen := newest[c.Client]
		if seen && (stageOf(c.Doc) < stageOf(before.Doc) || c.Doc.Index < before.Doc.Index) {
			r.StaleAt = append(r.StaleAt, c.End)
			r.add("I13", "the stream of task %d went back for %s: %s at index %d after %s at index %d", k.n, c.Client, c.Doc.Status, c.Doc.Index, before.Doc.Status, before.Doc.Index)
		}
		newest[c.Client] = c
	}
}

func (r *Report) stale(k *task, c record.Call, facts, far, high []fact) {
	n, _ := slices.BinarySearchFunc(facts, c.Start, func(f fact, at int64) int { return cmp.Compare(f.at, at) })
	if n == 0 {
		return
	}
	switch known, newest := far[n-1], high[n-1]; {
	case stageOf(c.Doc) < known.stage:
		r.StaleAt = append(r.StaleAt, c.Start)
		r.add("I13", "%s read task %d as %s (attempt %d) at %s, %s after %s had seen it further", c.Client, k.n, c.Doc.Status, c.Doc.Attempt, c.Node, seconds(c.Start-known.at), known.who)
	case c.Doc.Index < newest.index:
		r.StaleAt = append(r.StaleAt, c.Start)
		r.add("I13", "%s read task %d at index %d at %s, %s after %s had seen index %d", c.Client, k.n, c.Doc.Index, c.Node, seconds(c.Start-newest.at), newest.who, newest.index)
	}
}
