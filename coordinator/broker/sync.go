package broker

import (
	"context"
	"slices"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// minHold keeps an agent that asks for no hold from turning in circles.
	minHold = time.Second
	// maxHold is above the longest hold that a reply tells.
	maxHold = protocol.SyncHold * 6 / 5
	// spreadRate is how many lost syncs a second come back (agent.md 4.3), and
	// minSpread keeps a small fleet from coming back in step.
	spreadRate = 200
	minSpread  = 100
	// retellTerm is how long a parked sync is not answered only to repeat a Stop
	// that was told, in milliseconds; reports repeat it meanwhile.
	retellTerm = 5_000
	// idSkew is how far the clock that made a job's id may be from the log's, in
	// milliseconds: both are within five seconds of the median (DESIGN 3.6).
	idSkew = 10_000
)

// waiter is one parked sync. Its caller keeps what is needed for the reply, so
// that ten thousand of them are small.
type waiter struct {
	agent *agent
	since int64
	stops []protocol.StopAttempt
	ch    chan *reply // holds one, so that answering never blocks
}

// reply is what a parked sync is answered with; its caller makes the document.
type reply struct {
	assign []*state.Job
	stops  []protocol.StopAttempt
	err    error
}

// told remembers that an agent was told to stop an attempt.
type told struct {
	held protocol.HeldAttempt
	at   int64
}

func errUnknown() error {
	return protocol.NewError(protocol.CodeUnknownAgent, "This agent is not registered: register first")
}

func errStale() error {
	return protocol.NewError(protocol.CodeStaleIncarnation, "A newer life of this agent has registered")
}

// known returns the agent if it is of that organisation and its incarnation is the
// registered one.
func (t *term) known(id protocol.AgentID, inc protocol.Incarnation, org string) (*agent, error) {
	a := t.agents[id]
	if a == nil || a.row == nil || a.row.Org != ownOrg(org) {
		return nil, errUnknown()
	}
	if a.row.Incarnation != inc {
		return nil, errStale()
	}
	return a, nil
}

// answering is a sync that was taken in: its answer, or what waits for it. It
// keeps nothing of the request but what the answer needs.
type answering struct {
	term   *term
	waiter *waiter // nil when reply is the answer
	reply  reply
	seq    uint64
	have   map[string]uint64
	hold   time.Duration
	start  int64 // monotonic
	fleet  int
}

// sync takes a statement in.
func (t *term) sync(req *protocol.SyncRequest) *answering {
	s := &answering{term: t, seq: req.Seq, have: req.Endpoints, hold: clampHold(req.HoldMs)}
	t.lock()
	s.start = t.now()
	s.waiter, s.reply = t.receive(req, s.start)
	s.fleet = len(t.agents)
	t.unlock()
	return s
}

// wait returns the answer once there is one.
func (s *answering) wait(ctx context.Context) (protocol.SyncResponse, error) {
	r := s.reply
	if s.waiter != nil {
		var err error
		if r, err = s.term.park(ctx, s.waiter, s.hold); err != nil {
			return protocol.SyncResponse{}, err
		}
	}
	return s.response(r)
}

func (s *answering) response(r reply) (protocol.SyncResponse, error) {
	if r.err != nil {
		return protocol.SyncResponse{}, r.err
	}
	resp := protocol.SyncResponse{
		Seq: s.seq, Stop: r.stops,
		HoldMs:   s.term.jitter(protocol.SyncHold).Milliseconds(),
		SpreadMs: max(int64(s.fleet)*1000/spreadRate, minSpread),
	}
	resp.Assign, resp.Endpoints = s.term.assignments(r.assign, s.have)
	resp.ParkedMs = s.term.now() - s.start
	return resp, nil
}

func clampHold(ms int64) time.Duration {
	if ms <= 0 {
		return protocol.SyncHold
	}
	return time.Duration(min(max(ms, minHold.Milliseconds()), maxHold.Milliseconds())) * time.Millisecond
}

