package main

import (
	"maps"
	"slices"

	"windlass/coordinator/broker"
	"windlass/protocol"
)

// The waits of the agent's own code (agent/session.go, agent/reporter.go).
const (
	rejectHold = 1
	minHold    = second // the broker's
	coalesce   = 200
	backOffMax = 5 * second
	maxResults = 64
)

// agent follows the agents' protocol: one parked sync, one report at a time,
// results that outlive it in a journal, runs that outlive it in their shims.
type agent struct {
	world *world
	no    int
	id    protocol.AgentID
	slots int
	gpus  int

	life   int   // of the process
	host   int   // life of the host
	down   bool  // the process is gone
	cut    int64 // reaches nobody until then
	paused int64 // does nothing until then
	calm   int64 // the last moment at which it was broken

	inc        protocol.Incarnation
	registered bool
	epoch      int // of the registration: loops of an older one end
	seq, said  uint64
	hold       int64
	spread     int64
	target     int
	failures   int
	quick      int
	draining   bool
	parked     *call
	parkedAt   int64
	fullAt     int64 // the last moment at which it had no free slot
	reporting  bool
	reportNo   uint64 // of the report that is not answered, if it takes assignments
	takes      bool   // assignments in answers to reports; agents of older versions do not
	again      bool   // something is to be reported
	reportAt   int64
	docs       map[string]uint64
	rejects    []protocol.Reject
	runs       []*attempt
}

func callLimit() int64 { return protocol.CallLimit.Milliseconds() }

type phase uint8

const (
	loading phase = iota
	running
	finished
)

// attempt is one run of a job, from its assignment to the answer to its result.
type attempt struct {
	key       protocol.HeldAttempt
	run       *handlerRun
	phase     phase
	execution int64
	started   int64
	ended     int64
	finish    protocol.Finish
	drop      bool // no result is wanted
	gone      bool
	told      bool
}

func newAgent(w *world, no int) *agent {
	a := &agent{world: w, no: no, slots: 1 + w.draws.agent.IntN(w.plan.Slots), gpus: w.draws.agent.IntN(2)}
	a.id = protocol.AgentID(w.id(epochMs - 1000 + int64(no)))
	a.target = w.draws.agent.IntN(w.plan.Replicas)
	a.takes = w.draws.agent.IntN(4) > 0
	return a
}

// boot starts a life of the process.
func (a *agent) boot() {
	a.life++
	a.down, a.registered, a.draining = false, false, false
	a.parked, a.reporting, a.reportNo, a.again, a.rejects = nil, false, 0, false, nil
	a.docs = make(map[string]uint64)
	a.hold, a.spread = 0, 0
	for _, t := range slices.Clone(a.runs) {
		if t.phase == finished && t.drop {
			a.forget(t)
		}
	}
	a.renewIncarnation()
	a.register()
}

// crash ends the process. What its shims run goes on, unless the host ends too;
// what was loading is forgotten.
func (a *agent) crash(host bool) {
	a.world.say("agent %d ends, its host too: %t", a.no, host)
	a.down = true
	a.life++
	a.registered, a.parked = false, nil
	if host {
		a.host++
	}
	for _, t := range slices.Clone(a.runs) {
		if t.phase == loading || host && t.phase == running {
			a.forget(t)
		}
	}
}

// then does something later in this life of the process, when it is not stopped.
func (a *agent) then(ms int64, do func()) {
	w, life := a.world, a.life
	var try func()
	try = func() {
		switch {
		case a.life != life || a.down:
		case a.paused > w.now:
			w.at(a.paused, try)
		default:
			do()
		}
	}
	w.in(ms, try)
}

func (a *agent) forget(t *attempt) {
	a.leaves()
	t.gone = true
	if i := slices.Index(a.runs, t); i >= 0 {
		a.runs = slices.Delete(a.runs, i, i+1)
	}
}

func (a *agent) renewIncarnation() { a.inc = protocol.Incarnation(a.world.id(a.world.wall(0))) }

func (a *agent) held(except []protocol.Finish) []protocol.HeldAttempt {
	var out []protocol.HeldAttempt
	for _, t := range a.runs {
		if !slices.ContainsFunc(except, func(f protocol.Finish) bool { return f.Job == t.key.Job && f.Attempt == t.key.Attempt }) {
			out = append(out, t.key)
		}
	}
	return out
}

// free is how many slots nothing occupies.
func (a *agent) free() int {
	n := a.slots
	for _, t := range a.runs {
		if t.phase != finished {
			n--
		}
	}
	return n
}

