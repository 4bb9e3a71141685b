package broker

import (
	"slices"
	"strings"

	"windlass/coordinator/queue"
	"windlass/coordinator/state"
	"windlass/protocol"
)

type endpointKey struct{ org, id string }

// endpoint is one endpoint; it is kept when its row is deleted, because its
// number is in use, and the same name gets it back.
type endpoint struct {
	key    endpointKey
	number queue.Endpoint
	org    *org

	row     *state.Endpoint // nil when it does not exist
	running int             // leases and grants that are not finishing
	unfused [protocol.Priorities + 1]int
	warm    idleHeap // idle agents with a free warm instance of the newest revision
}

// org is one organisation: what its jobs share and are limited by.
type org struct {
	number queue.Org

	row     *state.Org // nil: the defaults
	running int        // leases and grants that are not finishing, of all its endpoints
}

// agent is what the leader knows of one agent.
type agent struct {
	id    protocol.AgentID
	row   *state.Agent // nil until its registration is seen
	class *class

	// The newest statement.
	seq      uint64 // of a sync
	stated   uint64 // of any statement of capacity
	settled  uint64 // up to here no report's answer is waited for
	reported uint64 // newest report that takes assignments
	unheard  uint64 // a report that is waited for and did not arrive in this term: its answer may fill any slot
	free     int
	freeGPUs int
	draining bool
	warm     []protocol.WarmInstance
	seenAt   int64         // monotonic
	seenMs   protocol.Time // wall clock
	host     *protocol.HostSample

	waiter   *waiter // the parked sync
	leases   []*lease
	grants   []*grant
	ghosts   []ghost
	rejected []rejection
	told     []told
	open     int // slots that can be granted, as of the last reseat
	seats    []*seat
}

// rejection keeps an endpoint away from an agent that gave its job back.
type rejection struct {
	endpoint *endpoint
	until    int64
}

// lease is one row of the table that names an agent.
type lease struct {
	job      *state.Job
	agent    *agent
	endpoint *endpoint

	deadline  int64 // without a sign of its agent
	startedAt int64 // when the agent said that the handler started; never before
	at        int64 // when the heap looks at it, not after the deadline that counts
	pos       int   // in the heap
	since     int64 // when the lease was taken in
	sentSeq   uint64
	report    uint64 // number of the report whose answer has it; 0: a sync's has or will
	boarding  bool   // that answer is not given yet
	sent      bool   // in some reply
	acked     bool   // some statement listed it
	stated    bool   // the newest statement lists it, so its slot is not in Free
	finishing bool   // its Finish is proposed
	releasing bool   // its Release is proposed
	stop      protocol.StopReason
}

// grant is a lease that is proposed and not yet committed.
type grant struct {
	item        queue.Item
	endpoint    *endpoint
	agent       *agent
	incarnation protocol.Incarnation
	revision    uint64
	reason      string
	report      *receipt // whose answer carries the lease; nil: the sync's has it
}

func (t *term) endpoint(org, id string) *endpoint {
	key := endpointKey{org, id}
	e := t.endpoints[key]
	if e == nil {
		e = &endpoint{key: key, number: queue.Endpoint(len(t.byNumber)), org: t.org(org)}
		t.endpoints[key] = e
		t.byNumber = append(t.byNumber, e)
	}
	return e
}

func (t *term) org(name string) *org {
	o := t.orgs[name]
	if o == nil {
		o = &org{number: queue.Org(len(t.orgs))}
		t.orgs[name] = o
	}
	return o
}

// runs changes how many jobs of an endpoint, and so of its organisation, run.
func (e *endpoint) runs(by int) {
	e.running += by
	e.org.running += by
}

// applyOrg takes in the weight and the limits of an organisation.
func (t *term) applyOrg(row *state.Org) {
	o := t.org(row.ID)
	o.row = row
	t.queue.SetWeight(o.number, row.Weight)
}

func (t *term) agent(id protocol.AgentID) *agent {
	a := t.agents[id]
	if a == nil {
		a = &agent{id: id}
		t.agents[id] = a
		t.roster = append(t.roster, a)
	}
	return a
}

func (t *term) item(j *state.Job) queue.Item {
	e := t.endpoint(j.Org, j.Target)
	return queue.Item{
		Job: j.ID, Seq: j.Seq, NotBeforeMs: j.NotBeforeMs, ExpireMs: j.ExpiresAtMs(), Attempt: j.Attempt,
		Org: e.org.number, Endpoint: e.number, Priority: j.Priority, Held: j.Status == protocol.StatusPaused,
	}
}

// apply takes in one changed row. Rows arrive in order and may repeat.
func (t *term) apply(c *state.Change) {
	switch {
	case c.Job != nil:
		t.applyJob(c.Job)
	case c.Endpoint != nil:
		t.applyEndpoint(t.endpoint(c.Endpoint.Org, c.Endpoint.ID), c.Endpoint)
	case c.Removed != "":
		org, id, _ := strings.Cut(c.Removed, "/")
		t.applyEndpoint(t.endpoint(org, id), nil)
	case c.Agent != nil:
		t.applyAgent(c.Agent)
	case c.Org != nil:
		t.applyOrg(c.Org)
	default:
		t.applyGone(c.Evicted)
	}
}

