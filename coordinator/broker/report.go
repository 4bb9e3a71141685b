package broker

import (
	"context"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// resyncAfter is how long an assignment may be unacknowledged until the agent
// is asked to renew its parked sync, in milliseconds: its reply was lost.
const resyncAfter = 2_000

// receipt is what one report leads to.
type receipt struct {
	agent       *agent
	incarnation protocol.Incarnation
	number      uint64 // of its statement
	carried     []*lease
	have        map[string]uint64

	updates  []protocol.AttemptUpdate // those whose fence is current
	stale    []protocol.AttemptReply
	finished []protocol.AttemptReply // of results; code set where it is known already
	leases   []*lease                // beside finished; nil where nothing is proposed
	stops    []protocol.StopAttempt
	resync   bool
	assign   []*state.Job // set before ch is answered
	ch       chan answer  // nil when nothing is proposed
}

func (t *term) report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	rc, resp, err := t.beginReport(&req)
	if err != nil {
		return protocol.ReportResponse{}, err
	}
	var results []command.Result
	if rc.ch != nil {
		if results, err = t.wait(ctx, rc.ch); err != nil {
			return protocol.ReportResponse{}, err
		}
	}
	t.completeReport(rc, &resp, results)
	return resp, nil
}

// beginReport takes a report in; the answer lacks the results of its finishes.
func (t *term) beginReport(req *protocol.ReportRequest) (*receipt, protocol.ReportResponse, error) {
	finishes := encodeFinishes(req, t.cfg.NowMs())
	t.lock()
	rc, err := t.takeReport(req, finishes)
	t.unlock()
	if err != nil {
		return nil, protocol.ReportResponse{}, err
	}
	resp := protocol.ReportResponse{Stop: rc.stops, Resync: rc.resync, BeatMs: protocol.BeatPeriod.Milliseconds()}
	if len(rc.updates) > 0 {
		resp.Attempts = t.cfg.Board.Update(req.Agent, rc.updates)
	}
	resp.Attempts = append(resp.Attempts, rc.stale...)
	return rc, resp, nil
}

// completeReport adds what the commit told: the codes of the results that were
// proposed, and what the agent is to run next.
func (t *term) completeReport(rc *receipt, resp *protocol.ReportResponse, results []command.Result) {
	if rc.ch != nil {
		for i, l := range rc.leases {
			if l != nil {
				rc.finished[i].Code = results[0].Code
				results = results[1:]
			}
		}
	}
	resp.Attempts = append(resp.Attempts, rc.finished...)
	resp.Assign, resp.Endpoints = t.assignments(rc.assign, rc.have)
}

// takeReport takes one report in: leases are renewed, writes are fenced, and results
// are proposed together with the leases that their freed slots allow.
func (t *term) takeReport(req *protocol.ReportRequest, finishes []encoded) (*receipt, error) {
	a, err := t.known(req.Agent, req.Incarnation, req.Org)
	if err != nil {
		return nil, err
	}
	now, newest := t.now(), a.newest(req.Capacity)
	t.state(a, req.Held, req.Capacity, now)
	a.host = req.Host
	rc := &receipt{agent: a, incarnation: req.Incarnation, number: req.Capacity.Seq, have: req.Endpoints}
	said := t.takeUpdates(rc, req, now)
	group := t.takeResults(rc, req, finishes)
	if newest && req.Takes {
		a.heard(req.Capacity.Seq)
		t.freshen(a, req, now)
	}
	for _, l := range a.leases {
		late := !l.acked && !l.releasing && now-l.since > resyncAfter
		rc.resync = rc.resync || late || newest && req.Takes && l.missed(req.Capacity.Seq)
	}
	rc.stops, _ = t.stops(a, said, now)
	t.match()
	if len(group) > 0 {
		t.proposeResults(rc, group, t.carries(req, newest))
	}
	return rc, nil
}

// takeUpdates splits the updates by their fence. It returns all attempts that
// the agent says it has.
func (t *term) takeUpdates(rc *receipt, req *protocol.ReportRequest, now int64) []protocol.HeldAttempt {
	said := req.Held
	for i := range req.Attempts {
		u := &req.Attempts[i]
		l := t.heldLease(rc.agent, u.Job, u.Attempt)
		if l == nil {
			h := protocol.HeldAttempt{Job: u.Job, Attempt: u.Attempt}
			if !t.newer(t.served(rc.agent.row, u.Job), h) {
				rc.stale = append(rc.stale, protocol.AttemptReply{Job: u.Job, Attempt: u.Attempt, Code: protocol.CodeStaleAttempt})
				said = appendMissing(said, h, len(req.Held))
			}
			continue
		}
		if u.StartedMs > 0 && l.startedAt == never {
			l.startedAt = now - u.StartedMs
			l.at = min(l.at, l.limit())
			t.expiry.fix(l)
		}
		rc.updates = append(rc.updates, *u)
	}
	return said
}

// appendMissing adds h unless it is there; the first n elements belong to the request.
func appendMissing(list []protocol.HeldAttempt, h protocol.HeldAttempt, n int) []protocol.HeldAttempt {
	for _, x := range list {
		if x == h {
			return list
		}
	}
	if len(list) == n {
		list = list[:n:n]
	}
	return append(list, h)
}

func (t *term) takeResults(rc *receipt, req *protocol.ReportRequest, finishes []encoded) []*command.Command {
	var group []*command.Command
	level := max(t.cfg.Store.View().Meta().Feature, command.FeatureBase)
	for i := range finishes {
		f := &req.Finished[i]
		r := protocol.AttemptReply{Job: f.Job, Attempt: f.Attempt, Finished: true}
		l := t.heldLease(rc.agent, f.Job, f.Attempt)
		switch {
		case finishes[i].code != "":
			r.Code, l = finishes[i].code, nil
		case command.Feature(finishes[i].command) > level:
			continue // unanswered, so it is offered again: to who can take it
		case l != nil:
			finishes[i].finish.NotBeforeMs = t.backOff(l.job, f)
			group = append(group, finishes[i].command)
			l.acked = true
			t.setFinishing(l, true)
		default:
			row := t.served(rc.agent.row, f.Job)
			if t.newer(row, protocol.HeldAttempt{Job: f.Job, Attempt: f.Attempt}) {
				continue // unanswered, so it is offered again: to who knows it
			}
			if row == nil || !finishedBy(row, req.Agent, f.Attempt) {
				r.Code = protocol.CodeStaleAttempt
			}
		}
		rc.finished = append(rc.finished, r)
		rc.leases = append(rc.leases, l)
	}
	return group
}

// proposeResults puts the results and every pending lease into one group, so
// that finishing one job and starting the next share one commit.
func (t *term) proposeResults(rc *receipt, group []*command.Command, carries bool) {
	rc.ch = make(chan answer, 1)
	ch := rc.ch
	grants, leases := t.pending, rc.leases
	t.pending = nil
	for _, g := range grants {
		if carries && g.agent == rc.agent {
			g.report = rc
		}
	}
	t.outbox = append(t.outbox, proposal{group: group, grants: grants, done: func(r []command.Result, err error) {
		t.lock()
		for _, l := range leases {
			if l != nil && t.leases[l.job.ID] == l {
				t.setFinishing(l, false) // refused, or not known to be committed
			}
		}
		t.settle(grants, err != nil)
		t.answerReport(rc, err != nil)
		t.match()
		t.unlock()
		ch <- answer{r, err}
	}})
}
