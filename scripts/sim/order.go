package main

import (
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// order judges every grant of the leader when it is proposed, which is when it
// was decided (I10): the agent may have it, and no job that it could have been
// given instead comes first. Priority, then between organisations the fair
// share, then submission.
type order struct {
	check *checker
	lines map[string]*line // by organisation and endpoint
	names []string         // of lines, in the order in which they came
	share share

	// Of the leadership that is judged.
	epoch    int
	proposed map[protocol.JobID]int     // leases, adoptions and expiries on their way
	granting map[protocol.JobID]granted // leases on their way
	fused    []grant                    // decided in this step, with the submit
	kept     map[string]int64           // until when an agent is not offered an endpoint
}

// line is what waits for one endpoint, and how many run.
type line struct {
	org, endpoint string
	waiting       [protocol.Priorities + 1][]*shadow // by submission
	running       int                                // leased, and not about to end
	changed       int64                              // when its endpoint was
	granting      int
}

// granted is a lease on its way.
type granted struct {
	line  *line
	agent protocol.AgentID
}

// grant is one that is judged.
type grant struct {
	node     *node
	job      protocol.JobID
	agent    *agent
	line     *line
	priority protocol.Priority
	seq      uint64
}

// rejectTerm is for how long a broker keeps an endpoint from an agent that refused it.
const rejectTerm = 11 * second

func newOrder(c *checker) order {
	return order{
		check: c, lines: make(map[string]*line), proposed: make(map[protocol.JobID]int), granting: make(map[protocol.JobID]granted),
		kept: make(map[string]int64), share: newShare(),
	}
}

func (o *order) line(org, endpoint string) *line {
	k := org + "/" + endpoint
	l := o.lines[k]
	if l == nil {
		l = &line{org: org, endpoint: endpoint}
		o.lines[k] = l
		o.names = append(o.names, k)
	}
	return l
}

// place is where a job stands: nowhere unless it waits.
type place struct {
	line     *line
	priority protocol.Priority
	seq      uint64
}

// settle brings a job's place in line with its row, after each entry.
func (o *order) settle(s *shadow) {
	var now place
	if s.Status == protocol.StatusQueued && s.Note.row != nil {
		now = place{s.Note.line, s.Note.row.Priority, s.Note.row.Seq}
	}
	if now == s.Note.place {
		return
	}
	if at := s.Note.place; at.line != nil {
		list := at.line.waiting[at.priority]
		i, _ := slices.BinarySearchFunc(list, at.seq, bySeq)
		at.line.waiting[at.priority] = slices.Delete(list, i, i+1)
		o.share.leave(at.line.org, at.priority)
	}
	s.Note.place = now
	if now.line != nil {
		list := now.line.waiting[now.priority]
		i, _ := slices.BinarySearchFunc(list, now.seq, bySeq)
		now.line.waiting[now.priority] = slices.Insert(list, i, s)
		o.share.join(now.line.org, now.priority)
	}
}

func bySeq(s *shadow, seq uint64) int {
	switch {
	case s.Note.place.seq < seq:
		return -1
	case s.Note.place.seq > seq:
		return 1
	}
	return 0
}

// run counts what runs; finishing says that the leader has its result.
func (o *order) run(s *shadow, running bool) {
	if s.Note.running == running {
		return
	}
	s.Note.running = running
	if running {
		s.Note.line.running++
	} else {
		s.Note.line.running--
	}
}

// begin forgets what was on its way to another leadership.
func (o *order) begin(epoch int) {
	if o.epoch == epoch {
		return
	}
	o.epoch = epoch
	clear(o.proposed)
	o.fused = o.fused[:0]
	for id := range o.granting { // order does not matter: all go
		o.landed(id)
	}
	for _, s := range o.check.ledger.Live() { // order does not matter: each on its own
		o.run(s, s.Status == protocol.StatusInitializing)
	}
	o.share = o.share.restart()
}

func (o *order) landed(id protocol.JobID) {
	if g, ok := o.granting[id]; ok {
		g.line.granting--
		delete(o.granting, id)
	}
}

// proposed judges what a leadership puts on its way to the log.
func (c *checker) proposed(n *node, epoch int, cmds []*command.Command) {
	o := &c.order
	if epoch != c.world.epoch {
		return
	}
	o.begin(epoch)
	var submit *command.Submit
	for _, cmd := range cmds {
		switch op := cmd.GetOp().(type) {
		case *command.Command_Submit:
			submit = op.Submit
		case *command.Command_ExpireTtl:
			o.proposed[protocol.JobID(op.ExpireTtl.GetJob())]++
		case *command.Command_Adopt:
			o.proposed[protocol.JobID(op.Adopt.GetJob())]++
		case *command.Command_Finish:
			if s := c.job(protocol.JobID(op.Finish.GetJob())); s != nil && s.Attempt == op.Finish.GetAttempt() {
				o.run(s, false)
			}
		case *command.Command_Lease:
			o.lease(n, op.Lease, submit)
		case *command.Command_Release:
			if s := c.job(protocol.JobID(op.Release.GetJob())); s != nil && op.Release.GetReason() == command.Release_REJECTED {
				o.keep(protocol.AgentID(op.Release.GetAgent()), s.Note.line)
			}
		}
	}
}

func (o *order) lease(n *node, l *command.Lease, submit *command.Submit) {
	c := o.check
	id := protocol.JobID(l.GetJob())
	i := slices.IndexFunc(c.world.agents, func(a *agent) bool { return a.id == protocol.AgentID(l.GetAgent()) })
	g := grant{node: n, job: id, agent: c.world.agents[i]}
	s := c.job(id)
	switch {
	case s != nil && s.Note.row != nil:
		g.line, g.priority, g.seq = s.Note.line, s.Note.row.Priority, s.Note.row.Seq
		o.queued(&g, s)
	case submit != nil:
		g.line, g.priority, g.seq = o.line(submit.GetOrg(), submit.GetEndpoint()), protocol.Priority(submit.GetPriority()), 1<<63
		o.fused = append(o.fused, g)
	default:
		c.fail("I10", "a lease of job %s is proposed, and nobody knows it", id)
	}
	o.proposed[id]++
	if _, again := o.granting[id]; !again {
		o.granting[id] = granted{g.line, g.agent.id}
		g.line.granting++
	}
}

// answered takes back what proposed noted.
func (c *checker) answered(epoch int, cmds []*command.Command, results []command.Result, err error) {
	o := &c.order
	if o.epoch != epoch {
		return
	}
	for i, cmd := range cmds {
		var id protocol.JobID
		switch op := cmd.GetOp().(type) {
		case *command.Command_ExpireTtl:
			id = protocol.JobID(op.ExpireTtl.GetJob())
		case *command.Command_Adopt:
			id = protocol.JobID(op.Adopt.GetJob())
		case *command.Command_Finish:
			if s := c.job(protocol.JobID(op.Finish.GetJob())); s != nil {
				o.run(s, s.Status == protocol.StatusInitializing)
			}
			continue
		case *command.Command_Lease:
			id = protocol.JobID(op.Lease.GetJob())
			o.landed(id)
			if s := c.job(id); s != nil && (err != nil || results[i].Code != "") {
				o.keep(protocol.AgentID(op.Lease.GetAgent()), s.Note.line)
			}
		default:
			continue
		}
		if o.proposed[id]--; o.proposed[id] <= 0 {
			delete(o.proposed, id)
		}
	}
}

// keep notes that an agent is not offered an endpoint for a moment.
func (o *order) keep(agent protocol.AgentID, l *line) {
	o.kept[string(agent[:])+l.org+"/"+l.endpoint] = o.check.world.now + rejectTerm
}

// judge looks at the grants that came with their submit, when the step is over:
// what the queue gave away in it was decided before them.
func (o *order) judge() {
	for i := range o.fused {
		g := &o.fused[i]
		o.allowed(g, g.line.granting-1)
		o.first(g, func(s *shadow) bool { return s.Note.place.priority <= g.priority })
	}
	o.fused = o.fused[:0]
}

// queued judges a grant from the queue.
func (o *order) queued(g *grant, s *shadow) {
	o.allowed(g, g.line.granting)
	if until := s.Note.row.NotBeforeMs; until > g.node.nowMs() {
		o.check.fail("I9", "job %s was granted %d ms before its back-off ends", g.job, until-g.node.nowMs())
	}
	o.first(g, func(s *shadow) bool {
		return s.Note.place.priority < g.priority || s.Note.place.priority == g.priority && s.Note.line.org == g.line.org && s.Note.place.seq < g.seq
	})
	o.fair(g)
}

// allowed judges that the agent may have the job at all.
func (o *order) allowed(g *grant, granting int) {
	c := o.check
	e := g.node.store.Endpoint(g.line.org, g.line.endpoint)
	most, running := o.most(g.node, g.line.org)
	switch {
	case e == nil || g.node != c.world.leader:
	case most > 0 && running-g.line.granting+granting >= most:
		c.fail("I10", "job %s was granted while %d of %s run or begin, and %d may", g.job, running, g.line.org, most)
	case e.Doc.Paused:
		c.fail("I10", "job %s was granted while its endpoint %s is paused", g.job, e.ID)
	case e.Doc.MaxRunning > 0 && g.line.running+granting >= e.Doc.MaxRunning:
		c.fail("I10", "job %s was granted while %d of %s run or begin, and %d may", g.job, g.line.running+granting, e.ID, e.Doc.MaxRunning)
	case e.Doc.Resources.GPUs > 0 && g.agent.gpus == 0:
		c.fail("I10", "job %s was granted to agent %d, which has not what %s needs", g.job, g.agent.no, e.ID)
	}
}

// first fails when a job that comes before could have been granted instead.
func (o *order) first(g *grant, before func(*shadow) bool) {
	for _, name := range o.names {
		l := o.lines[name]
		if l != g.line && !o.open(g, l) {
			continue
		}
		for p := protocol.Priority(1); p <= g.priority; p++ {
			if s := o.head(g, l, p); s != nil && before(s) {
				o.check.fail("I10", "job %s (%s, seq %d) of %s was granted before %s (%s, seq %d) of %s",
					g.job, g.priority, g.seq, g.line.endpoint, s.ID, s.Note.place.priority, s.Note.place.seq, l.endpoint)
			}
		}
	}
}

// fair fails when an organisation is ahead of its share, and another one that
// waits with the same priority could have been served.
func (o *order) fair(g *grant) {
	o.share.look(g.priority)
	for _, name := range o.names {
		l := o.lines[name]
		if l.org == g.line.org || !o.share.ahead(g.line.org, l.org, g.priority) || !o.open(g, l) {
			continue
		}
		if s := o.head(g, l, g.priority); s != nil {
			o.check.fail("I10", "job %s of %s was granted before %s of %s, which had less of its share", g.job, g.line.org, s.ID, l.org)
		}
	}
	o.share.charge(g.line.org, g.priority, weight(g.node, g.line.org))
}

// head is the first job of a line and priority that could be granted.
func (o *order) head(g *grant, l *line, p protocol.Priority) *shadow {
	for _, s := range l.waiting[p] {
		if s.ID != g.job && o.free(g.node, s) {
			return s
		}
	}
	return nil
}

// free reports whether a job could be granted.
func (o *order) free(n *node, s *shadow) bool {
	if s.Note.row.NotBeforeMs > n.nowMs() || o.proposed[s.ID] > 0 {
		return false
	}
	if end := s.Note.row.ExpiresAtMs(); end != 0 && end <= n.nowMs() {
		return false
	}
	return !slices.ContainsFunc(n.calls, func(sv *served) bool {
		return slices.ContainsFunc(sv.call.holds, func(k protocol.HeldAttempt) bool { return k.Job == s.ID })
	})
}

// open reports whether the agent of a grant could have been given a job of an
// endpoint instead.
func (o *order) open(g *grant, l *line) bool {
	e := g.node.store.Endpoint(l.org, l.endpoint)
	switch {
	case e == nil || e.Doc.Paused || e.Doc.Resources.GPUs > 0 && g.agent.gpus == 0:
		return false
	case e.Doc.MaxRunning > 0 && l.running+l.granting >= e.Doc.MaxRunning:
		return false
	}
	if most, running := o.most(g.node, l.org); most > 0 && running >= most {
		return false
	}
	if o.kept[string(g.agent.id[:])+l.org+"/"+l.endpoint] > o.check.world.now {
		return false
	}
	return o.room(g.agent, l, e)
}

// most is how many jobs of an organisation may run (0: any number), and how many do.
func (o *order) most(n *node, org string) (most, running int) {
	row := n.store.View().Org(org)
	if row == nil || row.MaxRunning == 0 {
		return 0, 0
	}
	for _, name := range o.names {
		if l := o.lines[name]; l.org == org {
			running += l.running + l.granting
		}
	}
	return int(row.MaxRunning), running
}

// weight is an organisation's part of the fair share.
func weight(n *node, org string) uint64 {
	if row := n.store.View().Org(org); row != nil {
		return uint64(row.Weight)
	}
	return 1
}

// room reports whether the agent has a free instance of an endpoint that bounds them.
func (o *order) room(a *agent, l *line, e *state.Endpoint) bool {
	if e.Doc.Warm.Max == 0 {
		return true
	}
	n := 0
	for _, s := range o.check.ledger.Held(a.id) {
		if s.Note.line == l && s.Note.running {
			n++
		}
	}
	for _, g := range o.granting { // order does not matter: they are counted
		if g.line == l && g.agent == a.id {
			n++
		}
	}
	return n < e.Doc.Warm.Max*max(e.Doc.Concurrency, 1)
}
