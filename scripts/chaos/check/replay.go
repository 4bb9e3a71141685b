package check

import (
	"encoding/json"
	"slices"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// leaseState is the replay's own idea of a job, made from commands and their
// results alone: nothing of the FSM is used.
type leaseState struct {
	task     string // for texts: the job id
	org      string
	live     bool // a lease is held
	queued   bool // counted as waiting: only before its first lease, because what a lost one leads to is the FSM's rule
	terminal bool
	attempt  uint32
	agent    protocol.AgentID
	life     protocol.Incarnation
}

// replayer follows the log.
type replayer struct {
	r      *Report
	t      *tasks
	order  *order
	limit  int
	index  uint64
	nth    int // of the command in its entry
	jobs   map[protocol.JobID]*leaseState
	keys   map[string]protocol.JobID
	names  map[protocol.AgentID]string
	queued map[string]int // by organisation
	leases map[string]map[string]int
}

// replay checks the log itself: I5, I6, I8, I16, I20. It needs the log from
// its beginning, which some coordinator has that never installed a snapshot.
func (r *Report) replay(h *record.History, t *tasks) {
	if len(h.Applied) == 0 {
		return
	}
	p := &replayer{
		r: r, t: t, order: newOrder(r, h), limit: h.QueueLimit,
		jobs: make(map[protocol.JobID]*leaseState), keys: make(map[string]protocol.JobID),
		names: make(map[protocol.AgentID]string), queued: make(map[string]int), leases: make(map[string]map[string]int),
	}
	for i, a := range h.Applied {
		if i > 0 && h.Applied[i-1].Index == a.Index {
			continue
		}
		first := a.At
		for _, same := range h.Applied[i:] {
			if same.Index != a.Index {
				break
			}
			first = min(first, same.At)
		}
		batch, err := command.Unmarshal(a.Data)
		if err != nil {
			r.add("I19", "%s applied entry %d, which is damaged: %v", a.Node, a.Index, err)
			return
		}
		var results []command.Result
		if err := json.Unmarshal(a.Results, &results); err != nil || len(results) != len(batch.GetCommands()) {
			r.add("I17", "%s applied %d commands at index %d with %d results", a.Node, len(batch.GetCommands()), a.Index, len(results))
			return
		}
		r.Entries++
		p.index = a.Index
		p.order.begin(first, batch.GetClockMs())
		for n, c := range batch.GetCommands() {
			p.nth = n
			p.apply(c, &results[n])
		}
	}
	p.startsHaveLeases()
}

func (p *replayer) apply(c *command.Command, res *command.Result) {
	if res.Code != "" {
		if res.Code == protocol.CodeStaleAttempt || res.Code == protocol.CodeStaleIncarnation {
			p.r.Refused++
		}
		return
	}
	switch op := c.GetOp().(type) {
	case *command.Command_Submit:
		p.submit(op.Submit, res)
	case *command.Command_Lease:
		if !res.Replayed {
			p.order.grant(protocol.JobID(op.Lease.GetJob()), p.index)
			p.grant(protocol.JobID(op.Lease.GetJob()), protocol.AgentID(op.Lease.GetAgent()), protocol.Incarnation(op.Lease.GetIncarnation()), res.Attempt)
		}
	case *command.Command_Adopt:
		if !res.Replayed {
			p.order.leave(protocol.JobID(op.Adopt.GetJob()))
			p.grant(protocol.JobID(op.Adopt.GetJob()), protocol.AgentID(op.Adopt.GetAgent()), protocol.Incarnation(op.Adopt.GetIncarnation()), res.Attempt)
		}
	case *command.Command_Finish:
		if !res.Replayed {
			p.finish(op.Finish)
		}
	case *command.Command_Release:
		if !res.Replayed {
			p.release(op.Release)
		}
	case *command.Command_Cancel:
		p.end(protocol.JobID(op.Cancel.GetJob()), res, "cancelled")
	case *command.Command_ExpireTtl:
		p.end(protocol.JobID(op.ExpireTtl.GetJob()), res, "expired")
	case *command.Command_Reopen:
		if j := p.jobs[protocol.JobID(op.Reopen.GetJob())]; j != nil && !res.Replayed {
			j.terminal = false
			p.wait(j)
		}
	case *command.Command_Register:
		p.register(op.Register, res)
	case *command.Command_Evict:
		for _, id := range op.Evict.GetJobs() {
			delete(p.jobs, protocol.JobID(id))
		}
	}
}

func (p *replayer) submit(c *command.Submit, res *command.Result) {
	key := c.GetOrg() + "\x00" + c.GetEndpoint() + "\x00" + c.GetIdempotencyKey()
	if bound, ok := p.keys[key]; ok && c.GetIdempotencyKey() != "" && bound != res.Job {
		p.r.add("I4", "entry %d made %s for the key %q of %s", p.index, res.Job, c.GetIdempotencyKey(), bound)
	}
	p.keys[key] = res.Job
	if res.Replayed {
		return
	}
	if p.jobs[res.Job] != nil {
		p.r.add("I4", "entry %d made %s a second time", p.index, res.Job)
		return
	}
	j := &leaseState{task: res.Job.String(), org: c.GetOrg()}
	p.jobs[res.Job] = j
	p.order.submit(res.Job, c, p.index, p.nth)
	p.wait(j)
	if p.limit > 0 && p.queued[j.org] > p.limit {
		p.r.add("I16", "entry %d let job %d wait where %d may", p.index, p.queued[j.org], p.limit)
	}
}

// wait puts a new job into its queue.
func (p *replayer) wait(j *leaseState) {
	j.queued = true
	p.queued[j.org]++
}

func (p *replayer) leave(j *leaseState) {
	if j.queued {
		j.queued = false
		p.queued[j.org]--
	}
}

func (p *replayer) grant(id protocol.JobID, agent protocol.AgentID, life protocol.Incarnation, attempt uint32) {
	j := p.jobs[id]
	if j == nil {
		return // older than the log that we have
	}
	switch {
	case j.live:
		p.r.add("I5", "entry %d leased %s to %s while %s held it", p.index, j.task, p.name(agent), p.name(j.agent))
	case j.terminal:
		p.r.add("I8", "entry %d leased %s to %s although it had ended", p.index, j.task, p.name(agent))
	case attempt <= j.attempt:
		p.r.add("I5", "entry %d leased %s as attempt %d after attempt %d", p.index, j.task, attempt, j.attempt)
	}
	p.leave(j)
	j.live, j.attempt, j.agent, j.life = true, attempt, agent, life
	of := p.leases[j.task]
	if of == nil {
		of = make(map[string]int)
		p.leases[j.task] = of
	}
	of[p.name(agent)]++
}

// fence checks that an accepted write of an agent was the current one's.
func (p *replayer) fence(j *leaseState, what string, attempt uint32, agent, life []byte) {
	switch {
	case j.terminal:
		p.r.add("I6", "entry %d took a %s of %s after its end", p.index, what, j.task)
	case !j.live || attempt != j.attempt || protocol.AgentID(agent) != j.agent || protocol.Incarnation(life) != j.life:
		p.r.add("I6", "entry %d took a %s of %s from attempt %d of %s, and attempt %d of %s was current", p.index, what, j.task, attempt, p.name(protocol.AgentID(agent)), j.attempt, p.name(j.agent))
	}
}

func (p *replayer) finish(c *command.Finish) {
	j := p.jobs[protocol.JobID(c.GetJob())]
	if j == nil {
		return
	}
	p.fence(j, "result", c.GetAttempt(), c.GetAgent(), c.GetIncarnation())
	failed := c.GetOutcome() == string(protocol.OutcomeFailed) && c.GetRetryable()
	j.live, j.terminal = false, !failed && c.GetOutcome() != string(protocol.OutcomeTimeout)
	if failed {
		p.order.failed(protocol.JobID(c.GetJob()), c.GetNotBeforeMs())
	}
}

func (p *replayer) release(c *command.Release) {
	j := p.jobs[protocol.JobID(c.GetJob())]
	if j == nil {
		return
	}
	p.fence(j, "release", c.GetAttempt(), c.GetAgent(), c.GetIncarnation())
	if name := p.name(j.agent); c.GetReason() == command.Release_LOST && !p.t.everExcused(name) {
		p.r.add("I20", "entry %d took %s from %s as lost (%s), and nothing had happened to it", p.index, j.task, name, c.GetDetail())
	}
	j.live = false
	if c.GetReason() == command.Release_LOST {
		p.order.lost(protocol.JobID(c.GetJob()), c.GetNotBeforeMs())
	} else {
		p.order.wait(protocol.JobID(c.GetJob()), c.GetNotBeforeMs())
	}
}

func (p *replayer) end(id protocol.JobID, res *command.Result, how string) {
	j := p.jobs[id]
	if j == nil || res.Replayed || j.terminal {
		return
	}
	if j.live && how == "expired" {
		p.r.add("I12", "entry %d let %s expire while %s ran it", p.index, j.task, p.name(j.agent))
	}
	p.leave(j)
	p.order.leave(id)
	j.live, j.terminal = false, true
}

// register moves the attempts that the agent still has to its new life, and
// takes its others.
func (p *replayer) register(c *command.Register, res *command.Result) {
	agent := protocol.AgentID(c.GetAgent())
	p.names[agent] = c.GetName()
	for id, j := range p.jobs {
		if !j.live || j.agent != agent {
			continue
		}
		if slices.Contains(res.Current, protocol.HeldAttempt{Job: id, Attempt: j.attempt}) {
			j.life = protocol.Incarnation(c.GetIncarnation())
		} else {
			j.live = false
			p.order.lost(id, 0)
		}
	}
	p.order.register()
}

func (p *replayer) name(id protocol.AgentID) string {
	if n := p.names[id]; n != "" {
		return n
	}
	return id.String()
}

// startsHaveLeases: nothing starts on an agent that was not granted it (I5).
func (p *replayer) startsHaveLeases() {
	p.t.each(func(k *task) {
		starts := make(map[string]int)
		for _, run := range k.starts() {
			starts[run.Job+" on "+run.Agent]++
			granted, known := p.leases[run.Job]
			if known && starts[run.Job+" on "+run.Agent] > granted[run.Agent] {
				p.r.add("I5", "task %d started on %s more often than the %d times that it was leased there", k.n, run.Agent, granted[run.Agent])
			}
		}
	})
}
