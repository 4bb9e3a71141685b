package agent

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"

	"windlass/agent/host"
	"windlass/protocol"
	"windlass/protocol/retry"
)

// Rules of the parked poll.
const (
	// quickReply and quickFloor keep replies that come at once, from a proxy for
	// example, from becoming a busy loop (agent.md 4.2).
	quickReply  = 100 * time.Millisecond
	quickFloor  = 200 * time.Millisecond
	quickInARow = 3
	// rejectHold asks for an answer at once, in milliseconds.
	rejectHold = 1
	// refusedPause is between tries when the coordinator refuses this agent: an
	// operator has to act.
	refusedPause = 60 * time.Second
)

// errRenew ends a parked sync because its statement is out of date.
var errRenew = errors.New("the parked sync is renewed")

// session registers the agent and keeps one sync parked.
type session struct {
	agent *Agent

	mu          sync.Mutex
	incarnation protocol.Incarnation
	registered  chan struct{} // closed while the incarnation is current
	lost        chan struct{} // closed when it must register anew
	parked      context.CancelCauseFunc
	stale       bool // the statement changed before the next sync was parked
	terms       protocol.RegisterResponse
}

func newSession(a *Agent) *session {
	return &session{agent: a, registered: make(chan struct{}), lost: make(chan struct{})}
}

// loop is the session until ctx ends.
func (s *session) loop(ctx context.Context) {
	for ctx.Err() == nil {
		if s.register(ctx) {
			s.park(ctx)
		}
	}
}

// renew replaces the parked sync by one that says what is true now.
func (s *session) renew() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.parked != nil {
		s.parked(errRenew)
	} else {
		s.stale = true
	}
}

// expire makes the agent register anew, because incarnation was refused.
func (s *session) expire(incarnation protocol.Incarnation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.incarnation != incarnation {
		return
	}
	select {
	case <-s.lost:
	default:
		close(s.lost)
		s.registered = make(chan struct{})
	}
	if s.parked != nil {
		s.parked(errRenew)
	}
}

// current waits for a registered incarnation; false when ctx ended.
func (s *session) current(ctx context.Context) (protocol.Incarnation, bool) {
	for {
		s.mu.Lock()
		wait, inc := s.registered, s.incarnation
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return inc, false
		case <-wait:
			s.mu.Lock()
			same := s.incarnation == inc && wait == s.registered
			s.mu.Unlock()
			if same {
				return inc, true
			}
		}
	}
}

func (s *session) online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.onlineLocked()
}

func (s *session) onlineLocked() bool {
	select {
	case <-s.registered:
		return true
	default:
		return false
	}
}

// within runs fn while the incarnation is the registered one, which does not end
// before fn returns; false when it has ended. fn must not wait for the session.
func (s *session) within(incarnation protocol.Incarnation, fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.incarnation != incarnation || !s.onlineLocked() {
		return false
	}
	fn()
	return true
}

// refused reports whether an answer means that this incarnation is over.
func refused(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeUnknownAgent || code == protocol.CodeStaleIncarnation
}

