package broker

import (
	"math"
	"slices"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// A report that takes assignments may be answered with them (ADR 14), while the
// agent's sync stays parked. Whether such an answer arrived is known from what
// the agent says later, because it sends one report at a time, and a sync names
// the report that it still waits for.

// unknownReport is the carrier of a lease that was granted before this term: a
// report's answer that is still on its way, perhaps.
const unknownReport = math.MaxUint64

// carries reports whether a report's answer may carry assignments: nobody waits
// for the answer to one that a newer statement overtook.
func (t *term) carries(req *protocol.ReportRequest, newest bool) bool {
	level := t.cfg.Feature
	return newest && req.Takes && req.Capacity.Seq > 0 && (level == nil || level() >= command.FeatureCarry)
}

// hear notes what a sync says of its agent's reports: to which of them it does
// not wait for an answer any more, so that what that carried and the sync does
// not list has not arrived. It reports whether the agent has to be heard once
// more: of its first sync in a term nobody knows whether it was made before or
// after an answer of the leader before.
func (t *term) hear(a *agent, req *protocol.SyncRequest, first bool) (again bool) {
	if req.Reporting > 0 {
		a.settle(req.Reporting - 1)
	} else {
		a.settle(req.Capacity.Seq)
	}
	if a.unheard = 0; req.Reporting > a.reported {
		a.unheard = req.Reporting
	}
	for _, l := range a.leases {
		switch {
		case l.report == unknownReport && req.Reporting > 0:
		case l.report == unknownReport && first:
			again = again || l.onItsWay()
		case l.report == unknownReport || l.report <= a.settled:
			l.report = 0
		}
	}
	if !first && req.Reporting == 0 {
		a.ghosts = slices.DeleteFunc(a.ghosts, func(g ghost) bool { return g.report == unknownReport })
	}
	t.reseat(a)
	return again
}

// heard notes that a report arrived.
func (a *agent) heard(number uint64) {
	a.settle(max(number, 1) - 1)
	a.reported = max(a.reported, number)
	if a.unheard <= a.reported {
		a.unheard = 0
	}
}

// settle notes that the agent waits for no answer to a report up to number. What it
// says from then on counts the slots of what those answers brought.
func (a *agent) settle(number uint64) {
	a.settled = max(a.settled, number)
	a.ghosts = slices.DeleteFunc(a.ghosts, func(g ghost) bool { return g.report <= a.settled })
}

// ghost is the slot of a lease that ended while its assignment was on its way: the
// agent will begin the job, and learn only then that it ended.
type ghost struct {
	report uint64
	gpus   int
}

// haunt keeps the slot of an ended lease that its agent may still begin with.
func (l *lease) haunt() {
	if a := l.agent; l.onItsWay() && !l.boarding {
		a.ghosts = append(a.ghosts, ghost{report: l.report, gpus: l.endpoint.gpus()})
	}
}

// onItsWay reports whether a lease may be in an answer that its agent has not
// taken yet.
func (l *lease) onItsWay() bool { return l.report != 0 && !l.acked && !l.releasing && !l.finishing }

// board hands a new lease to the answer that has it: that of the report which freed
// its slot and shares its commit, if the agent still waits for it, else that of its
// parked sync. A lease of another commit waits for no report.
func (t *term) board(l *lease, g *grant) {
	if g != nil && g.report != nil && g.agent == l.agent && g.report.number > l.agent.settled && !l.acked {
		l.report, l.boarding = g.report.number, true
		g.report.carried = append(g.report.carried, l)
		return
	}
	t.touch(l.agent)
}

// answerReport decides what the answer to a report carries, once its results
// are committed or failed.
func (t *term) answerReport(rc *receipt, failed bool) {
	a := rc.agent
	for _, l := range rc.carried {
		l.boarding = false
		switch {
		case l.report != rc.number || t.leases[l.job.ID] != l || l.job.Lease.Incarnation != rc.incarnation || !l.onItsWay():
		case !failed && rc.number > a.settled:
			l.sent = true
			rc.assign = append(rc.assign, l.job)
		default: // nobody hears this answer
			l.report = 0
			t.touch(a)
		}
	}
}

// missed reports whether the answer that carried a lease was lost: the report
// with that number, which its agent sent later, does not have it.
func (l *lease) missed(number uint64) bool {
	return l.onItsWay() && l.report < number
}

// freshen takes in what a report that takes assignments says as a sync would:
// which instances are warm, and after a result that the agent begins to wait now.
func (t *term) freshen(a *agent, req *protocol.ReportRequest, now int64) {
	t.unseat(a)
	a.warm = req.Warm
	if a.waiter != nil && len(req.Finished) > 0 {
		a.waiter.since = now
	}
	t.reseat(a)
}
