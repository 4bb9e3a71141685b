package main

import (
	"slices"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// order judges whom the broker grants (I10): of the jobs that wait for an
// endpoint the one of the highest priority that was submitted first; and none
// while an endpoint that any agent serves has a better one.
type order struct {
	check    *checker
	waiting  map[string][]*shadow // by organisation and endpoint
	names    []string             // of waiting, in the order in which they came
	proposed map[protocol.JobID]int
	epoch    int
	granted  []grant // since the last judgement
	kept     map[string]int64
}

type grant struct {
	node     *node
	job      protocol.JobID
	agent    protocol.AgentID
	endpoint string
	priority protocol.Priority
	seq      uint64
}

// mostWaiting is above which only some grants are judged, because each looks at
// everything that waits.
const mostWaiting = 32

func newOrder(c *checker) order {
	return order{check: c, waiting: make(map[string][]*shadow), proposed: make(map[protocol.JobID]int), kept: make(map[string]int64)}
}

func (s *shadow) place() string {
	return s.request.submit.GetOrg() + "/" + s.request.submit.GetEndpoint()
}

func (o *order) add(s *shadow) {
	k := s.place()
	if _, ok := o.waiting[k]; !ok {
		o.names = append(o.names, k)
	}
	s.waitingFor = len(o.waiting[k])
	o.waiting[k] = append(o.waiting[k], s)
}

func (o *order) remove(s *shadow) {
	k := s.place()
	list := o.waiting[k]
	last := len(list) - 1
	list[s.waitingFor] = list[last]
	list[s.waitingFor].waitingFor = s.waitingFor
	list[last] = nil
	o.waiting[k] = list[:last]
}

// proposed notes what a leadership has on its way to the log.
func (c *checker) proposed(n *node, epoch int, cmds []*command.Command) {
	o := &c.order
	if epoch != c.world.epoch {
		return
	}
	if o.epoch != epoch {
		o.epoch = epoch
		clear(o.proposed)
		o.granted = o.granted[:0]
	}
	var submit *command.Submit
	for _, cmd := range cmds {
		switch op := cmd.GetOp().(type) {
		case *command.Command_Submit:
			submit = op.Submit
		case *command.Command_ExpireTtl:
			o.proposed[protocol.JobID(op.ExpireTtl.GetJob())]++
		case *command.Command_Adopt:
			o.proposed[protocol.JobID(op.Adopt.GetJob())]++
		case *command.Command_Lease:
			id := protocol.JobID(op.Lease.GetJob())
			o.proposed[id]++
			g := grant{node: n, job: id, agent: protocol.AgentID(op.Lease.GetAgent())}
			if s := c.jobs[id]; s != nil && s.row != nil {
				g.endpoint, g.priority, g.seq = s.place(), s.row.Priority, s.row.Seq
			} else if submit != nil {
				g.endpoint, g.priority, g.seq = submit.GetOrg()+"/"+submit.GetEndpoint(), protocol.Priority(submit.GetPriority()), 1<<63
			}
			o.granted = append(o.granted, g)
		case *command.Command_Release:
			c.releasing(n, op.Release)
		}
	}
}

// answered takes back what proposed noted.
func (c *checker) answered(epoch int, cmds []*command.Command, results []command.Result, err error) {
	o := &c.order
	if o.epoch != epoch {
		return
	}
	for i, cmd := range cmds {
		var raw []byte
		switch op := cmd.GetOp().(type) {
		case *command.Command_ExpireTtl:
			raw = op.ExpireTtl.GetJob()
		case *command.Command_Adopt:
			raw = op.Adopt.GetJob()
		case *command.Command_Lease:
			raw = op.Lease.GetJob()
			if s := c.jobs[protocol.JobID(raw)]; s != nil && (err != nil || results[i].Code != "") {
				o.keep(protocol.AgentID(op.Lease.GetAgent()), s.place())
			}
		default:
			continue
		}
		id := protocol.JobID(raw)
		if o.proposed[id]--; o.proposed[id] <= 0 {
			delete(o.proposed, id)
		}
	}
}

// keep notes that an agent is not offered an endpoint for a moment.
func (o *order) keep(agent protocol.AgentID, endpoint string) {
	o.kept[string(agent[:])+endpoint] = o.check.world.now + 11*second
}

// judge looks at what was granted in the step that is over.
func (o *order) judge() {
	for i := range o.granted {
		g := &o.granted[i]
		if n := uint64(len(o.waiting[g.endpoint])); n <= mostWaiting || g.seq%(n/mostWaiting) == 0 {
			o.one(g)
		}
	}
	o.granted = o.granted[:0]
}

func (o *order) one(g *grant) {
	c, w := o.check, o.check.world
	if g.node != w.leader || g.endpoint == "" {
		return
	}
	for _, s := range o.waiting[g.endpoint] {
		better := s.row != nil && (s.row.Priority < g.priority || s.row.Priority == g.priority && s.row.Seq < g.seq)
		if better && s.id != g.job && o.free(g.node, s) {
			c.fail("I10", "job %s (%s, seq %d) was granted before %s (%s, seq %d) of the same endpoint",
				g.job, g.priority, g.seq, s.id, s.row.Priority, s.row.Seq)
		}
	}
	for _, name := range o.names {
		if name == g.endpoint || !o.open(g, name) {
			continue
		}
		for _, s := range o.waiting[name] {
			if s.row != nil && s.row.Priority < g.priority && o.free(g.node, s) {
				c.fail("I10", "job %s (%s) of %s was granted before %s (%s) of %s", g.job, g.priority, g.endpoint, s.id, s.row.Priority, name)
			}
		}
	}
}

// free reports whether a job could be granted instead.
func (o *order) free(n *node, s *shadow) bool {
	if s.status != protocol.StatusQueued || s.row == nil || s.row.Status != protocol.StatusQueued || o.proposed[s.id] > 0 || s.row.NotBeforeMs > n.nowMs() {
		return false
	}
	if end := s.row.ExpiresAtMs(); end != 0 && end <= n.nowMs() {
		return false
	}
	return !slices.ContainsFunc(n.calls, func(sv *served) bool {
		return slices.ContainsFunc(sv.call.holds, func(k protocol.HeldAttempt) bool { return k.Job == s.id })
	})
}

// open reports whether every agent serves the endpoint, the one of the grant too.
func (o *order) open(g *grant, name string) bool {
	s := o.waiting[name]
	if len(s) == 0 || o.kept[string(g.agent[:])+name] > o.check.world.now {
		return false
	}
	e := g.node.store.Endpoint(s[0].request.submit.GetOrg(), s[0].request.submit.GetEndpoint())
	return e != nil && !e.Doc.Paused && e.Doc.MaxRunning == 0 && e.Doc.Warm.Max == 0 && e.Doc.Resources.GPUs == 0
}

// releasing notes whom the broker turns away for a moment.
func (c *checker) releasing(_ *node, r *command.Release) {
	s := c.jobs[protocol.JobID(r.GetJob())]
	if s != nil && r.GetReason() == command.Release_REJECTED {
		c.order.keep(protocol.AgentID(r.GetAgent()), s.place())
	}
}
