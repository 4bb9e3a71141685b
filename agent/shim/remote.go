package shim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// Times of the agent's side.
const (
	// dialPause is between attempts to reach a shim that lives but does not answer.
	dialPause = 100 * time.Millisecond
	// forceGrace is what a shim gets beyond the grace of a stop before it is
	// killed itself with all it has.
	forceGrace = 15 * time.Second
)

// Remote is a runtime instance behind a shim. It survives lost connections; it
// ends when the shim does, or when the agent detaches.
type Remote struct {
	opener *Opener
	dir    string
	spec   Spec
	state  State
	sink   inference.Sink
	child  bool // the shim is this process's own child
	ready  chan struct{}
	done   chan struct{}
	ctx    context.Context // ends on Detach
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex
	conn     net.Conn // nil while disconnected
	info     inference.Info
	pids     []int
	isReady  bool
	retired  bool
	runs     map[string]*Run
	stopping bool
	closed   bool // no run is added any more
	exited   bool
	failure  *inference.Failure
	err      error
}

func newRemote(o *Opener, dir string, spec Spec, state State, sink inference.Sink) *Remote {
	ctx, cancel := context.WithCancel(context.Background())
	return &Remote{
		opener: o, dir: dir, spec: spec, state: state, sink: sink,
		ready: make(chan struct{}), done: make(chan struct{}), ctx: ctx, cancel: cancel, runs: make(map[string]*Run),
	}
}

// start connects and waits for the runtime.
func (r *Remote) start(ctx context.Context) error {
	r.wg.Go(r.live)
	select {
	case <-r.ready:
		return nil
	case <-r.done:
		if err := r.Err(); err != nil {
			return err
		}
		return &inference.Failure{Code: protocol.CodeRuntimeStart, Message: "the runtime was stopped while it started", Retryable: true}
	case <-ctx.Done():
		if !r.child { // adopted: whoever asked decides what becomes of it
			r.Detach()
			return context.Cause(ctx)
		}
		stopCtx, cancel := context.WithTimeout(context.Background(), stopGrace)
		defer cancel()
		return errors.Join(context.Cause(ctx), r.Stop(stopCtx))
	}
}

// Spec is what the shim was started with.
func (r *Remote) Spec() inference.Spec { return r.spec.Instance }

// Dir is the path of the runtime directory.
func (r *Remote) Dir() string { return r.dir }

// Info implements inference.Instance.
func (r *Remote) Info() inference.Info {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.info
}

// PIDs implements inference.Instance: the roots of the runtime's process tree.
func (r *Remote) PIDs() []int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]int(nil), r.pids...)
}

// Retired implements inference.Retirer for an instance that does.
func (r *Remote) Retired() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retired
}

// Done implements inference.Instance.
func (r *Remote) Done() <-chan struct{} { return r.done }

