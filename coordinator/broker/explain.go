package broker

import (
	"cmp"
	"slices"
	"strconv"

	"windlass/coordinator/state"
	"windlass/protocol"
)

func (t *term) explain(j *state.Job) protocol.Explain {
	x := protocol.Explain{JobID: j.ID, Status: j.Status, Reasons: []string{}}
	switch {
	case j.Status.Terminal():
		x.Reasons = append(x.Reasons, "the job has ended")
		return x
	case j.Lease != nil:
		x.Reasons = append(x.Reasons, "leased to agent "+j.Lease.Agent.String()+": "+j.Lease.Reason)
		return x
	case j.Status != protocol.StatusQueued:
		x.Reasons = append(x.Reasons, "the job is "+j.Status.String())
		return x
	}
	t.lock()
	defer t.unlock()
	if t.grants[j.ID] != nil {
		x.Reasons = append(x.Reasons, "a lease for it is being committed")
		return x
	}
	if position, ok := t.queue.Position(j.ID); ok {
		x.Position, x.Ahead = position, position-1
	}
	if j.NotBeforeMs > t.cfg.NowMs() {
		x.Reasons = append(x.Reasons, "backing off until "+protocol.Time(j.NotBeforeMs).String()+" after a failed attempt")
	}
	if x.Ahead > 0 {
		x.Reasons = append(x.Reasons, strconv.Itoa(x.Ahead)+" jobs of this endpoint are ahead")
	}
	e := t.endpoint(j.Org, j.Target)
	if why := e.closed(); why != "" {
		x.Reasons = append(x.Reasons, why)
		return x
	}
	x.Reasons = append(x.Reasons, t.whyNot(e)...)
	return x
}

// whyNot asks every connected agent the questions that match asks.
func (t *term) whyNot(e *endpoint) []string {
	var counts [verdicts]int
	connected := 0
	now := t.now()
	for _, a := range t.roster {
		if !a.connected(now) {
			continue
		}
		v := suits(a.row, e.row)
		if v == otherOrg {
			continue // whose agents are nobody else's affair
		}
		connected++
		if v == fit {
			v = t.takes(a, e)
		}
		counts[v]++
	}
	switch {
	case connected == 0:
		return []string{"no agent that serves this organisation is connected"}
	case counts[fit] > 0:
		return []string{strconv.Itoa(counts[fit]) + " agents can take it now"}
	}
	var out []string
	for v, n := range counts {
		if n > 0 {
			out = append(out, strconv.Itoa(n)+" of "+strconv.Itoa(connected)+" agents "+verdict(v).text(e))
		}
	}
	return out
}

func (v verdict) text(e *endpoint) string {
	doc := e.row.Doc
	switch v {
	case otherPool:
		return "are not in pool " + strconv.Quote(doc.Pool)
	case noKind:
		return "do not run kind " + strconv.Quote(doc.Runtime.Kind)
	case noGPU:
		return "do not have " + strconv.Itoa(doc.Resources.GPUs) + " suitable GPUs"
	case isDraining:
		return "are draining"
	case slotsBusy:
		return "have all slots busy"
	case gpusBusy:
		return "have too few free GPUs"
	case instancesBusy:
		return "have all instances of the endpoint busy"
	case wasRejected:
		return "gave a job of this endpoint back and are not asked for a moment"
	case notWaiting:
		return "are about to ask for work"
	}
	return "can take it"
}

// connected reports whether the agent showed a sign of life within a lease term.
func (a *agent) connected(now int64) bool {
	return a.row != nil && (a.waiter != nil || a.seenMs != 0 && now-a.seenAt < protocol.LeaseTerm.Milliseconds())
}

func (t *term) infos() []protocol.AgentInfo {
	t.lock()
	now := t.now()
	out := make([]protocol.AgentInfo, 0, len(t.agents))
	for _, a := range t.roster {
		if a.row == nil {
			continue
		}
		f := &a.row.Facts
		out = append(out, protocol.AgentInfo{
			ID: a.id, Org: a.row.Org, Name: a.row.Name, Incarnation: a.row.Incarnation, Pool: f.Pool, Slots: f.Slots,
			Running: len(a.leases), Connected: a.connected(now), LastSeen: max(a.seenMs, protocol.Time(a.row.SeenMs)),
			Kinds: f.Kinds, GPUs: f.GPUs, Host: a.host, Version: f.Version,
		})
	}
	t.unlock()
	slices.SortFunc(out, func(a, b protocol.AgentInfo) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID.String(), b.ID.String()))
	})
	return out
}

// Stats is a count at one moment.
type Stats struct {
	Queued  []QueuedCount // ready jobs by organisation, endpoint and priority
	Delayed int           // jobs that back off
	Running int           // leases
	Waiters int           // parked syncs
	// OldestMs is how long the job submitted first among the ready ones has
	// waited, in milliseconds.
	OldestMs int64
}

// QueuedCount is how many jobs of one endpoint and priority are ready.
type QueuedCount struct {
	Org      string
	Endpoint string
	Priority protocol.Priority
	Count    int
}

func (t *term) stats() Stats {
	t.lock()
	defer t.unlock()
	s := Stats{Delayed: t.queue.Delayed(), Running: len(t.leases), Waiters: t.parked}
	var oldest protocol.JobID
	seq := uint64(never)
	for _, e := range t.byNumber {
		for p := protocol.PriorityCritical; p <= protocol.PriorityLow; p++ {
			it, ok := t.queue.Oldest(e.number, p)
			if !ok {
				continue
			}
			s.Queued = append(s.Queued, QueuedCount{Org: e.key.org, Endpoint: e.key.id, Priority: p, Count: t.queue.Count(e.number, p)})
			if it.Seq < seq {
				oldest, seq = it.Job, it.Seq
			}
		}
	}
	if j := t.cfg.Store.Job(oldest); j != nil {
		s.OldestMs = max(t.cfg.NowMs()-j.CreatedMs, 0)
	}
	return s
}
