package state

import (
	"slices"

	"windlass/protocol"
)

// leases lists the leased jobs of each agent, sorted. It is derived from the
// jobs and belongs to the writer: a registration needs it, and an index in the
// job table would cost every job a second tree.
type leases map[protocol.AgentID][]protocol.JobID

func (l leases) move(before, after *Job) {
	if before != nil && before.Lease != nil {
		l.remove(before.Lease.Agent, before.ID)
	}
	if after != nil && after.Lease != nil {
		l.add(after.Lease.Agent, after.ID)
	}
}

func (l leases) add(agent protocol.AgentID, job protocol.JobID) {
	held := l[agent]
	if at, found := slices.BinarySearchFunc(held, job, compareJobs); !found {
		l[agent] = slices.Insert(held, at, job)
	}
}

func (l leases) remove(agent protocol.AgentID, job protocol.JobID) {
	held := l[agent]
	at, found := slices.BinarySearchFunc(held, job, compareJobs)
	if !found {
		panic("state: a lease was not listed: " + job.String())
	}
	if held = slices.Delete(held, at, at+1); len(held) == 0 {
		delete(l, agent)
		return
	}
	l[agent] = held
}