// leaves notes that an attempt is about to give its slot back.
func (a *agent) leaves() {
	if a.free() <= 0 {
		a.fullAt = a.world.now
	}
}

func (a *agent) capacity() protocol.Capacity {
	a.said++
	free := max(a.free(), 0)
	if a.draining {
		free = 0
	}
	return protocol.Capacity{Seq: a.said, Free: free, FreeGPUs: a.gpus * free, Draining: a.draining}
}

func (a *agent) node() *node { return a.world.nodes[a.target] }

// elsewhere tries another coordinator, often the one that leads.
func (a *agent) elsewhere() {
	w := a.world
	if w.leader != nil && w.draws.agent.IntN(2) == 0 {
		a.target = w.leader.no
		return
	}
	a.target = (a.target + 1) % len(w.nodes)
}

func (a *agent) backOff() int64 {
	a.failures++
	return 1 + a.world.draws.agent.Int64N(min(200<<min(a.failures, 6), backOffMax))
}

func refused(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeUnknownAgent || code == protocol.CodeStaleIncarnation
}

func (a *agent) register() {
	held := a.held(nil)
	facts := protocol.AgentFacts{Kinds: []string{"command"}, Slots: a.slots}
	for range a.gpus * a.slots {
		facts.GPUs = append(facts.GPUs, protocol.GPUFact{Name: "gpu", Memory: 1 << 30})
	}
	req := protocol.RegisterRequest{Agent: a.id, Name: "agent", Incarnation: a.inc, Held: held, Facts: facts}
	do := func(d *broker.Driver) (func() (any, bool, error), func()) {
		ask := d.Register(req)
		return answerOr(ask), nil
	}
	c := a.world.net.send(a, a.node(), callLimit(), do, func(v any, err error) {
		if err == nil {
			a.failures = 0
			a.open(held, v.(protocol.RegisterResponse))
			return
		}
		if protocol.CodeOf(err) == protocol.CodeStaleIncarnation {
			a.renewIncarnation()
		} else {
			a.elsewhere()
		}
		a.then(a.backOff(), a.register)
	})
	c.holds = held
}

// open applies the answer to a registration.
func (a *agent) open(held []protocol.HeldAttempt, resp protocol.RegisterResponse) {
	a.world.say("agent %d is registered: current %s, adopted %v", a.no, attempts(resp.Current), len(resp.Adopted))
	ours := slices.Clone(resp.Current)
	for _, ad := range resp.Adopted {
		from := protocol.HeldAttempt{Job: ad.Job, Attempt: ad.From}
		ours = append(ours, from)
		if t := a.get(from); t != nil {
			t.key.Attempt = ad.To
			a.world.check.adopted(a, t)
		}
	}
	for _, k := range held {
		if t := a.get(k); t != nil && !slices.Contains(ours, k) {
			a.stop(t, protocol.StopStale)
		}
	}
	for _, t := range a.runs {
		t.told = false
	}
	a.registered = true
	a.epoch++
	a.seq, a.said = 0, 0
	a.hold = resp.HoldMs
	a.sync()
	a.dirty(1)
	a.beat(a.epoch)
}

func (a *agent) get(k protocol.HeldAttempt) *attempt {
	for _, t := range a.runs {
		if t.key == k {
			return t
		}
	}
	return nil
}

// lost makes the agent register anew.
func (a *agent) lost(epoch int) {
	if a.epoch != epoch || !a.registered {
		return
	}
	a.world.say("agent %d is not known any more", a.no)
	a.registered = false
	if a.parked != nil {
		a.world.net.hangUp(a.parked)
		a.parked = nil
	}
	a.renewIncarnation()
	a.then(0, a.register)
}

