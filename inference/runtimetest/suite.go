// Package runtimetest is the conformance suite of inference runtimes: what holds
// for one kind holds for all, so nothing above an Instance depends on its kind.
package runtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// patience bounds what a correct runtime does within milliseconds to seconds; it
// only ends a test that hangs.
const patience = 60 * time.Second

// Config describes the runtime under test. An input that is nil leaves out the
// behaviours that need it; a runtime says so by what it cannot do.
type Config struct {
	New  func() inference.Runtime
	Spec func(t *testing.T) inference.Spec
	// Broken is a spec that cannot start, such as a missing program.
	Broken func(t *testing.T) inference.Spec

	Quick    json.RawMessage                          // ends at once
	Check    func(t *testing.T, out inference.Result) // looks at the output of Quick
	Long     json.RawMessage                          // sends a progress event, then runs until it is told to end
	Progress json.RawMessage                          // sends progress events with rising percentages
	Chunks   json.RawMessage                          // sends chunks
	Log      json.RawMessage                          // logs a line with the word "windlass"
	Fail     json.RawMessage                          // the handler reports code CUSTOM_CODE, retryable
	Crash    json.RawMessage                          // ends the process during the job

	Slots      int  // concurrency to test with; below 2 it is not tested
	CancelWarm bool // the instance survives the cancel of Long
	Processes  bool // PIDs names live processes
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	s := suite{c}
	t.Run("start and stop", s.startStop)
	t.Run("invoke", s.invoke)
	t.Run("stop during a job", s.stopDuring)
	t.Run("ended context", s.endedContext)
	if c.Broken != nil {
		t.Run("start failure", s.startFailure)
	}
	if c.Progress != nil {
		t.Run("progress", s.progress)
	}
	if c.Chunks != nil {
		t.Run("chunks", s.chunks)
	}
	if c.Log != nil {
		t.Run("log", s.log)
	}
	if c.Fail != nil {
		t.Run("handler failure", s.failure)
	}
	if c.Crash != nil {
		t.Run("crash during a job", s.crash)
	}
	if c.Slots > 1 {
		t.Run("concurrent jobs", s.concurrent)
	}
	for _, cause := range []error{inference.ErrCancelled, inference.ErrTimeout, inference.ErrDrain} {
		t.Run("end by "+cause.Error(), func(t *testing.T) { s.cancel(t, cause) })
	}
}

type suite struct{ Config }

// recorder keeps events; signal gets one for each.
type recorder struct {
	signal chan inference.Event

	mu     sync.Mutex
	events []inference.Event
	closed bool
	late   int // events after Invoke returned
}

func newRecorder() *recorder { return &recorder{signal: make(chan inference.Event, 1024)} }

func (r *recorder) sink(e inference.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		r.late++
		return
	}
	r.events = append(r.events, e)
	select {
	case r.signal <- e:
	default:
	}
}

func (r *recorder) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
}

func (r *recorder) of(types ...inference.EventType) []inference.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.events), func(e inference.Event) bool { return !slices.Contains(types, e.Type) })
}

// start starts one instance and stops it with the test.
func (s suite) start(t *testing.T, slots int) inference.Instance {
	t.Helper()
	spec := s.Spec(t)
	spec.Concurrency = slots
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rec := newRecorder()
	in, err := s.New().Start(ctx, spec, rec.sink)
	if err != nil {
		t.Fatalf("cannot start: %v", err)
	}
	t.Cleanup(func() { stop(t, in) })
	return in
}

func stop(t *testing.T, in inference.Instance) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := in.Stop(ctx); err != nil {
		t.Errorf("cannot stop: %v", err)
	}
	ended(t, in)
}

// ended waits for Done and proves that no process is left.
func ended(t *testing.T, in inference.Instance) {
	t.Helper()
	select {
	case <-in.Done():
	case <-time.After(patience):
		t.Fatal("the instance did not end")
	}
	if pids := in.PIDs(); len(pids) > 0 {
		t.Errorf("processes %v are left", pids)
	}
}

func do(t *testing.T, in inference.Instance, id string, input json.RawMessage) (inference.Result, *recorder, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	rec := newRecorder()
	out, err := in.Invoke(ctx, inference.Job{ID: id, Attempt: 1, Input: input}, rec.sink)
	rec.close()
	return out, rec, err
}

