package check

import (
	"slices"

	"windlass/scripts/chaos/record"
)

// submits checks what was promised to those who submitted: I1 to I4.
func (r *Report) submits(t *tasks) {
	t.each(func(k *task) {
		r.durable(t.h, k)
		r.invented(k)
		r.refusals(k)
		r.oneJob(k)
	})
}

// durable is I1: an acknowledged job is found by everybody, ever after.
func (r *Report) durable(h *record.History, k *task) {
	ack := k.acknowledged()
	if ack == nil {
		return
	}
	r.Acknowledged++
	r.AcksAt = append(r.AcksAt, ack.End)
	lost := false
	for _, c := range k.reads {
		if c.Start > ack.End && c.Status == 404 {
			lost = true
			r.add("I1", "task %d was acknowledged as %s by %s, and %s did not know it %s later", k.n, ack.Job, ack.Node, c.Node, seconds(c.Start-ack.End))
			break
		}
	}
	for _, f := range h.Finals {
		if !slices.ContainsFunc(k.finals, func(d finalDoc) bool { return d.node == f.Node && d.doc.Job == ack.Job }) {
			lost = true
			r.add("I1", "task %d was acknowledged as %s by %s, and %s does not hold it at the end", k.n, ack.Job, ack.Node, f.Node)
		}
	}
	if lost {
		r.Lost++
		r.LostAt = append(r.LostAt, ack.End)
	}
}

// invented is I2: what is there was submitted, and runs with the bytes that
// were sent.
func (r *Report) invented(k *task) {
	if len(k.submits) == 0 {
		for _, f := range k.finals {
			r.add("I2", "%s holds %s of task %d, which nobody submitted", f.node, f.doc.Job, k.n)
		}
		if len(k.runs) > 0 && len(k.finals) == 0 {
			r.add("I2", "task %d ran on %s, and nobody submitted it", k.n, k.runs[0].Agent)
		}
		return
	}
	for _, run := range k.starts() {
		if run.Input != "" && !slices.ContainsFunc(k.submits, func(c record.Call) bool { return c.Input == run.Input }) {
			r.add("I2", "task %d ran on %s with other bytes than were submitted", k.n, run.Agent)
		}
	}
}

// refusals is I3: what was refused never happens.
func (r *Report) refusals(k *task) {
	if len(k.submits) > 0 && !k.attempted() {
		for _, f := range k.finals {
			r.add("I3", "every submit of task %d was refused (%s), and %s holds %s", k.n, k.submits[0].Code, f.node, f.doc.Job)
		}
		if s := k.starts(); len(s) > 0 {
			r.add("I3", "every submit of task %d was refused (%s), and it ran on %s", k.n, k.submits[0].Code, s[0].Agent)
		}
	}
	if len(k.cancels) == 0 || slices.ContainsFunc(k.cancels, func(c record.Call) bool { return c.Outcome != record.No }) {
		return
	}
	for _, f := range k.finals {
		if f.doc.Status == "cancelled" {
			r.add("I3", "every cancel of task %d was refused (%s), and %s shows it cancelled", k.n, k.cancels[0].Code, f.node)
			break
		}
	}
}

// oneJob is I4: one key, one job, for everybody who asks and at the end.
func (r *Report) oneJob(k *task) {
	first := ""
	same := func(job, who string) {
		if first == "" {
			first = job
		}
		if job != first {
			r.add("I4", "task %d has one key and two jobs: %s, and %s at %s", k.n, first, job, who)
		}
	}
	for _, c := range k.submits {
		if c.Outcome == record.OK {
			same(c.Job, c.Node)
		}
	}
	for _, f := range k.finals {
		same(f.doc.Job, f.node)
	}
	for _, run := range k.starts() {
		same(run.Job, run.Agent)
	}
}
