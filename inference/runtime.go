// Package inference runs inference runtimes: one Runtime per kind opens
// Instances, an Instance runs jobs and tells what happens as Events.
//
// It knows nothing of coordinators, leases or agents; see DESIGN.md.
package inference

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"windlass/protocol"
)

// Runtime opens instances of one runtime kind.
type Runtime interface {
	// Kind is the name in an endpoint document.
	Kind() string
	// Start brings up one instance and returns when it is ready for its first
	// job. Its cold start phases and log lines go to sink as they happen. A
	// refusal (a model that cannot run, a missing program) is a *Failure.
	Start(ctx context.Context, spec Spec, sink Sink) (Instance, error)
}

// Instance is one loaded runtime.
type Instance interface {
	// Info describes the instance; it does not change after Start.
	Info() Info
	// Invoke runs one job. Events arrive in order, the last before Invoke
	// returns. The cause of ctx says why a job must end: ErrCancelled,
	// ErrTimeout or ErrDrain. An error is a *Failure; a cancelled job returns
	// the cause of ctx. At most Info().Slots jobs run at once.
	Invoke(ctx context.Context, job Job, sink Sink) (Result, error)
	// PIDs lists the live processes of the instance, for telemetry.
	PIDs() []int
	// Stop ends the instance, gracefully until ctx ends, then by force; it
	// returns when every process of it is gone.
	Stop(ctx context.Context) error
	// Done is closed when the instance ended, by Stop or by itself.
	Done() <-chan struct{}
	// Err says why, once Done is closed; nil after Stop.
	Err() error
}

// Sink receives events; it must not block for long and is safe for concurrent use.
type Sink func(Event)

// Spec is what an instance is made of. Env is complete: nothing is inherited.
type Spec struct {
	Endpoint    string               `json:"endpoint"` // protocol.EndpointName
	Revision    uint64               `json:"revision"`
	Runtime     protocol.RuntimeSpec `json:"runtime"`
	Concurrency int                  `json:"concurrency"` // jobs at once, at least 1
	Env         []string             `json:"env"`         // "K=V", resolved on the agent
	Dir         string               `json:"dir"`         // the instance's own directory, for sockets and work files
	Executable  string               `json:"executable"`  // our own binary, for runtimes that re-execute it
	StartLimit  time.Duration        `json:"startLimit"`  // silence allowed while starting; signs of life restart it
	StallLimit  time.Duration        `json:"stallLimit"`  // silence allowed during a job; 0 is unlimited
	GPUs        []string             `json:"gpus,omitempty"`
	// Networks are those that the agent's operator opens beside the public ones to
	// what a runtime reads for a job by address; prefixes such as 10.1.0.0/16.
	Networks []string `json:"networks,omitempty"`
}

// Info describes an instance.
type Info struct {
	Slots  int    `json:"slots"`
	PID    int    `json:"pid"` // the runtime's main process
	Engine string `json:"engine,omitempty"`
	Model  string `json:"model,omitempty"`
	// Checkpoint says that jobs can be paused; the instance is a Pauser then.
	Checkpoint bool `json:"checkpoint,omitempty"`
}

// Job is one invocation.
type Job struct {
	ID       string          `json:"id"`
	Attempt  uint32          `json:"attempt"`
	Input    json.RawMessage `json:"input"`
	Deadline time.Time       `json:"deadline"` // zero: none
	// Files is the directory for copies of what the job hands in; it need not
	// exist. Empty: no files are taken. It belongs to whoever invokes.
	Files string `json:"-"`
	// Checkpoint is what the handler kept when the job was paused; the job goes on
	// from there.
	Checkpoint json.RawMessage `json:"checkpoint,omitempty"`
	// S3Config is the submit's, for the handler; it holds a secret.
	S3Config json.RawMessage `json:"s3Config,omitempty"`
}

// Result is what a handler returned.
type Result struct {
	Output  json.RawMessage `json:"output"`
	Metrics json.RawMessage `json:"metrics,omitempty"` // an object of at most protocol.MaxMetadata; nil: none
	Files   []File          `json:"-"`                 // below Job.Files
}

// Phase is one measured part of a cold start (seed S2).
type Phase string

// The phases, in order.
const (
	PhaseContainerStart Phase = "containerStart" // spawn to the first sign of life
	PhaseDependencyLoad Phase = "dependencyLoad" // to the start of the model load
	PhaseModelLoad      Phase = "modelLoad"      // to ready
)

// EventType says which fields of an Event are set.
type EventType string

// The event types.
const (
	EventPhase    EventType = "phase"    // Phase, Seconds
	EventState    EventType = "state"    // Substate
	EventProgress EventType = "progress" // Progress
	EventChunk    EventType = "chunk"    // Chunk
	EventLog      EventType = "log"      // Source, Line
)

// Event is something that a runtime told. It also travels as JSON between a
// shim and its agent.
type Event struct {
	Type     EventType          `json:"type"`
	Time     protocol.Time      `json:"time,omitzero"`
	Phase    Phase              `json:"phase,omitempty"`
	Seconds  float64            `json:"seconds,omitempty"`
	Substate protocol.Substate  `json:"substate,omitempty"`
	Progress *protocol.Progress `json:"progress,omitempty"`
	Chunk    json.RawMessage    `json:"chunk,omitempty"`
	Source   string             `json:"source,omitempty"`
	Line     string             `json:"line,omitempty"`
}

// Why a job must end before its result; the cause of Invoke's context.
var (
	ErrCancelled = errors.New("job cancelled")
	ErrTimeout   = errors.New("execution timeout")
	ErrDrain     = errors.New("agent drains")
)

// Failure is a job or a start that failed.
type Failure struct {
	Code      protocol.Code
	Message   string
	Details   map[string]any
	Retryable bool
	Partial   json.RawMessage
	Files     []File // handed in until then, below Job.Files
	// Crashed means that the instance is gone or must not be used again.
	Crashed bool
}

// Error implements error.
func (f *Failure) Error() string { return string(f.Code) + ": " + f.Message }

// JobError is the failure as clients read it.
func (f *Failure) JobError() *protocol.JobError {
	return &protocol.JobError{Code: f.Code, Message: f.Message, Details: f.Details}
}

// Retirer is implemented by instances that may lose a slot for good: a job that
// ignored its cancel beside others that go on. A retired instance takes no
// further job and is to be stopped when its last one ended.
type Retirer interface {
	Retired() bool
}

// Pauser is implemented by instances whose jobs can stop at a checkpoint.
type Pauser interface {
	// Pause asks a job to do so. Its Invoke returns a *Paused then; or the job goes
	// on, or ends as it would have.
	Pause(job string)
}

// Paused is how a job ends that was asked to stop at a checkpoint.
type Paused struct {
	Checkpoint json.RawMessage // what the handler wants to get back; JSON
}

// Error implements error.
func (*Paused) Error() string { return "job paused at a checkpoint" }