// jitter spreads d by a fifth to each side.
func (t *term) jitter(d time.Duration) time.Duration {
	return d - d/5 + time.Duration(t.draw(int64(2*d/5)+1))
}

// receive takes a statement in. It returns a waiter when there is nothing to
// tell, else the reply.
func (t *term) receive(req *protocol.SyncRequest, now int64) (*waiter, reply) {
	a, err := t.known(req.Agent, req.Incarnation, req.Org)
	if err != nil {
		return nil, reply{err: err}
	}
	if req.Seq <= a.seq {
		return nil, reply{}
	}
	if t.adoptable(a, req.Held) {
		return nil, reply{err: errUnknown()}
	}
	if a.waiter != nil {
		t.wake(a, reply{}) // superseded
	}
	first := a.seq == 0
	a.seq = req.Seq
	a.warm = req.Warm
	t.state(a, req.Held, req.Capacity, now)
	again := t.hear(a, req, first)
	t.takeRejected(a, req.Rejected)
	if again {
		return nil, reply{}
	}
	assign := t.reconcile(a)
	stops, fresh := t.stops(a, req.Held, now)
	if len(assign) > 0 || fresh {
		t.match()
		return nil, reply{assign: assign, stops: stops}
	}
	a.waiter = &waiter{agent: a, since: now, stops: stops, ch: make(chan *reply, 1)}
	t.parked++
	t.reseat(a)
	t.match()
	return a.waiter, reply{}
}

// state renews the leases that a statement lists and replaces the capacity by
// what it says, unless a newer statement overtook it: both are of the same
// moment, so that their difference is right.
func (t *term) state(a *agent, held []protocol.HeldAttempt, c protocol.Capacity, now int64) {
	a.seenAt, a.seenMs = now, protocol.Time(t.cfg.NowMs())
	newest := a.newest(c)
	if newest {
		a.stated = c.Seq
		a.free, a.freeGPUs, a.draining = c.Free, c.FreeGPUs, c.Draining
		for _, l := range a.leases {
			l.stated = false
		}
	}
	for _, h := range held {
		if l := t.heldLease(a, h.Job, h.Attempt); l != nil {
			l.stated, l.acked = l.stated || newest, true
			l.deadline = now + protocol.LeaseTerm.Milliseconds()
		}
	}
	t.reseat(a)
}

// newest reports whether no statement that was made later was taken in before.
func (a *agent) newest(c protocol.Capacity) bool { return c.Seq == 0 || c.Seq > a.stated }

// heldLease returns the lease if the fence (job, attempt, agent, incarnation) is current.
func (t *term) heldLease(a *agent, job protocol.JobID, attempt uint32) *lease {
	l := t.leases[job]
	if l == nil || l.agent != a || l.job.Attempt != attempt || l.job.Lease.Incarnation != a.row.Incarnation {
		return nil
	}
	return l
}

func (t *term) takeRejected(a *agent, rejected []protocol.Reject) {
	for i := range rejected {
		r := &rejected[i]
		l := t.heldLease(a, r.Job, r.Attempt)
		if l == nil {
			continue
		}
		t.reject(a, l.endpoint)
		t.release(l, command.Release_REJECTED, r.Reason)
	}
}

// reconcile settles the leases that a newer sync does not list: what it never
// listed is sent again while it fits, what it listed before is lost, and of what
// a report's answer may still bring it says nothing.
func (t *term) reconcile(a *agent) []*state.Job {
	var assign []*state.Job
	free, gpus := a.free, a.freeGPUs
	for _, l := range a.leases {
		if !l.stated && l.onItsWay() {
			free--
			gpus -= l.endpoint.gpus()
		}
	}
	for _, l := range a.leases {
		switch {
		case l.stated || l.releasing || l.finishing || l.onItsWay():
		case l.acked:
			t.release(l, command.Release_LOST, "the agent does not have it any more")
		case a.draining || free <= 0 || l.endpoint.gpus() > gpus:
			t.release(l, command.Release_UNACKED, "the agent cannot take it any more")
		default:
			free--
			gpus -= l.endpoint.gpus()
			l.send(a.seq)
			assign = append(assign, l.job)
		}
	}
	return assign
}

