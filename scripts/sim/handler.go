package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"windlass/coordinator/broker"
	"windlass/protocol"
)

// handlerRun is one execution of a job by a handler; it has one number in the
// whole history, which its output carries.
type handlerRun struct {
	number  int
	agent   *agent
	job     protocol.JobID
	run     uint32 // of the job, when it started
	outcome protocol.Outcome
	again   bool // a failure that may be retried
	stuck   bool // its shim does not end it
	over    bool
}

func (h *handlerRun) output() json.RawMessage { return fmt.Appendf(nil, `{"run":%d}`, h.number) }

// start lets the handler begin. It goes on when the agent's process ends.
func (a *agent) start(t *attempt) {
	w := a.world
	r := w.draws.agent
	t.phase, t.started = running, w.now
	h := &handlerRun{agent: a, job: t.key.Job, outcome: protocol.OutcomeCompleted}
	t.run = h
	took := r.Int64N(2*w.plan.RunMs) + 1
	lot := r.IntN(40)
	if w.healed { // what is left has to end
		took = min(took, second)
		if lot >= 5 {
			lot = 40
		}
	}
	switch lot {
	case 0, 1, 2, 3:
		h.outcome, h.again = protocol.OutcomeFailed, true
	case 4:
		h.outcome = protocol.OutcomeFailed
	case 5:
		took = 1 << 40
		h.stuck = r.IntN(3) == 0
	case 6:
		took *= 20
	}
	w.say("agent %d starts %s, for %d ms: %s", a.no, attempts([]protocol.HeldAttempt{t.key}), took, h.outcome)
	w.check.started(a, t)
	if took > t.execution && !h.stuck {
		took, h.outcome = t.execution, protocol.OutcomeTimeout
	}
	host := a.host
	w.in(took, func() {
		if !t.gone && t.phase == running && a.host == host {
			a.conclude(t, h.outcome)
		}
	})
	a.dirty(0)
}

// conclude journals a result; it is offered until it is answered.
func (a *agent) conclude(t *attempt, outcome protocol.Outcome) {
	a.leaves()
	if t.run != nil {
		t.run.over = true
	}
	if t.drop {
		a.forget(t)
		a.dirty(0)
		return
	}
	a.world.say("agent %d has the result of %s: %s", a.no, attempts([]protocol.HeldAttempt{t.key}), outcome)
	t.phase, t.ended = finished, a.world.now
	t.finish = protocol.Finish{Outcome: outcome}
	switch outcome {
	case protocol.OutcomeCompleted:
		t.finish.Output = t.run.output()
	case protocol.OutcomeFailed:
		t.finish.Retryable = t.run.again
		t.finish.Error = &protocol.JobError{Code: "HANDLER_ERROR", Message: "it failed"}
	}
	if t.started > 0 {
		t.finish.RunMs = t.ended - t.started + 1
	}
	a.dirty(0)
}

// stop ends an attempt as it was told.
func (a *agent) stop(t *attempt, reason protocol.StopReason) {
	w := a.world
	switch {
	case reason == protocol.StopStale:
		t.drop = true
		if t.phase != running {
			a.forget(t)
			return
		}
		host := a.host
		w.in(w.draws.agent.Int64N(500), func() {
			if !t.gone && t.phase == running && a.host == host {
				a.conclude(t, protocol.OutcomeCancelled)
			}
		})
	case t.phase == finished:
	case reason == protocol.StopDrain:
		a.rejects = append(a.rejects, protocol.Reject{Job: t.key.Job, Attempt: t.key.Attempt, Reason: "drains"})
		a.forget(t)
		a.renew()
	case reason == protocol.StopTimeout && t.run != nil && t.run.stuck && w.draws.agent.IntN(2) == 0:
		// not even then
	case reason == protocol.StopTimeout:
		a.conclude(t, protocol.OutcomeTimeout)
	default:
		a.conclude(t, protocol.OutcomeCancelled)
	}
}

// dirty asks for a report.
func (a *agent) dirty(ms int64) {
	a.again = true
	epoch := a.epoch
	a.then(ms, func() {
		if a.registered && a.epoch == epoch && a.again {
			a.report()
		}
	})
}

// beat reports when nothing else does.
func (a *agent) beat(epoch int) {
	a.then(protocol.BeatPeriod.Milliseconds(), func() {
		if !a.registered || a.epoch != epoch {
			return
		}
		if a.world.now-a.reportAt >= protocol.BeatPeriod.Milliseconds()-100 {
			a.report()
		}
		a.beat(epoch)
	})
}

func (a *agent) report() {
	w, epoch := a.world, a.epoch
	if a.reporting {
		return
	}
	a.reporting, a.again, a.reportAt = true, false, w.now
	req := a.newReport()
	if req.Takes {
		a.reportNo = req.Capacity.Seq
	}
	do := func(d *broker.Driver) (func() (any, bool, error), func()) {
		w.check.stated(a, req.Incarnation, req.Held)
		sent := req
		sent.Finished = slices.Clone(req.Finished)
		ask := d.Report(sent)
		return answerOr(ask), nil
	}
	w.net.send(a, a.node(), callLimit(), do, func(v any, err error) {
		a.reporting, a.reportNo = false, 0
		switch {
		case a.epoch != epoch:
			a.dirty(0)
		case err == nil:
			resp := v.(protocol.ReportResponse)
			for i := range resp.Attempts {
				a.answered(&resp.Attempts[i])
			}
			a.obeyReport(&resp, w.now-a.reportAt)
			a.stopAll(resp.Stop)
			if resp.Resync || len(resp.Assign) > 0 && len(a.rejects) > 0 {
				a.renew()
			}
			if a.again || len(req.Finished) == maxResults {
				a.dirty(0)
			}
		case refused(err):
			a.lost(epoch)
		default:
			w.say("agent %d loses a report at replica %d: %v", a.no, a.target, err)
			a.elsewhere()
			a.dirty(a.backOff())
		}
	})
}

func (a *agent) newReport() protocol.ReportRequest {
	w := a.world
	req := protocol.ReportRequest{Agent: a.id, Incarnation: a.inc, Takes: a.takes}
	if a.takes {
		req.Endpoints = maps.Clone(a.docs)
	}
	for _, t := range a.runs {
		switch {
		case t.phase == finished && !t.drop && len(req.Finished) < maxResults:
			f := t.finish
			f.Job, f.Attempt, f.EndedMs = t.key.Job, t.key.Attempt, w.now-t.ended
			req.Finished = append(req.Finished, f)
		case t.phase == running:
			req.Attempts = append(req.Attempts, protocol.AttemptUpdate{Job: t.key.Job, Attempt: t.key.Attempt, StartedMs: w.now - t.started + 1})
		case t.phase == loading && !t.told:
			req.Attempts = append(req.Attempts, protocol.AttemptUpdate{Job: t.key.Job, Attempt: t.key.Attempt, Substate: protocol.SubstateWarmingUp})
		}
	}
	req.Held, req.Capacity = a.held(req.Finished), a.capacity()
	return req
}

// answered applies the answer to one attempt.
func (a *agent) answered(r *protocol.AttemptReply) {
	t := a.get(protocol.HeldAttempt{Job: r.Job, Attempt: r.Attempt})
	switch {
	case t == nil:
	case r.Finished:
		a.world.check.handedIn(a, t, r.Code)
		a.forget(t)
	case r.Code != "":
		a.stop(t, protocol.StopStale)
	default:
		t.told = true
	}
}
