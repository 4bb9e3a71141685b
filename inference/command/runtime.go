// Package command runs a program in any language as an inference runtime: JSON
// lines on its standard input and output (inference.md 5.3, docs/command-runtime.md).
package command

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"windlass/inference"
	"windlass/inference/process"
	"windlass/protocol"
)

// Kind is the runtime kind in an endpoint document.
const Kind = "command"

const (
	// DefaultStartLimit is the silence allowed while starting, if the spec has none.
	DefaultStartLimit = 5 * time.Minute
	// helloWindow is how long a silent child may take to speak or to read its input
	// before it is taken for one that never says ready: its first job goes out.
	helloWindow = 3 * time.Second
	// readPoll is how often a silent child is looked at for reading its input.
	readPoll = 5 * time.Millisecond
)

// Runtime is the runtime kind "command". Another runtime may embed it and start
// its own program through it by rewriting Spec.Runtime.Command.
type Runtime struct{}

// New returns the runtime.
func New() *Runtime { return &Runtime{} }

// Kind implements inference.Runtime.
func (*Runtime) Kind() string { return Kind }

// Start implements inference.Runtime. It does not look at spec.Runtime.Kind. The
// program may send its messages on standard output or on the descriptor that
// WINDLASS_FD names; once one came there, standard output is only log. The tree is
// marked with the mark in spec.Env, else with spec.Dir (process.End).
func (*Runtime) Start(ctx context.Context, spec inference.Spec, sink inference.Sink) (inference.Instance, error) {
	if spec.StartLimit <= 0 {
		spec.StartLimit = DefaultStartLimit
	}
	dir, err := filepath.Abs(spec.Dir)
	if err != nil {
		return nil, startRefused(err)
	}
	spec.Dir = dir
	in := newInstance(spec, sink)
	if err := in.spawn(); err != nil {
		return nil, startRefused(err)
	}
	if err := in.awaitReady(ctx); err != nil {
		in.proc.Kill()
		<-in.done
		return nil, err
	}
	return in, nil
}

func startRefused(err error) *inference.Failure {
	return &inference.Failure{Code: protocol.CodeRuntimeStart, Message: err.Error(), Retryable: true, Crashed: true}
}

// spawn starts the child and the goroutines of the instance.
func (in *Instance) spawn() error {
	dir := in.spec.Runtime.Workdir
	if dir == "" {
		dir = in.spec.Dir
	}
	handlers := filepath.Join(in.spec.Dir, "handlers")
	if err := WriteHandlers(handlers); err != nil {
		return err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("cannot start runtime: %w", err)
	}
	in.spawned = time.Now()
	in.proc, err = process.Start(process.Config{
		Command: in.spec.Runtime.Command, Dir: dir, Env: environment(in.spec.Env, handlers),
		ID: in.spec.Dir, Extra: []*os.File{w},
		Stdout: in.readStdout, Stderr: in.readStderr,
		Inputs: []*os.File{r}, Readers: []func(io.Reader){in.readChannel},
	})
	if err != nil {
		return err
	}
	in.wg.Go(in.write)
	go in.supervise()
	return nil
}

// awaitReady returns when the child may get its first job.
func (in *Instance) awaitReady(ctx context.Context) error {
	poll := time.NewTicker(readPoll)
	defer poll.Stop()
	for {
		select {
		case <-in.ready:
			return nil
		case <-in.proc.Done():
			return in.startFailure("the runtime ended before it was ready")
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-poll.C:
		}
		if !in.aware() && (in.readsInput() || time.Since(in.spawned) > helloWindow) {
			in.assumeReady()
			return nil
		}
		if silent := time.Since(in.proc.LastOutput()); silent > in.spec.StartLimit {
			in.proc.Kill()
			<-in.proc.Done()
			return in.startFailure(fmt.Sprintf("the runtime was not ready and gave no sign of life for %v; raise timeouts.start if its load is that quiet", in.spec.StartLimit))
		}
	}
}

func (in *Instance) startFailure(message string) error {
	f := in.crash(message)
	f.Code = protocol.CodeRuntimeStart
	return f
}

// crash describes the end of the process.
func (in *Instance) crash(message string) *inference.Failure {
	f := &inference.Failure{
		Code: protocol.CodeRuntimeCrashed, Message: message, Retryable: true, Crashed: true,
		Details: map[string]any{"logTail": in.log.Tail()},
	}
	exit := in.proc.Exit()
	if exit.Signal != 0 {
		f.Details["signal"] = exit.Signal.String()
		f.Message += fmt.Sprintf(" (signal: %v)", exit.Signal)
	} else {
		f.Details["exitCode"] = exit.Code
		f.Message += fmt.Sprintf(" (exit code %d)", exit.Code)
	}
	return f
}

// errStopped is the failure of a job whose instance is stopped under it.
func errStopped() *inference.Failure {
	return &inference.Failure{
		Code: protocol.CodeRuntimeCrashed, Message: "the runtime was stopped during the job",
		Retryable: true, Crashed: true,
	}
}
