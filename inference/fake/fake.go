// Package fake is a deterministic inference runtime without processes, for tests
// of what drives runtimes. All its waiting is on timers, so virtual time works.
package fake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// Kind is the runtime kind.
const Kind = "fake"

// Step is one step of a script: it waits, then does what its other fields say.
type Step struct {
	Wait   time.Duration
	Event  inference.Event    // sent if its Type is set
	Fail   *inference.Failure // ends the script; Crashed ends the instance too
	Crash  bool               // ends the instance, and with it the script
	Output json.RawMessage    // ends the script of a job
	Deaf   bool               // the wait goes on although the job is told to end
}

// Config scripts a runtime. It must be safe for concurrent use.
type Config struct {
	// Start scripts the n-th start, counted from 0; nil is ready at once.
	Start func(n int, spec inference.Spec) []Step
	// Job scripts a job; nil echoes the input at once.
	Job func(job inference.Job) []Step
	// StopTime is how long a stop takes, unless it is forced.
	StopTime time.Duration
}

// Runtime is a scripted runtime.
type Runtime struct {
	config Config

	mu        sync.Mutex
	starts    int
	instances []*Instance
}

// New returns a runtime that follows config.
func New(config Config) *Runtime { return &Runtime{config: config} }

// Kind implements inference.Runtime.
func (r *Runtime) Kind() string { return Kind }

// Starts is how often Start was called.
func (r *Runtime) Starts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.starts
}

// Live lists the instances that did not end yet.
func (r *Runtime) Live() []*Instance {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*Instance
	for _, in := range r.instances {
		select {
		case <-in.done:
		default:
			out = append(out, in)
		}
	}
	return out
}

// Start implements inference.Runtime. Its phases are those that the script sends.
func (r *Runtime) Start(ctx context.Context, spec inference.Spec, sink inference.Sink) (inference.Instance, error) {
	r.mu.Lock()
	n := r.starts
	r.starts++
	r.mu.Unlock()
	var steps []Step
	if r.config.Start != nil {
		steps = r.config.Start(n, spec)
	}
	in := &Instance{config: r.config, slots: max(spec.Concurrency, 1), done: make(chan struct{})}
	if _, err := in.play(ctx, steps, sink); err != nil {
		if f := (*inference.Failure)(nil); errors.As(err, &f) {
			f.Code, f.Crashed = protocol.CodeRuntimeStart, true
		}
		return nil, err
	}
	r.mu.Lock()
	r.instances = append(r.instances, in)
	r.mu.Unlock()
	return in, nil
}

// Instance is one scripted instance.
type Instance struct {
	config Config
	slots  int
	done   chan struct{}

	mu     sync.Mutex
	busy   int
	served int
	ended  bool
	err    error
}

// Info implements inference.Instance.
func (in *Instance) Info() inference.Info { return inference.Info{Slots: in.slots, Engine: Kind} }

// PIDs implements inference.Instance: there is no process.
func (in *Instance) PIDs() []int { return nil }

// Done implements inference.Instance.
func (in *Instance) Done() <-chan struct{} { return in.done }

// Err implements inference.Instance.
func (in *Instance) Err() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.err
}

// Served is how many jobs it was given.
func (in *Instance) Served() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.served
}

// Crash ends the instance as a dying process would.
func (in *Instance) Crash() { in.end(crash()) }

// Stop implements inference.Instance.
func (in *Instance) Stop(ctx context.Context) error {
	timer := time.NewTimer(in.config.StopTime)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	case <-in.done:
	}
	in.end(nil)
	return nil
}

func (in *Instance) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if !in.ended {
		in.ended, in.err = true, err
		close(in.done)
	}
}

// Invoke implements inference.Instance.
func (in *Instance) Invoke(ctx context.Context, job inference.Job, sink inference.Sink) (inference.Result, error) {
	in.mu.Lock()
	switch {
	case in.ended:
		in.mu.Unlock()
		return inference.Result{}, crash()
	case in.busy >= in.slots:
		in.mu.Unlock()
		return inference.Result{}, fmt.Errorf("cannot invoke job %s: all %d slots are taken", job.ID, in.slots)
	}
	in.busy++
	in.served++
	in.mu.Unlock()
	defer func() {
		in.mu.Lock()
		in.busy--
		in.mu.Unlock()
	}()
	steps := []Step{{Output: job.Input}}
	if in.config.Job != nil {
		steps = in.config.Job(job)
	}
	output, err := in.play(ctx, steps, sink)
	return inference.Result{Output: output}, err
}

// play runs a script; a script without an output returns null.
func (in *Instance) play(ctx context.Context, steps []Step, sink inference.Sink) (json.RawMessage, error) {
	for _, s := range steps {
		if err := in.wait(ctx, s); err != nil {
			return nil, err
		}
		if s.Event.Type != "" && sink != nil {
			e := s.Event
			e.Time = protocol.TimeOf(time.Now())
			sink(e)
		}
		switch {
		case s.Crash:
			in.end(crash())
			return nil, crash()
		case s.Fail != nil:
			f := *s.Fail
			if f.Crashed {
				in.end(&f)
			}
			return nil, &f
		case s.Output != nil:
			return s.Output, nil
		}
	}
	return json.RawMessage("null"), nil
}

func (in *Instance) wait(ctx context.Context, s Step) error {
	stop := ctx.Done()
	if s.Deaf {
		stop = nil
	}
	timer := time.NewTimer(s.Wait)
	defer timer.Stop()
	select {
	case <-stop:
		return context.Cause(ctx)
	case <-in.done:
		return crash()
	case <-timer.C:
	}
	if context.Cause(ctx) != nil && !s.Deaf {
		return context.Cause(ctx)
	}
	return nil
}

func crash() *inference.Failure {
	return &inference.Failure{
		Code: protocol.CodeRuntimeCrashed, Message: "the runtime ended during the job",
		Retryable: true, Crashed: true,
	}
}