// Err implements inference.Instance.
func (r *Remote) Err() error {
	select {
	case <-r.done:
	default:
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Invoke implements inference.Instance. The result is taken out of the journal,
// so callers that must not lose it use Begin.
func (r *Remote) Invoke(ctx context.Context, job inference.Job, sink inference.Sink) (inference.Result, error) {
	var timeout time.Duration
	if !job.Deadline.IsZero() {
		timeout = time.Until(job.Deadline)
	}
	run := r.Begin(job, timeout, nil)
	stop := context.AfterFunc(ctx, func() { run.Cancel(context.Cause(ctx)) })
	defer stop()
	var cur Cursor
	for over := false; !over; {
		select {
		case <-run.changed:
		case <-run.done:
			over = true
		}
		cur = relay(run.Record, cur, sink)
	}
	end := run.End()
	if end.Err != nil {
		return inference.Result{}, end.Err
	}
	if end.Released {
		return inference.Result{}, inference.ErrDrain
	}
	e, err := ReadEntry(r.spec.Journal, end.Key)
	if err != nil {
		return inference.Result{}, err
	}
	if err := RemoveEntry(r.spec.Journal, end.Key); err != nil {
		return inference.Result{}, err
	}
	return outcome(e.Finish, end.Crashed)
}

func outcome(f protocol.Finish, crashed bool) (inference.Result, error) {
	switch f.Outcome {
	case protocol.OutcomeCompleted:
		return inference.Result{Output: f.Output}, nil
	case protocol.OutcomeTimeout:
		return inference.Result{}, inference.ErrTimeout
	case protocol.OutcomeCancelled:
		return inference.Result{}, inference.ErrCancelled
	case protocol.OutcomePaused:
		return inference.Result{}, &inference.Paused{Checkpoint: f.Checkpoint}
	case protocol.OutcomeFailed:
	}
	return inference.Result{}, &inference.Failure{
		Code: f.Error.Code, Message: f.Error.Message, Details: f.Error.Details, Retryable: f.Retryable, Partial: f.Partial, Crashed: crashed,
	}
}

// relay turns what a record has beyond cur back into events.
func relay(rec *Record, cur Cursor, sink inference.Sink) Cursor {
	for {
		u, next, ok := rec.Since(cur, maxUpdate, time.Now())
		if !ok {
			return cur
		}
		if next.Soft != cur.Soft && u.Substate != "" {
			sink(inference.Event{Type: inference.EventState, Substate: u.Substate})
		}
		if next.Soft != cur.Soft && u.Progress != nil {
			sink(inference.Event{Type: inference.EventProgress, Progress: u.Progress})
		}
		for _, l := range u.Logs {
			sink(inference.Event{Type: inference.EventLog, Time: l.Time, Source: l.Source, Line: l.Line})
		}
		for _, c := range u.Chunks {
			sink(inference.Event{Type: inference.EventChunk, Chunk: c})
		}
		cur = next
	}
}

// Stop implements inference.Instance: the shim stops the runtime, gracefully
// until ctx ends. A shim that does not come to its end is killed with all it has.
func (r *Remote) Stop(ctx context.Context) error {
	grace := stopGrace
	if d, ok := ctx.Deadline(); ok {
		grace = max(time.Until(d), time.Millisecond)
	}
	r.mu.Lock()
	r.stopping = true
	r.mu.Unlock()
	r.send(message{Type: msgStop, GraceMs: max(1, grace.Milliseconds())})
	t := time.NewTimer(grace + forceGrace)
	defer t.Stop()
	select {
	case <-r.done:
	case <-t.C:
		if left := Kill(0, func(m string) bool { return m == r.spec.Mark }); len(left) > 0 {
			return fmt.Errorf("cannot stop runtime in %s: processes %v cannot be killed", r.dir, left)
		}
		<-r.done
	}
	r.wg.Wait()
	return nil
}

// Detach lets the shim go on without this agent; Done closes and Err is nil.
func (r *Remote) Detach() {
	r.cancel()
	r.wg.Wait()
}

// send writes one message if connected; every connection starts by saying
// again what still matters.
func (r *Remote) send(m message) {
	b, err := encode(m)
	if err != nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil {
		return
	}
	_ = r.conn.SetWriteDeadline(time.Now().Add(writeLimit))
	if _, err := r.conn.Write(b); err != nil {
		_ = r.conn.Close() // the reader notices and connects anew
	}
}

// live keeps the connection until the shim ends or the agent detaches.
func (r *Remote) live() {
	for r.ctx.Err() == nil {
		r.connect()
		r.mu.Lock()
		exited := r.exited
		r.mu.Unlock()
		if exited || !r.alive() {
			break
		}
		select {
		case <-r.ctx.Done():
		case <-time.After(dialPause):
		}
	}
	r.end()
}

// alive collects the exit status of our own child, because a zombie would count
// as gone but stay in the process table.
func (r *Remote) alive() bool {
	if r.state.Shim.Alive() {
		return true
	}
	if r.child {
		reap(r.state.Shim.PID)
	}
	return false
}

// connect is one connection from its first message to its end.
func (r *Remote) connect() {
	conn, err := dial(r.ctx, r.dir)
	if err != nil {
		return // alive decides whether there is still something to connect to
	}
	stop := context.AfterFunc(r.ctx, func() { _ = conn.Close() })
	defer stop()
	in := newReader(conn)
	hello, err := in.next()
	if err == nil && (hello.Type != msgHello || hello.Version != Version) {
		err = fmt.Errorf("cannot speak to shim: it said %s, version %d", hello.Type, hello.Version)
	}
	if err != nil {
		_ = conn.Close()
		return
	}
	r.mu.Lock()
	r.conn = conn
	stopping := r.stopping
	r.mu.Unlock()
	r.greet(hello)
	if stopping {
		r.send(message{Type: msgStop, GraceMs: stopGrace.Milliseconds()})
	}
	for {
		m, err := in.next()
		if err != nil {
			break
		}
		r.handle(m)
	}
	r.mu.Lock()
	r.conn = nil
	r.mu.Unlock()
	_ = conn.Close()
}

// greet brings both sides to the same runs after a connection.
func (r *Remote) greet(hello message) {
	there := make(map[string]bool)
	var again []message
	r.mu.Lock()
	for _, j := range hello.Runs {
		there[j.Run] = true
		if r.runs[j.Run] == nil {
			r.runs[j.Run] = newRun(r, j.Run, Key{Job: j.Job, Attempt: j.Attempt})
		}
	}
	for id, run := range r.runs {
		again = append(again, run.resume(there[id])...)
	}
	r.mu.Unlock()
	for _, m := range again {
		r.send(m)
	}
}

func (r *Remote) handle(m message) {
	switch m.Type {
	case msgEvent:
		if r.sink != nil && m.Event != nil {
			r.sink(*m.Event)
		}
	case msgReady:
		r.setReady(m)
	case msgRetired:
		r.mu.Lock()
		r.retired = true
		r.mu.Unlock()
	case msgUpdate:
		if run := r.run(m.Run); run != nil && m.Update != nil {
			run.update(*m.Update)
		}
	case msgResult:
		if run := r.run(m.Run); run != nil {
			r.finish(run, End{Key: Key{Job: run.job, Attempt: m.Attempt}, Released: m.Released, Crashed: m.Crashed})
		}
	case msgExit:
		r.mu.Lock()
		r.exited, r.failure = true, m.Failure
		r.mu.Unlock()
	default: // of a newer shim
	}
}

func (r *Remote) setReady(m message) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if m.Info != nil {
		r.info = *m.Info
	}
	r.pids = m.PIDs
	if !r.isReady {
		r.isReady = true
		close(r.ready)
	}
}

func (r *Remote) run(id string) *Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.runs[id]
}