func (l *lease) send(seq uint64) { l.sentSeq, l.sent = seq, true }

// stops lists the held attempts that must end. fresh says that some were not
// told lately.
func (t *term) stops(a *agent, held []protocol.HeldAttempt, now int64) (stops []protocol.StopAttempt, fresh bool) {
	var kept []told
	for _, h := range held {
		reason := t.stopFor(a, h)
		if reason == "" {
			continue
		}
		stops = append(stops, protocol.StopAttempt{Job: h.Job, Attempt: h.Attempt, Reason: reason})
		i := slices.IndexFunc(a.told, func(o told) bool { return o.held == h && now-o.at < retellTerm })
		if i < 0 {
			fresh = true
			kept = append(kept, told{held: h, at: now})
		} else {
			kept = append(kept, a.told[i])
		}
	}
	a.told = kept
	return stops, fresh
}

// stopFor says why a held attempt must end, or "".
func (t *term) stopFor(a *agent, h protocol.HeldAttempt) protocol.StopReason {
	if l := t.heldLease(a, h.Job, h.Attempt); l != nil {
		return l.stop
	}
	row := t.served(a.row, h.Job)
	switch {
	case t.newer(row, h):
		return ""
	case row == nil:
		return protocol.StopStale
	case finishedBy(row, a.id, h.Attempt):
		return "" // its own result committed, the answer is on its way
	case row.Status == protocol.StatusCancelled && row.Attempt == h.Attempt:
		return protocol.StopCancelled
	case row.Adoptable && row.Attempt == h.Attempt:
		return "" // nobody else has it: its next sync leads to an adoption
	case t.grants[h.Job] == nil && row.Lease != nil && row.Lease.Agent == a.id && row.Attempt == h.Attempt && row.Lease.Incarnation == a.row.Incarnation:
		return "" // committed after the feed was drained
	}
	return protocol.StopStale
}

// newer reports whether an attempt was given out after everything that is applied
// here: by the leader that follows this one, which was stopped perhaps and does
// not know it yet. Nothing may be said about it, because the agent would drop
// what is its own.
func (t *term) newer(row *state.Job, h protocol.HeldAttempt) bool {
	if row != nil {
		return h.Attempt > row.Attempt
	}
	return int64(h.Job.CreatedAt()) > t.cfg.Store.View().ClockMs()-idSkew
}

// finishedBy reports whether the agent's own Finish ended the attempt.
func finishedBy(row *state.Job, agent protocol.AgentID, attempt uint32) bool {
	o := row.Outcome
	return o != nil && o.Reported && o.Attempt == attempt && o.Agent == agent && row.Attempt == attempt
}

// adoptable reports whether the agent still has a run that was given back and
// that nobody else was given. A sync cannot carry a new attempt, a registration
// can: so the agent is asked to register again.
func (t *term) adoptable(a *agent, held []protocol.HeldAttempt) bool {
	for _, h := range held {
		if t.heldLease(a, h.Job, h.Attempt) != nil || t.grants[h.Job] != nil {
			continue
		}
		if row := t.served(a.row, h.Job); row != nil && row.Adoptable && row.Attempt == h.Attempt {
			return true
		}
	}
	return false
}

// park waits for an answer. A caller that leaves takes nothing with it: what
// was assigned is sent again to the agent's next sync.
func (t *term) park(ctx context.Context, w *waiter, hold time.Duration) (reply, error) {
	timer := time.NewTimer(hold)
	defer timer.Stop()
	select {
	case r := <-w.ch:
		return *r, nil
	case <-t.ended:
		return reply{err: errNoLeader()}, nil
	case <-timer.C:
	case <-ctx.Done():
	}
	t.leave(w)
	select {
	case r := <-w.ch:
		if ctx.Err() == nil {
			return *r, nil
		}
	default:
	}
	if ctx.Err() != nil {
		return reply{}, context.Cause(ctx)
	}
	return reply{stops: w.stops}, nil
}

