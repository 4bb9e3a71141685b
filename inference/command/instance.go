package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"windlass/inference"
	"windlass/inference/process"
	"windlass/protocol"
)

const (
	// interruptAfter is how long a child may take to answer a cancel line before
	// it gets SIGINT, which Python raises as KeyboardInterrupt.
	interruptAfter = 2 * time.Second
	// cancelGrace is how long it may take in all before it is ended.
	cancelGrace = 7 * time.Second
	// termGrace is what a job that ignores its cancel leaves the tree between
	// SIGTERM and SIGKILL.
	termGrace = 2 * time.Second
	// shutdownGrace is how long a child may take to end by itself once its input
	// ended, before SIGTERM.
	shutdownGrace = 3 * time.Second
	// stopLimit is what Stop allows after SIGTERM if its context has no end.
	stopLimit = 30 * time.Second
	// settleLimit is how long a job's end waits for log lines that are still in
	// the pipes.
	settleLimit = 100 * time.Millisecond
)

// Instance is one running program.
type Instance struct {
	spec    inference.Spec
	sink    inference.Sink // of the start, and of lines outside of jobs
	slots   int
	log     *process.Log
	proc    *process.Process
	spawned time.Time
	lines   chan []byte // to the child
	ready   chan struct{}
	stop    chan struct{} // closed by the first Stop
	done    chan struct{}
	wg      sync.WaitGroup // the writer

	mu       sync.Mutex
	jobs     map[string]*job
	taken    int  // jobs so far, names their directories
	channel  bool // messages come on the extra descriptor
	greeted  bool // the child speaks the protocol
	isReady  bool
	spoken   bool // by ready or a job's message: it works
	retired  bool // a slot is poisoned: no further job
	stopping bool
	phases   phases
	engine   string
	model    string
	keeps    bool  // the child offers checkpoints
	err      error // valid once done is closed
}

func newInstance(spec inference.Spec, sink inference.Sink) *Instance {
	if sink == nil {
		sink = func(inference.Event) {}
	}
	slots := max(spec.Concurrency, 1)
	in := &Instance{
		spec: spec, sink: sink, slots: slots, jobs: make(map[string]*job),
		lines: make(chan []byte, 2*slots), ready: make(chan struct{}),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	in.log = process.NewLog(in.logged)
	return in
}

// supervise ends the instance when its process ended.
func (in *Instance) supervise() {
	defer close(in.done)
	<-in.proc.Done()
	in.wg.Wait()
	in.log.Flush()
	if in.isStopping() {
		return
	}
	err := in.crash("the runtime ended by itself")
	in.mu.Lock()
	defer in.mu.Unlock()
	in.err = err
}

func (in *Instance) isStopping() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.stopping
}

// write sends the queued lines; it ends with the process.
func (in *Instance) write() {
	stdin := in.proc.Stdin()
	for {
		select {
		case line := <-in.lines:
			if _, err := stdin.Write(line); err != nil {
				return // the child closed its input or is gone; the jobs learn it elsewhere
			}
		case <-in.stop:
			in.shutdown(stdin)
			return
		case <-in.proc.Exited():
			return
		}
	}
}

// shutdown tells the child to end, in words and by the end of its input.
func (in *Instance) shutdown(stdin *os.File) {
	_ = stdin.SetWriteDeadline(time.Now().Add(shutdownGrace))
	_, _ = stdin.WriteString(`{"type":"shutdown"}` + "\n")
	_ = stdin.Close()
}

// Info implements inference.Instance.
func (in *Instance) Info() inference.Info {
	in.mu.Lock()
	defer in.mu.Unlock()
	return inference.Info{Slots: in.slots, PID: in.proc.PID(), Engine: in.engine, Model: in.model, Checkpoint: in.keeps}
}

// PIDs implements inference.Instance.
func (in *Instance) PIDs() []int { return in.proc.PIDs() }

// Done implements inference.Instance.
func (in *Instance) Done() <-chan struct{} { return in.done }

// Err implements inference.Instance.
func (in *Instance) Err() error {
	select {
	case <-in.done:
		in.mu.Lock()
		defer in.mu.Unlock()
		return in.err
	default:
		return nil
	}
}

// Retired implements inference.Retirer: a slot whose job ignored its cancel is
// lost, and the instance is to be recycled when its other jobs are done.
func (in *Instance) Retired() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.retired
}

// Stop implements inference.Instance: a shutdown line and the end of input, then
// SIGTERM, and when ctx ends SIGKILL to the whole tree.
func (in *Instance) Stop(ctx context.Context) error {
	in.mu.Lock()
	first := !in.stopping
	in.stopping = true
	in.mu.Unlock()
	if first {
		close(in.stop)
	}
	timer := time.NewTimer(shutdownGrace)
	defer timer.Stop()
	select {
	case <-in.proc.Exited():
	case <-timer.C:
	case <-ctx.Done():
	}
	return in.end(ctx, stopLimit)
}