// sync parks one statement.
func (a *agent) sync() {
	w, epoch := a.world, a.epoch
	if a.hold <= 0 {
		a.hold = protocol.SyncHold.Milliseconds()
	}
	a.seq++
	req := protocol.SyncRequest{
		Agent: a.id, Incarnation: a.inc, Seq: a.seq, Held: a.held(nil), Capacity: a.capacity(),
		Rejected: slices.Clone(a.rejects), HoldMs: a.hold, Endpoints: maps.Clone(a.docs), Reporting: a.reportNo,
	}
	if len(req.Rejected) > 0 {
		req.HoldMs = rejectHold
	}
	sent := w.now
	node := a.node()
	do := func(d *broker.Driver) (func() (any, bool, error), func()) {
		w.check.stated(a, req.Incarnation, req.Held)
		ask, gone := d.Sync(req)
		w.in(max(req.HoldMs, minHold), node.holdOver)
		return answerOr(ask), gone
	}
	a.parkedAt = w.now
	a.parked = w.net.send(a, node, a.hold+protocol.SyncGrace.Milliseconds(), do, func(v any, err error) {
		a.parked = nil
		if err != nil {
			a.syncFailed(epoch, err)
			return
		}
		a.failures = 0
		resp := v.(protocol.SyncResponse)
		a.obey(&req, &resp, w.now-sent)
		a.hold, a.spread = resp.HoldMs, resp.SpreadMs
		wait := int64(0)
		if w.now-sent < 100 && len(req.Rejected)+len(resp.Assign)+len(resp.Stop) == 0 {
			if a.quick++; a.quick >= 3 {
				wait = 200
			}
		} else {
			a.quick = 0
		}
		a.resync(epoch, wait)
	})
}

// resync parks the next sync of one registration.
func (a *agent) resync(epoch int, wait int64) {
	a.then(wait, func() {
		if a.registered && a.epoch == epoch && a.parked == nil {
			a.sync()
		}
	})
}

// renew replaces the parked sync by one that says what is true now.
func (a *agent) renew() {
	if a.parked != nil {
		a.world.net.hangUp(a.parked)
		a.parked = nil
		a.sync()
	}
}

func (a *agent) syncFailed(epoch int, err error) {
	if refused(err) {
		a.lost(epoch)
		return
	}
	a.world.say("agent %d loses its sync at replica %d: %v", a.no, a.target, err)
	a.elsewhere()
	wait := a.backOff()
	if a.failures == 1 {
		wait = a.world.draws.agent.Int64N(a.spread + 1)
	}
	a.resync(epoch, wait)
}

// obey applies the answer to a sync.
func (a *agent) obey(req *protocol.SyncRequest, resp *protocol.SyncResponse, took int64) {
	a.rejects = a.rejects[min(len(req.Rejected), len(a.rejects)):]
	a.learn(resp.Endpoints)
	a.stopAll(resp.Stop)
	if resp.Seq != req.Seq || req.Seq != a.seq || took-resp.ParkedMs > protocol.AckDeadline.Milliseconds() {
		return
	}
	for i := range resp.Assign {
		a.take(&resp.Assign[i])
	}
}

func (a *agent) learn(docs []protocol.Endpoint) {
	for i := range docs {
		a.docs[docs[i].ID] = docs[i].Revision
	}
}

// obeyReport takes what the answer to a report assigns.
func (a *agent) obeyReport(resp *protocol.ReportResponse, took int64) {
	if len(resp.Assign) == 0 || !a.registered {
		return
	}
	a.world.count.Carried += len(resp.Assign)
	a.learn(resp.Endpoints)
	if took > protocol.AckDeadline.Milliseconds() {
		return
	}
	for i := range resp.Assign {
		a.take(&resp.Assign[i])
	}
}

// take begins one assignment, or gives it back.
func (a *agent) take(as *protocol.Assignment) {
	w := a.world
	k := protocol.HeldAttempt{Job: as.Job, Attempt: as.Attempt}
	if a.get(k) != nil {
		return
	}
	w.say("agent %d is assigned %s", a.no, attempts([]protocol.HeldAttempt{k}))
	w.check.assigned(a, as)
	if a.draining || a.docs[as.Endpoint] != as.Revision || w.draws.agent.IntN(100) == 0 {
		a.rejects = append(a.rejects, protocol.Reject{Job: as.Job, Attempt: as.Attempt, Reason: "cannot run it"})
		return
	}
	t := &attempt{key: k, execution: as.ExecutionMs}
	a.runs = append(a.runs, t)
	host := a.host
	a.then(w.draws.agent.Int64N(300), func() {
		if !t.gone && t.phase == loading && a.host == host {
			a.start(t)
		}
	})
	a.dirty(coalesce)
}

func (a *agent) stopAll(stops []protocol.StopAttempt) {
	for _, s := range stops {
		if t := a.get(protocol.HeldAttempt{Job: s.Job, Attempt: s.Attempt}); t != nil {
			a.world.say("agent %d is told to stop %s: %s", a.no, attempts([]protocol.HeldAttempt{t.key}), s.Reason)
			a.stop(t, s.Reason)
		}
	}
}