func (r *Remote) finish(run *Run, end End) {
	r.mu.Lock()
	delete(r.runs, run.id)
	r.mu.Unlock()
	run.finish(end)
}

// end settles everything once the shim is gone, or left to itself.
func (r *Remote) end() {
	detached := r.ctx.Err() != nil
	r.mu.Lock()
	if !detached && !r.stopping {
		r.err = r.verdict()
	}
	var open []*Run
	for _, run := range r.runs {
		open = append(open, run)
	}
	clear(r.runs)
	r.closed = true
	r.mu.Unlock()
	if !detached {
		if err := r.opener.Clear(r.dir); err != nil {
			r.opener.Log.Error().Err(err).Msg("a runtime left something behind")
		}
	}
	for _, run := range open {
		run.settle(r.lost(detached))
	}
	r.cancel()
	close(r.done)
}

// verdict is why the instance ended; mu is held.
func (r *Remote) verdict() error {
	switch {
	case r.exited && r.failure != nil:
		return r.failure
	case r.exited:
		return nil
	}
	return &inference.Failure{
		Code: protocol.CodeRuntimeCrashed, Message: "the runtime's shim ended unexpectedly", Retryable: true, Crashed: true,
	}
}

// lost is what a run without a result ends with.
func (r *Remote) lost(detached bool) error {
	if detached {
		return ErrDetached
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err != nil {
		return r.err
	}
	if r.stopping {
		return inference.ErrDrain
	}
	return &inference.Failure{Code: protocol.CodeRuntimeCrashed, Message: "the runtime ended during the job", Retryable: true, Crashed: true}
}

// Runs lists what an adopted shim has.
func (r *Remote) Runs() []*Run {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*Run, 0, len(r.runs))
	for _, run := range r.runs {
		out = append(out, run)
	}
	return out
}

// Begin hands a job to the runtime. cold, if set, is recorded with its result.
func (r *Remote) Begin(job inference.Job, timeout time.Duration, cold *protocol.ColdStart) *Run {
	id := fmt.Sprintf("%s.%d", job.ID, job.Attempt)
	jobID, err := protocol.ParseJobID(job.ID)
	run := newRun(r, id, Key{Job: jobID, Attempt: job.Attempt})
	if err != nil {
		run.finish(End{Err: err})
		return run
	}
	if len(job.Input) == 0 {
		job.Input = json.RawMessage("null")
	}
	run.first = message{Type: msgInvoke, Run: id, Job: &job, TimeoutMs: timeout.Milliseconds(), ColdStart: cold}
	r.mu.Lock()
	closed := r.closed
	if !closed {
		r.runs[id] = run
	}
	r.mu.Unlock()
	if closed {
		run.finish(End{Key: run.Key(), Err: ErrNotTaken})
		return run
	}
	r.send(run.first)
	return run
}