func (t *term) leave(w *waiter) {
	t.lock()
	if w.agent.waiter == w {
		t.unpark(w.agent)
	}
	t.unlock()
}

func (t *term) unpark(a *agent) {
	a.waiter = nil
	t.parked--
	t.reseat(a)
}

// wake answers a parked sync.
func (t *term) wake(a *agent, r reply) {
	w := a.waiter
	t.unpark(a)
	t.woken = true
	w.ch <- &r
}

// touch notes that there may be something to tell an agent.
func (t *term) touch(a *agent) {
	if a.waiter != nil && !slices.Contains(t.touched, a) {
		t.touched = append(t.touched, a)
	}
}

// answerTouched collects what one batch changed for an agent into one reply.
func (t *term) answerTouched() {
	touched := t.touched
	t.touched = t.touched[:0]
	for i, a := range touched {
		touched[i] = nil
		if a.waiter == nil {
			continue
		}
		r := reply{stops: a.waiter.stops}
		for _, l := range a.leases {
			if !l.acked && !l.releasing && !l.finishing && l.report == 0 && l.sentSeq != a.seq {
				l.send(a.seq)
				r.assign = append(r.assign, l.job)
			}
			if l.stop != "" && l.stated {
				r.stops = append(r.stops, protocol.StopAttempt{Job: l.job.ID, Attempt: l.job.Attempt, Reason: l.stop})
			}
		}
		if len(r.assign) == 0 && len(r.stops) == 0 {
			continue
		}
		now := t.now()
		for _, s := range r.stops {
			a.told = append(a.told, told{held: protocol.HeldAttempt{Job: s.Job, Attempt: s.Attempt}, at: now})
		}
		t.wake(a, r)
	}
}

// assignments is what is handed out, with the documents that the agent lacks.
func (t *term) assignments(jobs []*state.Job, have map[string]uint64) (list []protocol.Assignment, docs []protocol.Endpoint) {
	if len(jobs) > 0 {
		list = make([]protocol.Assignment, 0, len(jobs))
	}
	for _, j := range jobs {
		a := protocol.Assignment{
			Job: j.ID, Attempt: j.Attempt, Endpoint: j.Target, Revision: j.Lease.Revision, Org: j.Org,
			Priority: j.Priority, Input: j.Input.Inline, ExecutionMs: j.ExecutionMs,
		}
		if ref := j.Input.Ref; ref != nil {
			a.InputBlob, a.InputSize = hexOf(ref.SHA256), ref.Size
		}
		if x := j.Extra; x != nil {
			a.S3Config, a.Checkpoint = x.S3Config, x.Checkpoint.Inline
			if ref := x.Checkpoint.Ref; ref != nil {
				a.CheckpointBlob, a.CheckpointSize = hexOf(ref.SHA256), ref.Size
			}
		}
		list = append(list, a)
		if have[protocol.EndpointName(j.Org, j.Target)] == j.Lease.Revision {
			continue
		}
		sent := slices.ContainsFunc(docs, func(e protocol.Endpoint) bool {
			return e.ID == j.Target && e.Org == j.Org && e.Revision == j.Lease.Revision
		})
		if sent {
			continue
		}
		if doc := revision(t.cfg.Store.Endpoint(j.Org, j.Target), j.Lease.Revision); doc != nil {
			docs = append(docs, *doc)
		}
	}
	return list, docs
}

func revision(e *state.Endpoint, number uint64) *protocol.Endpoint {
	if e == nil {
		return nil
	}
	if e.Revision == number {
		return e.Doc
	}
	for _, doc := range e.Older {
		if doc.Revision == number {
			return doc
		}
	}
	return nil
}
