package agent

import (
	"cmp"
	"slices"
	"sync"

	"windlass/protocol"
)

// statements numbers what the agent says about itself.
type statements struct {
	mu        sync.Mutex
	seq       uint64 // of the newest statement
	reporting uint64 // of the report whose answer may still bring assignments; 0: none
}

// syncStatement fills in the held set, the capacity, and whether a report's answer
// is waited for, all of one moment. Statements are numbered in the order of their
// moments.
func (a *Agent) syncStatement(req *protocol.SyncRequest) {
	a.said.mu.Lock()
	defer a.said.mu.Unlock()
	a.said.seq++
	req.Held, req.Capacity, req.Reporting = a.table.held(nil), a.capacity(), a.said.reporting
	req.Capacity.Seq = a.said.seq
}

// reportStatement is the same for a report; what it hands in is not held. Until
// reportOver its answer is waited for.
func (a *Agent) reportStatement(req *protocol.ReportRequest) {
	a.said.mu.Lock()
	defer a.said.mu.Unlock()
	a.said.seq++
	req.Held, req.Capacity = a.table.held(req.Finished), a.capacity()
	req.Capacity.Seq, a.said.reporting = a.said.seq, a.said.seq
}

// reportOver says that the answer to the report was taken, or never will be.
func (a *Agent) reportOver() {
	a.said.mu.Lock()
	defer a.said.mu.Unlock()
	a.said.reporting = 0
}

// capacity is what the agent could take now. A finished attempt holds no slot
// any more, although it stays in the held set until its result is answered.
func (a *Agent) capacity() protocol.Capacity {
	busy, gpus := 0, 0
	for _, at := range a.table.list() {
		if at.occupies() {
			busy++
			gpus += at.gpus
		}
	}
	c := protocol.Capacity{
		Free: max(0, a.cfg.Slots-busy), FreeGPUs: max(0, len(a.gpuFacts())-gpus), Draining: a.table.isDraining(),
	}
	// A journal at its bound means results that nobody took for days; more work
	// would end up in memory or be lost.
	if c.Draining || a.journal.full() {
		c.Free = 0
	}
	return c
}

// admit says why an assignment cannot run here; nil if it can.
func (a *Agent) admit(as protocol.Assignment) (protocol.Endpoint, string) {
	doc, ok := a.table.document(protocol.EndpointName(as.Org, as.Endpoint), as.Revision)
	switch {
	case len(a.cfg.Orgs) > 0 && !slices.Contains(a.cfg.Orgs, cmp.Or(as.Org, protocol.OrgDefault)):
		return doc, "organisation " + as.Org + " is not in orgs of this agent"
	case a.table.isDraining():
		return doc, "the agent drains"
	case !ok:
		return doc, "the endpoint's document of this revision is missing"
	case doc.Resources.GPUs > len(a.gpuFacts()):
		return doc, "the agent has not as many GPUs"
	}
	if err := a.cfg.permit(doc.Runtime.Kind, doc.Runtime.Command); err != nil {
		return doc, err.Error()
	}
	return doc, ""
}