func (s suite) startStop(t *testing.T) {
	spec := s.Spec(t)
	spec.Concurrency = 1
	rec := newRecorder()
	in, err := s.New().Start(t.Context(), spec, rec.sink)
	if err != nil {
		t.Fatal(err)
	}
	order := []inference.Phase{inference.PhaseContainerStart, inference.PhaseDependencyLoad, inference.PhaseModelLoad}
	at := -1
	for _, e := range rec.of(inference.EventPhase) {
		i := slices.Index(order, e.Phase)
		if i <= at || e.Seconds < 0 {
			t.Errorf("phase %q of %v s is unknown, negative or out of order", e.Phase, e.Seconds)
		}
		at = i
	}
	info, pids := in.Info(), in.PIDs()
	if info.Slots != 1 {
		t.Errorf("slots = %d, want 1", info.Slots)
	}
	if s.Processes && (len(pids) == 0 || info.PID == 0) {
		t.Errorf("pids = %v, pid = %d, want live processes", pids, info.PID)
	}
	select {
	case <-in.Done():
		t.Error("Done is closed while the instance lives")
	default:
	}
	if err := in.Err(); err != nil {
		t.Errorf("Err = %v while the instance lives", err)
	}
	stop(t, in)
	stop(t, in) // a second stop changes nothing
	if err := in.Err(); err != nil {
		t.Errorf("Err = %v after Stop, want nil", err)
	}
	for _, pid := range pids {
		if _, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/exe"); s.Processes && err == nil {
			t.Errorf("process %d is still there", pid)
		}
	}
	if _, _, err := do(t, in, "job_after", s.Quick); err == nil {
		t.Error("a stopped instance ran a job")
	}
}

func (s suite) invoke(t *testing.T) {
	in := s.start(t, 1)
	for n := range 5 {
		out, _, err := do(t, in, fmt.Sprintf("job_%d", n), s.Quick)
		if err != nil {
			t.Fatalf("job %d: %v", n, err)
		}
		if !json.Valid(out.Output) {
			t.Fatalf("job %d: output %q is not JSON", n, out.Output)
		}
		if s.Check != nil {
			s.Check(t, out)
		}
	}
}

func (s suite) startFailure(t *testing.T) {
	in, err := s.New().Start(t.Context(), s.Broken(t), newRecorder().sink)
	if err == nil {
		stop(t, in)
		t.Fatal("a broken spec started")
	}
	var f *inference.Failure
	if !errors.As(err, &f) || f.Code == "" || f.Message == "" {
		t.Fatalf("error = %#v, want a *Failure with code and message", err)
	}
}

func (s suite) progress(t *testing.T) {
	in := s.start(t, 1)
	_, rec, err := do(t, in, "job_progress", s.Progress)
	if err != nil {
		t.Fatal(err)
	}
	events, last := rec.of(inference.EventProgress), -1.0
	if len(events) == 0 {
		t.Fatal("no progress event before Invoke returned")
	}
	for _, e := range events {
		if e.Progress == nil {
			t.Fatalf("progress event %+v without progress", e)
		}
		if p := e.Progress.Percent; p != nil {
			if *p < last || *p > 100 {
				t.Errorf("percent %v after %v", *p, last)
			}
			last = *p
		}
	}
	if last < 0 {
		t.Error("no event had a percentage")
	}
}

func (s suite) chunks(t *testing.T) {
	in := s.start(t, 1)
	_, rec, err := do(t, in, "job_chunks", s.Chunks)
	if err != nil {
		t.Fatal(err)
	}
	events := rec.of(inference.EventChunk)
	if len(events) == 0 {
		t.Fatal("no chunk before Invoke returned")
	}
	for _, e := range events {
		if !json.Valid(e.Chunk) {
			t.Errorf("chunk %q is not JSON", e.Chunk)
		}
	}
}

func (s suite) failure(t *testing.T) {
	in := s.start(t, 1)
	_, _, err := do(t, in, "job_fail", s.Fail)
	var f *inference.Failure
	if !errors.As(err, &f) || f.Code != "CUSTOM_CODE" || !f.Retryable || f.Crashed {
		t.Fatalf("error = %#v, want CUSTOM_CODE, retryable, not crashed", err)
	}
	if _, _, err := do(t, in, "job_next", s.Quick); err != nil {
		t.Fatalf("the job after a failure: %v", err)
	}
}

func (s suite) crash(t *testing.T) {
	in := s.start(t, 1)
	_, _, err := do(t, in, "job_crash", s.Crash)
	var f *inference.Failure
	if !errors.As(err, &f) || f.Code != protocol.CodeRuntimeCrashed || !f.Retryable || !f.Crashed {
		t.Fatalf("error = %#v, want RUNTIME_CRASHED, retryable, crashed", err)
	}
	ended(t, in)
	if in.Err() == nil {
		t.Error("Err is nil after a crash")
	}
	if _, _, err := do(t, in, "job_next", s.Quick); !errors.As(err, &f) {
		t.Errorf("a job on a crashed instance: %v, want a *Failure", err)
	}
}