// end ends the tree by SIGTERM, and when ctx or grace ends by SIGKILL.
func (in *Instance) end(ctx context.Context, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	err := in.proc.Stop(ctx)
	<-in.done
	return err
}

// Invoke implements inference.Instance.
func (in *Instance) Invoke(ctx context.Context, spec inference.Job, sink inference.Sink) (inference.Result, error) {
	if err := context.Cause(ctx); err != nil {
		return inference.Result{}, err
	}
	j, err := in.admit(spec, sink)
	if err != nil {
		return inference.Result{}, err
	}
	defer in.dismiss(j)
	line, err := jobLine(spec, j.dir)
	if err != nil {
		return inference.Result{}, err
	}
	select {
	case in.lines <- line:
	case <-in.proc.Done():
	case <-ctx.Done():
	}
	return in.await(ctx, j)
}

// await waits for the job's outcome, its end by ctx, or silence.
func (in *Instance) await(ctx context.Context, j *job) (inference.Result, error) {
	stall := time.NewTimer(max(in.spec.StallLimit, time.Second))
	defer stall.Stop()
	if in.spec.StallLimit <= 0 {
		stall.Stop()
	}
	for {
		select {
		case <-j.done:
			in.proc.Settle(settleLimit)
			return j.result(ctx)
		case <-in.proc.Done():
			return in.lost(j)
		case <-ctx.Done():
			return inference.Result{}, in.cancel(j, context.Cause(ctx))
		case <-stall.C:
			left := time.Until(in.lastSign(j).Add(in.spec.StallLimit))
			if left <= 0 {
				return inference.Result{}, in.stalled()
			}
			stall.Reset(left)
		}
	}
}

// lost is the outcome of a job whose process ended, which may have told it first.
func (in *Instance) lost(j *job) (inference.Result, error) {
	<-in.done
	select {
	case <-j.done:
		return j.result(context.Background())
	default:
	}
	if in.isStopping() {
		return inference.Result{}, errStopped()
	}
	return inference.Result{}, in.crash("the runtime ended during the job")
}

func (in *Instance) stalled() error {
	in.proc.Kill()
	<-in.done
	return &inference.Failure{
		Code: protocol.CodeStalled, Retryable: true, Crashed: true,
		Message: fmt.Sprintf("the runtime gave no sign of life for %v", in.spec.StallLimit),
		Details: map[string]any{"logTail": in.log.Tail()},
	}
}

// lastSign is the job's last sign of life: with one slot anything that the child
// wrote, with several only a message for the job.
func (in *Instance) lastSign(j *job) time.Time {
	last := j.lastSign()
	if out := in.proc.LastOutput(); in.slots == 1 && out.After(last) {
		return out
	}
	return last
}

// cancel makes the child give up j: in words, by SIGINT, by force. It returns
// cause when the job is over. With several slots only words are safe: a signal
// would hit the other jobs, so the slot is given up instead.
func (in *Instance) cancel(j *job, cause error) error {
	line, _ := protocol.EncodeJSON(map[string]string{"type": "cancel", "id": j.id, "reason": cause.Error()})
	select {
	case in.lines <- append(line, '\n'):
	default: // the child does not read its input: words do not reach it
	}
	if in.settled(j, interruptAfter) {
		return cause
	}
	if in.slots == 1 {
		in.proc.Signal(syscall.SIGINT)
	}
	if in.settled(j, cancelGrace-interruptAfter) {
		return cause
	}
	if in.poison(j) {
		return cause
	}
	if err := in.end(context.Background(), termGrace); err != nil {
		return fmt.Errorf("%w: %w", cause, err)
	}
	return cause
}

// Pause implements inference.Pauser, for a child whose hello said that it offers
// checkpoints.
func (in *Instance) Pause(id string) {
	in.mu.Lock()
	j := in.jobs[id]
	in.mu.Unlock()
	if j == nil || !in.Info().Checkpoint || !j.pause() {
		return
	}
	line, _ := protocol.EncodeJSON(map[string]string{"type": "pause", "id": j.id})
	select {
	case in.lines <- append(line, '\n'):
	case <-in.proc.Exited():
	}
}

// poison gives up the slot of j while other jobs run; false if none does.
func (in *Instance) poison(j *job) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.retired = true
	for _, other := range in.jobs {
		if other != j {
			return true
		}
	}
	return false
}