// register opens an incarnation with everything that is held.
func (s *session) register(ctx context.Context) bool {
	a := s.agent
	inc := protocol.NewIncarnation(time.Now())
	b := backoff{}
	for ctx.Err() == nil {
		req := protocol.RegisterRequest{
			Agent: a.id, Name: a.cfg.Name, Incarnation: inc, Held: a.table.held(nil), Facts: a.facts(),
			Protocol: [2]int{protocol.MinProtocolMin, protocol.ProtocolMinor},
		}
		callCtx, cancel := context.WithTimeout(ctx, protocol.CallLimit)
		resp, err := a.deps.Coordinator.Register(callCtx, req)
		cancel()
		if err == nil {
			s.open(inc, req.Held, resp)
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		a.log.Warn().Err(err).Msg("cannot register with a coordinator; will try again")
		switch protocol.CodeOf(err) {
		case protocol.CodeUnauthorized, protocol.CodeAccessDenied, protocol.CodeUpgradeRequired:
			pause(ctx, refusedPause)
		case protocol.CodeStaleIncarnation:
			inc = protocol.NewIncarnation(time.Now())
			b.wait(ctx)
		default:
			b.wait(ctx)
		}
	}
	return false
}

// open applies the answer to a registration: what is not current stops, what
// was adopted goes on under its new number.
func (s *session) open(inc protocol.Incarnation, held []protocol.HeldAttempt, resp protocol.RegisterResponse) {
	a := s.agent
	ours := make(map[protocol.HeldAttempt]bool)
	for _, k := range resp.Current {
		ours[k] = true
	}
	for _, ad := range resp.Adopted {
		from := protocol.HeldAttempt{Job: ad.Job, Attempt: ad.From}
		ours[from] = true
		a.renumber(from, ad.To)
	}
	for _, k := range held {
		if at := a.table.get(k); at != nil && !ours[k] {
			a.log.Warn().Stringer("job", k.Job).Uint32("attempt", k.Attempt).Msg("an attempt is not ours any more")
			at.stop(protocol.StopStale)
		}
	}
	for _, at := range a.table.list() {
		at.rewind()
	}
	s.mu.Lock()
	s.incarnation, s.terms = inc, resp
	s.lost = make(chan struct{})
	close(s.registered)
	s.mu.Unlock()
	a.reporter.setBeat(resp.BeatMs)
	a.log.Info().Stringer("incarnation", inc).Int("held", len(held)).Int("current", len(resp.Current)).Msg("registered")
}

// park keeps one sync at the coordinator until the incarnation is over.
func (s *session) park(ctx context.Context) {
	s.mu.Lock()
	inc, lost, hold := s.incarnation, s.lost, s.terms.HoldMs
	s.mu.Unlock()
	p := parker{session: s, incarnation: inc, hold: hold}
	for ctx.Err() == nil {
		select {
		case <-lost:
			return
		default:
		}
		if !p.once(ctx) {
			return
		}
	}
}

// parker is the state of one incarnation's polls.
type parker struct {
	session     *session
	incarnation protocol.Incarnation
	seq         uint64
	hold        int64 // ms, told by the coordinator
	spread      int64 // ms
	failures    int
	backoff     backoff
	quick       int
}

// once parks one sync and obeys its answer; false when the incarnation is over.
func (p *parker) once(ctx context.Context) bool {
	s, a := p.session, p.session.agent
	p.seq++
	if p.hold <= 0 {
		p.hold = protocol.SyncHold.Milliseconds()
	}
	parkCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	callCtx, stop := context.WithTimeout(parkCtx, time.Duration(p.hold)*time.Millisecond+protocol.SyncGrace)
	defer stop()
	s.mu.Lock()
	s.parked, s.stale = cancel, false
	s.mu.Unlock()
	// Built after renew can reach this sync, so that no change falls between.
	req := p.request()
	sent := time.Now()
	resp, err := a.deps.Coordinator.Sync(callCtx, req)
	took := time.Since(sent)
	s.mu.Lock()
	s.parked = nil
	s.mu.Unlock()
	if err != nil {
		if errors.Is(context.Cause(parkCtx), errRenew) {
			return true
		}
		return p.failed(ctx, err)
	}
	if p.failures > 0 {
		a.retell()
	}
	p.failures = 0
	p.backoff.reset()
	a.obey(req, resp, took)
	p.hold, p.spread = resp.HoldMs, resp.SpreadMs
	p.pace(ctx, req, resp, took)
	return true
}

func (p *parker) request() protocol.SyncRequest {
	a := p.session.agent
	req := protocol.SyncRequest{
		Agent: a.id, Incarnation: p.incarnation, Seq: p.seq,
		Warm: a.pool.Warm(), Rejected: a.table.pendingRejects(), Endpoints: a.table.revisions(), HoldMs: p.hold,
	}
	a.syncStatement(&req)
	if len(req.Rejected) > 0 {
		req.HoldMs = rejectHold // only an answer shows that they arrived
	}
	return req
}

// failed waits before the next try; the first one after a lost poll spreads
// over the time that the coordinator told, so that a fleet does not return at once.
func (p *parker) failed(ctx context.Context, err error) bool {
	a := p.session.agent
	if refused(err) {
		a.log.Warn().Err(err).Msg("the coordinator does not know this incarnation")
		p.session.expire(p.incarnation)
		return false
	}
	if ctx.Err() != nil {
		return false
	}
	p.failures++
	if p.failures == 1 {
		a.log.Warn().Err(err).Msg("a parked sync was lost")
		return pause(ctx, retry.Jitter(time.Duration(p.spread)*time.Millisecond))
	}
	return p.backoff.wait(ctx)
}

// retell repeats what a coordinator keeps in memory, because the next one to
// answer may have none of it.
func (a *Agent) retell() {
	held := a.table.list()
	for _, at := range held {
		at.retell()
	}
	if len(held) > 0 {
		a.reporter.dirty(false)
	}
}

func (p *parker) pace(ctx context.Context, req protocol.SyncRequest, resp protocol.SyncResponse, took time.Duration) {
	if took >= quickReply || len(req.Rejected) > 0 || len(resp.Assign)+len(resp.Stop)+len(resp.Endpoints) > 0 {
		p.quick = 0
		return
	}
	if p.quick++; p.quick >= quickInARow {
		pause(ctx, quickFloor)
	}
}

// obey applies the answer to a sync.
func (a *Agent) obey(req protocol.SyncRequest, resp protocol.SyncResponse, took time.Duration) {
	a.table.rejected(len(req.Rejected))
	a.table.learn(resp.Endpoints)
	a.stopAll(resp.Stop)
	if resp.Drain && !a.table.isDraining() {
		a.log.Info().Msg("told to drain")
		a.table.drain()
	}
	if len(resp.Assign) == 0 {
		return
	}
	// An assignment that travelled too long may be somebody else's by now, and
	// one that answers an older statement was taken back by the newer one.
	late := took - time.Duration(resp.ParkedMs)*time.Millisecond
	if resp.Seq != req.Seq || late > a.ackDeadline() {
		a.log.Warn().Uint64("seq", resp.Seq).Dur("late", late).Int("assignments", len(resp.Assign)).Msg("assignments came too late and are discarded")
		return
	}
	for _, as := range resp.Assign {
		a.take(as)
	}
}

// obeyReport takes what the answer to a report assigns. An incarnation that is over
// takes nothing: the registration that ended it gave back what it did not hold.
// renew says that only a new sync shows what became of them.
func (a *Agent) obeyReport(inc protocol.Incarnation, resp *protocol.ReportResponse, took time.Duration) (renew bool) {
	if len(resp.Assign) == 0 {
		return false
	}
	a.table.learn(resp.Endpoints)
	if took > a.ackDeadline() {
		a.log.Warn().Dur("late", took).Int("assignments", len(resp.Assign)).Msg("assignments came too late with the answer to a report and are discarded")
		return true
	}
	taken := a.session.within(inc, func() {
		for _, as := range resp.Assign {
			a.take(as)
		}
	})
	if !taken {
		a.log.Warn().Int("assignments", len(resp.Assign)).Msg("assignments are for an earlier life of this agent and are discarded")
	}
	return len(a.table.pendingRejects()) > 0
}

func (a *Agent) ackDeadline() time.Duration {
	a.session.mu.Lock()
	defer a.session.mu.Unlock()
	if ms := a.session.terms.AckMs; ms > 0 {
		return time.Duration(ms) * time.Millisecond
	}
	return protocol.AckDeadline
}

// take begins one assignment, or gives it back with the reason.
func (a *Agent) take(as protocol.Assignment) {
	id := protocol.HeldAttempt{Job: as.Job, Attempt: as.Attempt}
	if a.table.get(id) != nil {
		return // sent again because its acknowledgement crossed it
	}
	doc, why := a.admit(as)
	if why != "" {
		a.log.Warn().Stringer("job", as.Job).Str("endpoint", as.Endpoint).Str("reason", why).Msg("assignment refused")
		a.table.reject(protocol.Reject{Job: as.Job, Attempt: as.Attempt, Reason: why})
		return
	}
	at := a.newAttempt(id)
	at.assign, at.gpus = as, doc.Resources.GPUs
	if a.table.add(at) {
		a.work.Go(func() { at.live(doc) })
		a.reporter.dirty(false)
	}
}

func (a *Agent) stopAll(stops []protocol.StopAttempt) {
	for _, st := range stops {
		if at := a.table.get(protocol.HeldAttempt{Job: st.Job, Attempt: st.Attempt}); at != nil {
			at.stop(st.Reason)
		}
	}
}

// renumber continues an attempt under a new number.
func (a *Agent) renumber(from protocol.HeldAttempt, to uint32) {
	at := a.table.renumber(from, to)
	if at == nil {
		return
	}
	at.mu.Lock()
	run, ended := at.run, at.phase >= finished
	at.mu.Unlock()
	if run != nil && !ended {
		run.Renumber(to)
	}
	if ended {
		at.moveEntry()
	}
}

func (a *Agent) facts() protocol.AgentFacts {
	kinds, commands := a.cfg.kinds()
	boot, _ := host.BootID() // absent when it cannot be read
	return protocol.AgentFacts{
		Orgs:    a.cfg.Orgs,
		Version: a.deps.Version, OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(),
		Memory: host.Memory(host.Root), Pool: a.cfg.Pool, Labels: a.cfg.Labels, Slots: a.cfg.Slots,
		Kinds: kinds, Commands: commands, GPUs: a.gpuFacts(), BootID: boot,
	}
}
