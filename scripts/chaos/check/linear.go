package check

import (
	"math"
	"time"

	"github.com/anishathalye/porcupine"

	"windlass/scripts/chaos/record"
)

// The model of one job for porcupine. What nobody was told (a maybe, and what
// became of a result) is an operation without an end: it may have had its
// effect at any later moment, or never.
type jobState struct {
	stage  int
	status string // of a terminal job
	output string
	job    string
}

type jobOp struct {
	op     string // submit, read, cancel, grant, finish
	known  bool   // the outcome is known
	doc    record.Doc
	job    string
	gone   bool // a read that found nothing
	output string
}

// stepJob is the model: whether op is possible in s, and what follows.
func stepJob(s jobState, o jobOp) (bool, jobState) {
	switch o.op {
	case record.OpSubmit:
		if s.stage == stageNone {
			return true, jobState{stage: stageQueued, job: o.job}
		}
		return !o.known || o.job == "" || s.job == "" || o.job == s.job, s
	case "grant": // a handler started: the job exists, and is not over
		if s.stage == stageNone || s.stage == stageTerminal {
			return false, s
		}
		s.stage = max(s.stage, 2)
		return true, s
	case "finish": // its result was accepted, or refused
		if s.stage > stageQueued && s.stage < stageTerminal {
			s.stage, s.status, s.output = stageTerminal, "completed", o.output
		}
		return true, s
	case record.OpCancel:
		if s.stage != stageNone && s.stage != stageTerminal {
			s.stage, s.status, s.output = stageTerminal, "cancelled", ""
		}
		return !o.known || s.stage == stageTerminal && s.status == o.doc.Status, s
	default:
		return stepRead(s, o)
	}
}

func stepRead(s jobState, o jobOp) (bool, jobState) {
	if o.gone {
		return s.stage == stageNone, s
	}
	stage := stageOf(&o.doc)
	switch {
	case s.stage == stageNone:
		return false, s
	case stage == stageTerminal:
		return s.stage == stageTerminal && s.status == o.doc.Status && s.output == o.doc.Output, s
	case stage < s.stage:
		return false, s
	}
	s.stage = stage // leases that nobody saw may have come and gone
	return true, s
}

// linearTime bounds porcupine for one job; no job here has more than a few
// dozen operations.
const linearTime = 20 * time.Second

// linear runs porcupine over every job's operations.
func (r *Report) linear(t *tasks) {
	model := porcupine.Model{
		Init: func() any { return jobState{} },
		Step: func(s, in, _ any) (bool, any) {
			ok, next := stepJob(s.(jobState), in.(jobOp))
			return ok, next
		},
	}
	t.each(func(k *task) {
		if k.lenient || len(k.submits) == 0 {
			return
		}
		ops := k.operations()
		switch porcupine.CheckOperationsTimeout(model, ops, linearTime) {
		case porcupine.Ok:
			r.Checked += len(ops)
		case porcupine.Illegal:
			r.add("I13", "the %d operations of task %d have no order that explains their answers", len(ops), k.n)
		default:
			r.add("I13", "the %d operations of task %d could not be checked within %s", len(ops), k.n, linearTime)
		}
	})
}

func (k *task) operations() []porcupine.Operation {
	var ops []porcupine.Operation
	first := int64(math.MaxInt64)
	add := func(call, end int64, o jobOp) {
		if !o.known {
			end = math.MaxInt64
		}
		ops = append(ops, porcupine.Operation{ClientId: len(ops), Input: o, Call: call, Return: end})
	}
	for _, c := range k.submits {
		if c.Outcome == record.No {
			continue
		}
		first = min(first, c.Start)
		add(c.Start, c.End, jobOp{op: record.OpSubmit, known: c.Outcome == record.OK, job: c.Job})
	}
	for _, c := range k.reads {
		switch {
		case c.Outcome == record.OK && c.Doc != nil:
			add(c.Start, c.End, jobOp{op: record.OpRead, known: true, doc: *c.Doc})
		case c.Status == 404:
			add(c.Start, c.End, jobOp{op: record.OpRead, known: true, gone: true})
		}
	}
	for _, c := range k.cancels {
		switch {
		case c.Outcome == record.OK && c.Doc != nil:
			add(c.Start, c.End, jobOp{op: record.OpCancel, known: true, doc: *c.Doc})
		case c.Outcome == record.Maybe:
			add(c.Start, c.End, jobOp{op: record.OpCancel})
		}
	}
	for _, run := range k.runs {
		if run.Event == record.EventStart {
			// The handler hears of the grant after it; how long before is not known.
			add(min(first, run.At), run.At, jobOp{op: "grant", known: true})
		} else if run.Event == record.EventResult {
			add(run.At, run.At, jobOp{op: "finish", output: Answer(k.n)})
		}
	}
	return ops
}
