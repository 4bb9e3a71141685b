package protocol

import "encoding/json"

// The documents of the classic dialect (contracts.md 1): states in upper case,
// integer milliseconds, errors as text.

// ClassicStatus is the state of a job in the classic dialect.
type ClassicStatus string

// The classic states. A job that loads its runtime is still in the queue, so that
// its delay includes the cold start; so is a paused one.
const (
	ClassicInQueue    ClassicStatus = "IN_QUEUE"
	ClassicInProgress ClassicStatus = "IN_PROGRESS"
	ClassicCompleted  ClassicStatus = "COMPLETED"
	ClassicFailed     ClassicStatus = "FAILED"
	ClassicCancelled  ClassicStatus = "CANCELLED"
	ClassicTimedOut   ClassicStatus = "TIMED_OUT"
)

// Classic returns the state as the classic dialect names it.
func (s Status) Classic() ClassicStatus {
	switch s {
	case StatusRunning:
		return ClassicInProgress
	case StatusCompleted:
		return ClassicCompleted
	case StatusFailed:
		return ClassicFailed
	case StatusCancelled:
		return ClassicCancelled
	case StatusTimeout:
		return ClassicTimedOut
	default:
		return ClassicInQueue
	}
}

// ClassicJob answers run, runsync, status, status-sync, cancel and retry. Of a run,
// a cancel and a retry only ID and Status are set.
type ClassicJob struct {
	ID     JobID         `json:"id"`
	Status ClassicStatus `json:"status"`
	// DelayTime is from the submit to the start of the handler, in ms, cold start
	// included; absent before that.
	DelayTime *int64 `json:"delayTime,omitempty"`
	// ExecutionTime is from the start of the handler to its end, in ms.
	ExecutionTime *int64 `json:"executionTime,omitempty"`
	// Output is the handler's; while it runs, what it told last of its progress.
	Output   json.RawMessage `json:"output,omitempty"`
	Error    string          `json:"error,omitempty"`
	WorkerID string          `json:"workerId,omitempty"` // the agent
	Retries  int             `json:"retries,omitempty"`
}

// ClassicStream answers stream: what the handler yielded since the last answer.
type ClassicStream struct {
	Status ClassicStatus  `json:"status"`
	Stream []ClassicChunk `json:"stream"` // never null
	Error  string         `json:"error,omitempty"`
}

// ClassicChunk is one element that the handler yielded.
type ClassicChunk struct {
	Output json.RawMessage `json:"output"`
}

// ClassicHealth answers health.
type ClassicHealth struct {
	Jobs    ClassicJobs    `json:"jobs"`
	Workers ClassicWorkers `json:"workers"`
}

// ClassicJobs counts the jobs of an endpoint: those that ended since it was made
// (failed: timeouts too), attempts and runs that were begun again, and what
// waits and runs now.
type ClassicJobs struct {
	Completed  uint64 `json:"completed"`
	Failed     uint64 `json:"failed"`
	InProgress int    `json:"inProgress"`
	InQueue    int    `json:"inQueue"`
	Retried    uint64 `json:"retried"`
}

// ClassicWorkers counts the agents that can serve an endpoint, each of them once.
type ClassicWorkers struct {
	Idle         int `json:"idle"`         // has it loaded and waits for a job
	Initializing int `json:"initializing"` // has a job of it that has not started
	Ready        int `json:"ready"`        // could take a job now, and would load it first
	Running      int `json:"running"`      // runs a job of it
	Throttled    int `json:"throttled"`    // is busy with other work, draining, or gave a job of it back
	Unhealthy    int `json:"unhealthy"`    // shows no sign of life
}

// PurgeResponse answers purge and purge-queue.
type PurgeResponse struct {
	Removed int64  `json:"removed"` // jobs that waited and are cancelled now
	Status  string `json:"status"`  // "completed"
}