func (t *term) applyJob(j *state.Job) {
	l := t.leases[j.ID]
	if j.Lease != nil {
		t.applyLease(l, j)
		return
	}
	if l != nil {
		t.endLease(l, j)
	}
	if !j.Waits() {
		t.queue.Remove(j.ID)
		return
	}
	if t.grants[j.ID] == nil && t.reserved[j.ID] == 0 {
		t.queue.Push(t.item(j))
	}
}

// applyGone takes in that a row left the table. A coordinator that was stopped
// applies much at once, and may see nothing of how the job ended.
func (t *term) applyGone(job protocol.JobID) {
	t.queue.Remove(job)
	if l := t.leases[job]; l != nil {
		t.endLease(l, &state.Job{})
	}
}

func (t *term) applyLease(l *lease, j *state.Job) {
	t.queue.Remove(j.ID)
	if l != nil && l.job.Attempt == j.Attempt && l.agent.id == j.Lease.Agent {
		t.moveLease(l, j)
		return
	}
	if l != nil {
		t.endLease(l, j)
	}
	l = t.addLease(j, t.now())
	g := t.grants[j.ID]
	t.board(l, g)
	// After the lease, so that the slot does not look open in between.
	if g != nil {
		t.dropGrant(g)
	}
}

func (t *term) addLease(j *state.Job, now int64) *lease {
	a := t.agent(j.Lease.Agent)
	e := t.endpoint(j.Org, j.Target)
	l := &lease{
		job: j, agent: a, endpoint: e, since: now, startedAt: never,
		deadline: now + protocol.LeaseTerm.Milliseconds(),
	}
	l.at = l.deadline
	// Leased while its agent registers: it continues the run that it has.
	l.sent = t.reserved[j.ID] > 0
	l.acked = l.sent
	t.leases[j.ID] = l
	a.leases = append(a.leases, l)
	e.runs(1)
	t.expiry.push(l)
	t.reseat(a)
	return l
}

// moveLease follows a row that keeps its attempt and agent: a registration
// moved it to a new incarnation, which held it.
func (t *term) moveLease(l *lease, j *state.Job) {
	if l.job.Lease.Incarnation != j.Lease.Incarnation {
		l.deadline = t.now() + protocol.LeaseTerm.Milliseconds()
		l.acked, l.sent, l.releasing = true, true, false
		t.setFinishing(l, false)
	}
	l.job = j
}

func (t *term) endLease(l *lease, after *state.Job) {
	delete(t.leases, l.job.ID)
	t.expiry.remove(l)
	l.haunt()
	a := l.agent
	if i := slices.Index(a.leases, l); i >= 0 {
		a.leases = slices.Delete(a.leases, i, i+1)
	}
	if !l.finishing {
		l.endpoint.runs(-1)
	}
	switch {
	case !l.stated || l.finishing || a.waiter == nil:
	case after.Adoptable && after.Attempt == l.job.Attempt:
		t.wake(a, reply{}) // its next sync leads to the adoption
	default:
		reason := protocol.StopStale
		if after.Status == protocol.StatusCancelled {
			reason = protocol.StopCancelled
		}
		a.waiter.stops = append(a.waiter.stops, protocol.StopAttempt{Job: l.job.ID, Attempt: l.job.Attempt, Reason: reason})
		t.touch(a)
	}
	t.reseat(a)
}

func (t *term) setFinishing(l *lease, finishing bool) {
	if l.finishing == finishing {
		return
	}
	l.finishing = finishing
	if finishing {
		l.endpoint.runs(-1)
	} else {
		l.endpoint.runs(1)
	}
	t.reseat(l.agent)
}

func (t *term) applyEndpoint(e *endpoint, row *state.Endpoint) {
	newRevision := row == nil || e.row == nil || row.Revision != e.row.Revision
	e.row = row
	if !newRevision {
		return
	}
	// Rare, so every waiting agent is asked whether it is still warm.
	for _, a := range t.roster {
		if a.waiter != nil {
			t.unseat(a)
			t.reseat(a)
		}
	}
}

func (t *term) applyAgent(row *state.Agent) {
	a := t.agent(row.ID)
	fresh := a.row == nil || a.row.Incarnation != row.Incarnation
	t.unseat(a)
	a.row = row
	a.class = t.classOf(row)
	if fresh {
		if a.waiter != nil {
			t.wake(a, reply{err: errStale()})
		}
		a.seq, a.stated, a.settled, a.reported, a.unheard, a.ghosts = 0, 0, 0, 0, 0, nil
		a.free, a.freeGPUs, a.draining, a.warm, a.told, a.rejected = 0, 0, false, nil, nil, nil
		for _, l := range a.leases {
			l.stated, l.report = false, 0
		}
	}
	t.reseat(a)
}
