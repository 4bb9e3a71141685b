package broker

import (
	"cmp"
	"slices"

	"windlass/protocol"
)

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
