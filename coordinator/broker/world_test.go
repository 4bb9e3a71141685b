package broker

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// world is one coordinator without raft: the real state machine behind a log
// that applies when the test lets it.
type world struct {
	t      testing.TB
	store  *state.Store
	fsm    *fsm.FSM
	log    *testLog
	board  *testBoard
	broker *Broker
	stop   func()
}

// run plays a scene in virtual time and ends its broker.
func run(t *testing.T, scene func(w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.lead()
		scene(w)
		w.stop()
		w.log.close()
	})
}

func newWorld(t testing.TB) *world {
	w := &world{t: t, store: state.New(), board: &testBoard{}}
	w.fsm = fsm.New(w.store)
	w.log = &testLog{t: t, fsm: w.fsm, wake: make(chan struct{}, 1), over: make(chan struct{})}
	w.log.ended.Go(w.log.run)
	return w
}

func nowMs() int64 { return time.Now().UnixMilli() }

// lead starts a broker, as a new leader does.
func (w *world) lead() {
	w.leadWith(Config{Store: w.store, Proposer: w.log, NowMs: nowMs, Board: w.board, Log: zerolog.Nop()})
}

func (w *world) leadWith(cfg Config) {
	w.broker = New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := w.broker.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	<-w.broker.Ready()
	w.stop = func() { cancel(); wg.Wait() }
}

type entry struct {
	group []*command.Command
	done  func([]command.Result, error)
}

// testLog is a proposer: what waits becomes one batch.
type testLog struct {
	t     testing.TB
	fsm   *fsm.FSM
	wake  chan struct{}
	over  chan struct{}
	ended sync.WaitGroup

	mu      sync.Mutex
	held    bool
	failing int // batches that are answered with an error
	waiting []entry
	index   uint64
	batches [][]*command.Command
}

func (l *testLog) Enqueue(group []*command.Command, done func([]command.Result, error)) {
	for _, c := range group {
		if err := command.Check(c); err != nil {
			l.t.Error(err)
		}
	}
	l.mu.Lock()
	l.waiting = append(l.waiting, entry{group, done})
	l.mu.Unlock()
	l.signal()
}

func (l *testLog) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// hold keeps the log from applying until release.
func (l *testLog) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = true
}

func (l *testLog) release() {
	l.mu.Lock()
	l.held = false
	l.mu.Unlock()
	l.signal()
	synctest.Wait()
}

// fail makes the next n batches fail without being applied.
func (l *testLog) fail(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = n
}

func (l *testLog) close() {
	close(l.over)
	l.ended.Wait()
}

func (l *testLog) run() {
	for {
		select {
		case <-l.over:
			return
		case <-l.wake:
			l.mu.Lock()
			held := l.held
			l.mu.Unlock()
			if !held {
				l.apply()
			}
		}
	}
}

func (l *testLog) apply() {
	l.mu.Lock()
	batch := l.waiting
	l.waiting = nil
	var cmds []*command.Command
	for _, e := range batch {
		cmds = append(cmds, e.group...)
	}
	if len(cmds) == 0 {
		l.mu.Unlock()
		return
	}
	if l.failing > 0 {
		l.failing--
		l.mu.Unlock()
		for _, e := range batch {
			e.done(nil, protocol.NewError(protocol.CodeUnavailable, "the disk is slow"))
		}
		return
	}
	l.index++
	index := l.index
	l.batches = append(l.batches, cmds)
	l.mu.Unlock()
	data, err := command.Marshal(nowMs(), cmds)
	if err != nil {
		l.t.Error(err)
		return
	}
	results := l.fsm.ApplyBatch([]*raft.Log{{Index: index, Type: raft.LogCommand, Data: data}})[0].([]command.Result)
	for _, e := range batch {
		e.done(results[:len(e.group)], nil)
		results = results[len(e.group):]
	}
}

// do applies commands without the broker.
func (w *world) do(cmds ...*command.Command) []command.Result {
	ch := make(chan []command.Result, 1)
	w.log.Enqueue(cmds, func(r []command.Result, _ error) { ch <- r })
	return <-ch
}

// batch returns the nth newest batch.
func (l *testLog) batch(n int) []*command.Command {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.batches[len(l.batches)-n]
}

func (l *testLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.batches)
}

type testBoard struct {
	mu      sync.Mutex
	updates []protocol.AttemptUpdate
	started int64 // of every attempt; 0: none
}

func (b *testBoard) Measured(protocol.JobID, uint32) (int64, state.Facts) {
	return b.started, state.Facts{Usage: &protocol.Usage{CPUMs: 5}}
}

func (b *testBoard) Update(_ protocol.AgentID, u []protocol.AttemptUpdate) []protocol.AttemptReply {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.updates = append(b.updates, u...)
	out := make([]protocol.AttemptReply, len(u))
	for i := range u {
		out[i] = protocol.AttemptReply{Job: u[i].Job, Attempt: u[i].Attempt}
	}
	return out
}

const testEndpoint = "ep_test"

// endpoint creates or replaces an endpoint.
func (w *world) endpoint(doc protocol.Endpoint) {
	w.t.Helper()
	doc.Kind = protocol.EndpointKind
	if doc.Runtime.Kind == "" {
		doc.Runtime.Kind = "command"
	}
	b, err := json.Marshal(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	r := w.do(&command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{Org: protocol.OrgDefault, Id: doc.ID, Doc: b}}})
	if r[0].Code != "" {
		w.t.Fatalf("cannot put endpoint: %+v", r[0])
	}
}

