package check

import (
	"slices"
	"time"

	"windlass/scripts/chaos/record"
)

// observation is one sight of a terminal job.
type observation struct {
	who string
	at  int64
	doc record.Doc
}

func (k *task) endings() []observation {
	var out []observation
	for _, c := range slices.Concat(k.reads, k.cancels, k.submits, k.watches) {
		if c.Doc != nil && terminal(c.Doc.Status) {
			out = append(out, observation{who: c.Client + " at " + c.Node, at: c.End, doc: *c.Doc})
		}
	}
	for _, f := range k.finals {
		if terminal(f.doc.Status) {
			out = append(out, observation{who: f.node + " at the end", doc: f.doc})
		}
	}
	return out
}

// ends checks that jobs end, once, and as they should: I7, I8 and I12.
func (r *Report) ends(t *tasks) {
	t.each(func(k *task) {
		for _, f := range k.finals {
			if t.h.Settled && !terminal(f.doc.Status) {
				r.Stuck++
				r.add("I7", "task %d (%s) is %s at %s although nothing was broken any more", k.n, f.doc.Job, f.doc.Status, f.node)
				break
			}
		}
		seen := k.endings()
		for _, o := range seen {
			if o.doc.Status != seen[0].doc.Status || o.doc.Output != seen[0].doc.Output {
				r.add("I8", "task %d ended %s for %s and %s for %s", k.n, ended(seen[0].doc), seen[0].who, ended(o.doc), o.who)
				break
			}
		}
		if len(seen) > 0 {
			r.rightEnd(k, seen[0])
		}
	})
}

func ended(d record.Doc) string {
	if len(d.Output) > 8 {
		return d.Status + " (output " + d.Output[:8] + ")"
	}
	return d.Status
}

// rightEnd: a task that behaves ends completed with its own output, or
// cancelled by somebody. Anything else is a timeout that came early (I12) or a
// failure that nobody caused.
func (r *Report) rightEnd(k *task, o observation) {
	switch {
	case k.lenient:
	case o.doc.Status == "timeout":
		r.add("I12", "task %d timed out (%s) for %s, long before its time", k.n, o.doc.Code, o.who)
	case o.doc.Status == "failed":
		r.add("I7", "task %d failed (%s) for %s, and nothing was wrong with it", k.n, o.doc.Code, o.who)
	case o.doc.Status == "completed" && o.doc.Output != Answer(k.n):
		r.add("I8", "task %d completed with the output of something else for %s", k.n, o.who)
	case o.doc.Status == "cancelled" && len(k.cancels) == 0:
		r.add("I3", "task %d is cancelled for %s, and nobody cancelled it", k.n, o.who)
	}
}

// stopGrace is how long after a cancel a handler may still be heard: a beat
// until its agent hears of it, the runtime's own grace, and this machine.
const stopGrace = 20 * time.Second

// cancels is I11: what is cancelled neither starts nor goes on.
func (r *Report) cancels(t *tasks) {
	t.each(func(k *task) {
		done := int64(0)
		for _, c := range k.cancels {
			if c.Outcome == record.OK && c.Doc != nil && c.Doc.Status == "cancelled" && (done == 0 || c.End < done) {
				done = c.End
			}
		}
		if done == 0 {
			return
		}
		disturbed := false
		for _, run := range k.runs {
			disturbed = disturbed || t.excused(run.Agent, run.At, done+int64(stopGrace))
		}
		for _, run := range k.runs {
			late := run.At - done
			switch {
			case disturbed:
			case run.Event == record.EventStart && late > int64(ackDeadline):
				r.add("I11", "task %d started on %s %s after its cancel was answered", k.n, run.Agent, seconds(late))
			case late > int64(stopGrace):
				r.add("I11", "task %d was still running on %s %s after its cancel was answered", k.n, run.Agent, seconds(late))
			}
		}
	})
}

// ackDeadline is how old an assignment may be when its agent starts it
// (protocol.AckDeadline): a job that was on its way when it was cancelled
// starts, and is stopped.
const ackDeadline = 10 * time.Second
