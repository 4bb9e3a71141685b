package broker

import (
	"fmt"
	"strconv"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// shownAgents is how many agents a reason names.
const shownAgents = 20

func (t *term) explain(j *state.Job) protocol.Explain {
	x := protocol.Explain{JobID: j.ID, Status: j.Status, Reasons: []string{}}
	say := func(why string) protocol.Explain {
		x.Summary, x.Reasons = "The job "+why+".", append(x.Reasons, "the job "+why)
		return x
	}
	switch {
	case j.Status.Terminal():
		return say("has ended: it is " + j.Status.String())
	case j.Lease != nil:
		return say("is leased to agent " + j.Lease.Agent.String() + ": " + j.Lease.Reason)
	case j.Status == protocol.StatusPaused:
		block(&x, protocol.Blocker{
			Code: protocol.BlockedJobPaused, Message: "the job is paused", Owner: protocol.OwnerSubmitter, Fix: "POST /v2/jobs/" + j.ID.String() + "/resume",
		})
		x.Summary = summary(&x)
		return x
	case j.Status != protocol.StatusQueued:
		return say("is " + j.Status.String())
	}
	t.lock()
	defer t.unlock()
	if t.grants[j.ID] != nil {
		return say("is being leased")
	}
	e := t.endpoint(j.Org, j.Target)
	if position, ok := t.queue.Position(j.ID); ok {
		x.Position, x.Ahead = position, position-1
		x.AheadBy = t.aheadBy(e, j.Priority, x.Ahead)
	}
	if j.NotBeforeMs > t.cfg.NowMs() {
		block(&x, protocol.Blocker{
			Code: protocol.BlockedBackoff, Owner: protocol.OwnerNobody,
			Message: "backing off until " + protocol.Time(j.NotBeforeMs).String() + " after a failed attempt",
		})
	}
	t.addBlockers(&x, e)
	return x
}

// explainNew is explain of a job that would be submitted now.
func (t *term) explainNew(org, id string, priority protocol.Priority) protocol.Explain {
	x := protocol.Explain{Status: protocol.StatusQueued, Reasons: []string{}}
	t.lock()
	defer t.unlock()
	e := t.endpoint(org, id)
	for p := protocol.PriorityCritical; p <= priority; p++ {
		x.Ahead += t.queue.Count(e.number, p)
	}
	x.Position = x.Ahead + 1
	x.AheadBy = t.aheadBy(e, priority, x.Ahead)
	t.addBlockers(&x, e)
	return x
}

// aheadBy divides the jobs ahead by their priority: all that are above, and the
// rest is of the job's own.
func (t *term) aheadBy(e *endpoint, own protocol.Priority, ahead int) map[string]int {
	if ahead == 0 {
		return nil
	}
	by := make(map[string]int)
	add := func(p protocol.Priority, n int) {
		if n > 0 {
			by[p.String()] = n
		}
	}
	for p := protocol.PriorityCritical; p < own; p++ {
		n := t.queue.Count(e.number, p)
		add(p, n)
		ahead -= n
	}
	add(own, ahead)
	return by
}

// addBlockers says why a job of the endpoint waits, in the order in which the
// matching would find out, and sums it up.
func (t *term) addBlockers(x *protocol.Explain, e *endpoint) {
	if x.Ahead > 0 {
		block(x, protocol.Blocker{
			Code: protocol.BlockedBehindQueue, Message: areAhead(x.Ahead), Owner: protocol.OwnerNobody, Count: x.Ahead,
		})
	}
	if b, closed := e.closedBy(); closed {
		block(x, b)
	} else {
		t.addAgents(x, e)
	}
	x.Summary = summary(x)
}

func areAhead(n int) string {
	if n == 1 {
		return "1 job of this endpoint is ahead"
	}
	return strconv.Itoa(n) + " jobs of this endpoint are ahead"
}

func block(x *protocol.Explain, b protocol.Blocker) {
	x.Blocking, x.Reasons = append(x.Blocking, b), append(x.Reasons, b.Message)
}

// summary is one sentence of the place and of the last reason, which is the one
// that keeps the first job of the queue waiting.
func summary(x *protocol.Explain) string {
	place := "Next in the queue"
	switch {
	case x.Position == 0:
		place = "Not in the queue"
	case x.Ahead > 0:
		place = areAhead(x.Ahead)
	}
	for i := len(x.Blocking) - 1; i >= 0; i-- {
		if b := x.Blocking[i]; b.Code != protocol.BlockedBehindQueue {
			return place + "; " + b.Message + "."
		}
	}
	if x.Agents != nil && x.Agents.Free > 0 {
		return fmt.Sprintf("%s; %d agents can take it now.", place, x.Agents.Free)
	}
	return place + "."
}

// closedBy says what keeps every agent from jobs of the endpoint; it is closed for
// people.
func (e *endpoint) closedBy() (protocol.Blocker, bool) {
	why := e.closed()
	b := protocol.Blocker{Message: why, Owner: protocol.OwnerNobody}
	switch {
	case why == "":
		return b, false
	case e.row == nil:
		b.Code, b.Owner = protocol.BlockedEndpointGone, protocol.OwnerSubmitter
	case e.row.Doc.Paused:
		b.Code, b.Owner, b.Fix = protocol.BlockedEndpointPause, protocol.OwnerOperator, "POST /v2/endpoints/"+e.key.id+"/resume"
	case e.row.Doc.MaxRunning > 0 && e.running >= e.row.Doc.MaxRunning:
		b.Code, b.Count, b.Fix = protocol.BlockedConcurrency, e.running, "wait, or raise maxRunning of the endpoint"
	default:
		b.Code, b.Count, b.Fix = protocol.BlockedOrganisation, e.org.running, "wait, or ask for a higher maxRunning of the organisation"
	}
	return b, true
}

// addAgents asks every agent the questions that the matching asks.
func (t *term) addAgents(x *protocol.Explain, e *endpoint) {
	var names [verdicts][]string
	funnel, possible := &protocol.AgentFunnel{}, false
	now := t.now()
	for _, a := range t.roster {
		if a.row == nil {
			continue
		}
		v := suits(a.row, e.row)
		switch v {
		case otherOrg:
			continue // whose agents are nobody else's affair
		case noGPU:
			v = whichGPU(a.row.Facts.GPUs, &e.row.Doc.Resources)
		}
		possible = possible || v == fit
		if !a.connected(now) {
			continue
		}
		funnel.Connected++
		if v == fit {
			funnel.Suitable++
			v = t.takes(a, e)
		}
		names[v] = append(names[v], a.row.Name)
	}
	funnel.Free = len(names[fit])
	x.Agents, x.Never = funnel, !possible
	switch {
	case funnel.Connected == 0:
		block(x, protocol.Blocker{
			Code: protocol.BlockedNoAgent, Message: "no agent that serves this organisation is connected", Owner: protocol.OwnerOperator, Fix: "start an agent: windlass agent --help",
		})
		return
	case funnel.Free > 0:
		x.Reasons = append(x.Reasons, strconv.Itoa(funnel.Free)+" agents can take it now")
		return
	}
	for v := range verdicts {
		if len(names[v]) > 0 {
			t.blockedBy(x, v, e, names[v], funnel.Connected)
		}
	}
}

// whichGPU says what an agent without enough suitable GPUs lacks.
func whichGPU(gpus []protocol.GPUFact, need *protocol.ResourceSpec) verdict {
	switch {
	case len(gpus) < need.GPUs:
		return noGPU
	case suitableGPUs(gpus, &protocol.ResourceSpec{GPUType: need.GPUType}) < need.GPUs:
		return otherGPU
	}
	return smallGPU
}

func (t *term) blockedBy(x *protocol.Explain, v verdict, e *endpoint, names []string, connected int) {
	code, text, owner, fix := v.blocks(e)
	message := fmt.Sprintf("%d of %d agents: %s", len(names), connected, text)
	if code == "" {
		x.Reasons = append(x.Reasons, message) // passes within a moment
		return
	}
	block(x, protocol.Blocker{
		Code: code, Message: message, Owner: owner, Count: len(names), Agents: names[:min(len(names), shownAgents)], Fix: fix,
	})
}

// blocks is a verdict in words.
func (v verdict) blocks(e *endpoint) (code protocol.BlockerCode, text, owner, fix string) {
	doc := e.row.Doc
	switch v {
	case otherPool:
		return protocol.BlockedPool, "not in pool " + strconv.Quote(doc.Pool), protocol.OwnerOperator, "start an agent in that pool, or change the endpoint's"
	case noKind:
		return protocol.BlockedRuntime, "kind " + strconv.Quote(doc.Runtime.Kind) + " not allowed", protocol.OwnerOperator, "add it to runtimes.allow of an agent"
	case noGPU:
		return protocol.BlockedFewGPUs, "fewer than " + strconv.Itoa(doc.Resources.GPUs) + " GPUs", protocol.OwnerOperator, "add a host with more GPUs, or ask for fewer in the endpoint's resources"
	case otherGPU:
		return protocol.BlockedGPUType, "fewer than " + strconv.Itoa(doc.Resources.GPUs) + " GPUs of type " + strconv.Quote(doc.Resources.GPUType), protocol.OwnerSubmitter, "add such a host, or change gpuType in the endpoint's resources"
	case smallGPU:
		return protocol.BlockedGPUMemory, "GPUs with less memory than " + protocol.FormatBytes(int64(doc.Resources.VRAM)), protocol.OwnerSubmitter, "add a host with larger GPUs, or lower vram in the endpoint's resources"
	case isDraining:
		return protocol.BlockedDraining, "draining", protocol.OwnerOperator, ""
	case slotsBusy:
		return protocol.BlockedSlotsBusy, "all slots busy", protocol.OwnerNobody, "wait, or add agents"
	case gpusBusy:
		return protocol.BlockedGPUsBusy, "too few free GPUs", protocol.OwnerNobody, "wait, or add agents"
	case instancesBusy:
		return protocol.BlockedConcurrency, "all instances of the endpoint busy", protocol.OwnerNobody, "wait, or raise warm.max or concurrency of the endpoint"
	case wasRejected:
		return protocol.BlockedRejected, "gave a job of this endpoint back a moment ago", protocol.OwnerOperator, "see the agent's log"
	}
	return "", "about to ask for work", protocol.OwnerNobody, ""
}