func newSubmit(p protocol.Priority) *command.Submit {
	id := protocol.NewJobID(time.Now())
	return &command.Submit{
		Job: id[:], Org: protocol.OrgDefault, Endpoint: testEndpoint, Priority: uint32(p),
		Input: &command.Payload{Inline: []byte(`{}`)}, ExecutionMs: 600_000, TtlMs: 86_400_000,
	}
}

func cancelCommand(org string, job protocol.JobID) *command.Command {
	return &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: job[:], Org: org}}}
}

func (w *world) submit(p protocol.Priority) protocol.JobID {
	w.t.Helper()
	s := newSubmit(p)
	r, err := w.broker.Submit(context.Background(), s)
	if err != nil || r.Code != "" {
		w.t.Fatalf("cannot submit: %+v %v", r, err)
	}
	return r.Job
}

func (w *world) job(id protocol.JobID) *state.Job {
	w.t.Helper()
	j := w.store.Job(id)
	if j == nil {
		w.t.Fatalf("job %s does not exist", id)
	}
	return j
}

// testAgent is one life of an agent that obeys the protocol by hand.
type testAgent struct {
	w   *world
	id  protocol.AgentID
	inc protocol.Incarnation
	seq uint64
}

func (w *world) agent(facts protocol.AgentFacts, held ...protocol.HeldAttempt) (*testAgent, protocol.RegisterResponse) {
	w.t.Helper()
	a := &testAgent{w: w, id: protocol.NewAgentID(time.Now())}
	return a, a.register(facts, held...)
}

func plain() protocol.AgentFacts { return protocol.AgentFacts{Kinds: []string{"command"}, Slots: 4} }

// register opens a new incarnation.
func (a *testAgent) register(facts protocol.AgentFacts, held ...protocol.HeldAttempt) protocol.RegisterResponse {
	a.w.t.Helper()
	<-time.After(time.Millisecond) // incarnations are ordered by their time
	a.inc, a.seq = protocol.NewIncarnation(time.Now()), 0
	r, err := a.w.broker.Register(context.Background(), protocol.RegisterRequest{Agent: a.id, Name: "agent", Incarnation: a.inc, Held: held, Facts: facts})
	if err != nil {
		a.w.t.Fatal(err)
	}
	return r
}

type syncResult struct {
	resp protocol.SyncResponse
	err  error
}

func (a *testAgent) request(free int, held ...protocol.HeldAttempt) protocol.SyncRequest {
	a.seq++
	return protocol.SyncRequest{Agent: a.id, Incarnation: a.inc, Seq: a.seq, Held: held, Capacity: protocol.Capacity{Free: free}, HoldMs: 30_000}
}

// send starts a sync and returns when it is parked or answered.
func (a *testAgent) send(ctx context.Context, req protocol.SyncRequest) <-chan syncResult {
	ch := make(chan syncResult, 1)
	go func() {
		resp, err := a.w.broker.Sync(ctx, req)
		ch <- syncResult{resp, err}
	}()
	synctest.Wait()
	return ch
}

func (a *testAgent) sync(free int, held ...protocol.HeldAttempt) <-chan syncResult {
	return a.send(context.Background(), a.request(free, held...))
}

// answered returns the answer that must be there already.
func (w *world) answered(ch <-chan syncResult) protocol.SyncResponse {
	w.t.Helper()
	synctest.Wait()
	select {
	case r := <-ch:
		if r.err != nil {
			w.t.Fatal(r.err)
		}
		return r.resp
	default:
		w.t.Fatal("the sync is still parked")
		return protocol.SyncResponse{}
	}
}

func (w *world) parked(ch <-chan syncResult) {
	w.t.Helper()
	synctest.Wait()
	select {
	case r := <-ch:
		w.t.Fatalf("the sync was answered: %+v", r)
	default:
	}
}

// assigned returns the one job of an answer.
func (w *world) assigned(ch <-chan syncResult) protocol.HeldAttempt {
	w.t.Helper()
	r := w.answered(ch)
	if len(r.Assign) != 1 {
		w.t.Fatalf("%d assignments, want 1: %+v", len(r.Assign), r)
	}
	return protocol.HeldAttempt{Job: r.Assign[0].Job, Attempt: r.Assign[0].Attempt}
}

func (a *testAgent) report(free int, held []protocol.HeldAttempt, finished ...protocol.Finish) (protocol.ReportResponse, error) {
	return a.w.broker.Report(context.Background(), protocol.ReportRequest{
		Agent: a.id, Incarnation: a.inc, Held: held, Capacity: protocol.Capacity{Free: free}, Finished: finished,
	})
}

func completed(h protocol.HeldAttempt) protocol.Finish {
	return protocol.Finish{Job: h.Job, Attempt: h.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"ok":true}`), RunMs: 5}
}

func (a *testAgent) finish(free int, f protocol.Finish) protocol.AttemptReply {
	a.w.t.Helper()
	r, err := a.report(free, nil, f)
	if err != nil {
		a.w.t.Fatal(err)
	}
	i := slices.IndexFunc(r.Attempts, func(x protocol.AttemptReply) bool { return x.Finished })
	if i < 0 {
		a.w.t.Fatalf("the result was not answered: %+v", r)
	}
	return r.Attempts[i]
}
