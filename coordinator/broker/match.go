package broker

import (
	"cmp"
	"slices"

	"windlass/coordinator/queue"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// verdict says whether an agent can take a job of an endpoint, or why not.
type verdict int

const (
	fit verdict = iota
	otherOrg
	otherPool
	noKind
	noGPU
	otherGPU // as smallGPU: only explain tells these from noGPU
	smallGPU
	isDraining
	slotsBusy
	gpusBusy
	instancesBusy
	wasRejected
	notWaiting
	verdicts
)

// serves reports whether an agent runs jobs of an organisation: of its own, those
// of the first organisation of all, and of no other than it allows (ADR 16).
func serves(a *state.Agent, org string) bool {
	if a.Org != protocol.OrgDefault && a.Org != org {
		return false
	}
	return len(a.Facts.Orgs) == 0 || slices.Contains(a.Facts.Orgs, org)
}

// served returns a job that an agent may know of, or nil.
func (t *term) served(a *state.Agent, id protocol.JobID) *state.Job {
	if row := t.cfg.Store.Job(id); row != nil && serves(a, row.Org) {
		return row
	}
	return nil
}

// ownOrg is the organisation of an agent's credential.
func ownOrg(org string) string { return cmp.Or(org, protocol.OrgDefault) }

// suits judges what does not change while an agent lives.
func suits(a *state.Agent, e *state.Endpoint) verdict {
	doc := e.Doc
	switch {
	case !serves(a, e.Org):
		return otherOrg
	case a.Facts.Pool != doc.Pool:
		return otherPool
	case !slices.Contains(a.Facts.Kinds, doc.Runtime.Kind):
		return noKind
	case doc.Resources.GPUs > suitableGPUs(a.Facts.GPUs, &doc.Resources):
		return noGPU
	}
	return fit
}

func suitableGPUs(gpus []protocol.GPUFact, need *protocol.ResourceSpec) int {
	n := 0
	for i := range gpus {
		if (need.GPUType == "" || need.GPUType == gpus[i].Name) && gpus[i].Memory >= int64(need.VRAM) {
			n++
		}
	}
	return n
}

// takes judges what changes with every statement and grant.
func (t *term) takes(a *agent, e *endpoint) verdict {
	switch {
	case a.draining:
		return isDraining
	case a.waiter == nil && a.free == 0 && a.seq == 0:
		return notWaiting // registered, has not yet said what it can take
	case a.openSlots() <= 0:
		return slotsBusy
	case e.gpus() > 0 && a.openGPUs() < e.gpus():
		return gpusBusy
	case !a.roomFor(e):
		return instancesBusy
	case len(a.rejected) > 0 && a.rejects(e, t.now()):
		return wasRejected
	case a.waiter == nil:
		return notWaiting
	}
	return fit
}

// roomFor holds warm.max instances with concurrency jobs each.
func (a *agent) roomFor(e *endpoint) bool {
	doc := e.row.Doc
	if doc.Warm.Max <= 0 {
		return true
	}
	n := 0
	for _, g := range a.grants {
		if g.endpoint == e {
			n++
		}
	}
	for _, l := range a.leases {
		if l.endpoint == e && !l.finishing {
			n++
		}
	}
	return n < doc.Warm.Max*max(doc.Concurrency, 1)
}

func (a *agent) rejects(e *endpoint, now int64) bool {
	for _, r := range a.rejected {
		if r.endpoint == e && now < r.until {
			return true
		}
	}
	return false
}

// closed says why no agent at all may get a job of the endpoint, or "".
func (e *endpoint) closed() string {
	switch {
	case e.row == nil:
		return "the endpoint does not exist"
	case e.row.Doc.Paused:
		return "the endpoint is paused"
	case e.row.Doc.MaxRunning > 0 && e.running >= e.row.Doc.MaxRunning:
		return "the endpoint is at its maxRunning"
	case e.org.row != nil && e.org.row.MaxRunning > 0 && e.org.running >= int(e.org.row.MaxRunning):
		return "the organisation is at its maxRunning"
	}
	return ""
}

// pick chooses an idle agent for one job of the endpoint: one with a warm
// instance, then the one with most open slots, then the longest waiting.
func (t *term) pick(e *endpoint) (*agent, string, bool) {
	if t.idle == 0 || e.closed() != "" {
		return nil, "", false
	}
	takes := func(a *agent) bool { return suits(a.row, e.row) == fit && t.takes(a, e) == fit }
	if a := e.warm.best(takes); a != nil {
		return a, "warm", true
	}
	var best *agent
	candidates := 0
	for _, c := range t.classes {
		if len(c.idle.seats) == 0 || suits(c.sample, e.row) != fit {
			continue
		}
		candidates += len(c.idle.seats)
		if a := c.idle.best(takes); a != nil && (best == nil || ahead(a, best)) {
			best = a
		}
	}
	switch {
	case best == nil:
		return nil, "", false
	case candidates == 1:
		return best, "only fit", true
	}
	return best, "least loaded", true
}

// match grants jobs while some idle agent fits some job: always the best job
// that any of them fits, then the best agent for it.
func (t *term) match() {
	if t.idle == 0 || t.queue.Len() == 0 || t.now() < t.stalledTo {
		return
	}
	t.queue.Ripe(t.cfg.NowMs())
	for t.idle > 0 {
		it, ok := t.queue.Best(t.fits)
		if !ok {
			return
		}
		e := t.byNumber[it.Endpoint]
		a, reason, ok := t.pick(e)
		if !ok {
			return
		}
		t.queue.Take(it.Job)
		t.pending = append(t.pending, t.grant(it, e, a, reason))
	}
}

// grant reserves a slot of a for the job until its lease committed or failed.
func (t *term) grant(it queue.Item, e *endpoint, a *agent, reason string) *grant {
	g := &grant{item: it, endpoint: e, agent: a, incarnation: a.row.Incarnation, revision: e.row.Revision, reason: reason}
	t.grants[it.Job] = g
	a.grants = append(a.grants, g)
	e.runs(1)
	a.useWarm(e)
	t.reseat(a)
	return g
}

// dropGrant forgets a grant that committed or failed.
func (t *term) dropGrant(g *grant) {
	delete(t.grants, g.item.Job)
	if i := slices.Index(g.agent.grants, g); i >= 0 {
		g.agent.grants = slices.Delete(g.agent.grants, i, i+1)
	}
	g.endpoint.runs(-1)
	t.reseat(g.agent)
}

// settle ends grants whose batch was answered. One that committed was dropped
// when its row was taken in; the others give their slot back, and their job its
// place if it still waits.
func (t *term) settle(grants []*grant, failed bool) {
	for _, g := range grants {
		if t.grants[g.item.Job] != g {
			continue
		}
		t.dropGrant(g)
		if failed {
			t.stalledTo = t.now() + stallTerm
		} else if g.agent.row.Incarnation == g.incarnation && t.requeue(g.item.Job) {
			// Refused although neither side changed: do not try this pair again and again.
			t.reject(g.agent, g.endpoint)
			continue
		}
		t.requeue(g.item.Job)
	}
}

// requeue puts a job that waits by the table back into the queue.
func (t *term) requeue(job protocol.JobID) bool {
	row := t.cfg.Store.Job(job)
	if row == nil || !row.Waits() || t.grants[job] != nil || t.reserved[job] > 0 {
		return false
	}
	t.queue.Push(t.item(row))
	return true
}

// reject keeps an endpoint away from an agent for rejectTerm.
func (t *term) reject(a *agent, e *endpoint) {
	now := t.now()
	a.rejected = slices.DeleteFunc(a.rejected, func(r rejection) bool { return r.until <= now || r.endpoint == e })
	a.rejected = append(a.rejected, rejection{endpoint: e, until: now + rejectTerm})
	t.rematchAt = min(t.rematchAt, now+rejectTerm)
}