func (in *Instance) settled(j *job, limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-j.done:
		return true
	case <-in.proc.Done():
		<-in.done
		return true
	case <-timer.C:
		return false
	}
}

// admit registers a job and makes its directory.
func (in *Instance) admit(spec inference.Job, sink inference.Sink) (*job, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	select {
	case <-in.proc.Exited():
		return nil, in.gone()
	default:
	}
	switch {
	case in.stopping:
		return nil, errStopped()
	case in.retired:
		return nil, in.gone()
	case len(in.jobs) >= in.slots || in.jobs[spec.ID] != nil:
		return nil, &inference.Failure{
			Code: protocol.CodeInternal, Retryable: true,
			Message: fmt.Sprintf("cannot invoke job %s: it runs already, or %d of %d slots are taken", spec.ID, len(in.jobs), in.slots),
		}
	}
	in.taken++
	dir := filepath.Join(in.spec.Dir, "jobs", strconv.Itoa(in.taken))
	if err := os.MkdirAll(filepath.Join(dir, outputsName), 0o700); err != nil {
		return nil, noRoom("make job directory", err)
	}
	j := &job{id: spec.ID, dir: dir, files: spec.Files, sink: sink, done: make(chan struct{}), last: time.Now(), spoke: in.spoken}
	in.jobs[spec.ID] = j
	state := protocol.SubstateWarmingUp
	if in.spoken {
		state = protocol.SubstateProcessing
	}
	j.emit(inference.Event{Type: inference.EventState, Substate: state})
	return j, nil
}

func (in *Instance) gone() error {
	return &inference.Failure{
		Code: protocol.CodeRuntimeCrashed, Message: "the runtime had ended before the job",
		Retryable: true, Crashed: true,
	}
}

// dismiss ends j's registration; what still comes for it is a stray message.
func (in *Instance) dismiss(j *job) {
	j.close()
	in.mu.Lock()
	if in.jobs[j.id] == j {
		delete(in.jobs, j.id)
	}
	recycle := in.retired && len(in.jobs) == 0
	in.mu.Unlock()
	if recycle {
		in.proc.Kill()
	}
	// A child that still writes there recreates nothing: the directory is gone.
	_ = os.RemoveAll(j.dir)
}

// jobLine is the message that starts a job.
func jobLine(spec inference.Job, dir string) ([]byte, error) {
	m := struct {
		Type      string          `json:"type"`
		ID        string          `json:"id"`
		Input     json.RawMessage `json:"input,omitempty"`
		InputFile string          `json:"inputFile,omitempty"`
		Deadline  protocol.Time   `json:"deadline,omitzero"`
		Workdir   string          `json:"workdir"`
		OutputDir string          `json:"outputDir"`
		S3Config  json.RawMessage `json:"s3Config,omitempty"`

		Checkpoint     json.RawMessage `json:"checkpoint,omitempty"`
		CheckpointFile string          `json:"checkpointFile,omitempty"`
	}{
		Type: "job", ID: spec.ID, Input: spec.Input, Workdir: dir, OutputDir: filepath.Join(dir, outputsName),
		S3Config: spec.S3Config, Checkpoint: spec.Checkpoint,
	}
	if len(m.Input) == 0 {
		m.Input = json.RawMessage("null")
	}
	if !spec.Deadline.IsZero() {
		m.Deadline = protocol.TimeOf(spec.Deadline)
	}
	line, err := protocol.EncodeJSON(m)
	if err != nil {
		return nil, &inference.Failure{Code: protocol.CodeInvalidInput, Message: "the input is not JSON"}
	}
	if len(line) < MaxLine {
		return append(line, '\n'), nil
	}
	m.InputFile = filepath.Join(dir, "input.json")
	if err := os.WriteFile(m.InputFile, spec.Input, 0o600); err != nil {
		return nil, noRoom("write input file", err)
	}
	m.Input = nil
	if len(m.Checkpoint) > 0 {
		m.CheckpointFile = filepath.Join(dir, "checkpoint.json")
		if err := os.WriteFile(m.CheckpointFile, spec.Checkpoint, 0o600); err != nil {
			return nil, noRoom("write checkpoint file", err)
		}
		m.Checkpoint = nil
	}
	if line, err = protocol.EncodeJSON(m); err != nil {
		return nil, &inference.Failure{Code: protocol.CodeInternal, Message: err.Error()}
	}
	return append(line, '\n'), nil
}

// noRoom is the failure of a host that cannot hold the job's files; another may.
func noRoom(what string, err error) *inference.Failure {
	return &inference.Failure{Code: protocol.CodeResource, Message: fmt.Sprintf("cannot %s: %v", what, err), Retryable: true}
}
