package protocol

import "fmt"

// Status is the public state of a job (seed S2, "Primary States").
type Status uint8

// The states of a job. Completed, failed, cancelled and timeout are terminal.
const (
	StatusQueued Status = iota + 1
	StatusInitializing
	StatusRunning
	StatusCompleted
	StatusFailed
	StatusCancelled
	StatusTimeout
	StatusPaused
)

func statusNames() [9]string {
	return [9]string{"", "queued", "initializing", "running", "completed", "failed", "cancelled", "timeout", "paused"}
}

// String returns the native, lower-case name.
func (s Status) String() string {
	if names := statusNames(); int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("status(%d)", uint8(s))
}

// Terminal reports whether the state is final for the job's run.
func (s Status) Terminal() bool {
	return s == StatusCompleted || s == StatusFailed || s == StatusCancelled || s == StatusTimeout
}

// ParseStatus reads the native name.
func ParseStatus(name string) (Status, error) {
	for i, n := range statusNames() {
		if n == name && name != "" {
			return Status(i), nil
		}
	}
	return 0, fmt.Errorf("unknown status %q: use queued, initializing, running, completed, failed, cancelled, timeout or paused", clip(name))
}

// MarshalText implements encoding.TextMarshaler.
func (s Status) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Status) UnmarshalText(b []byte) error {
	v, err := ParseStatus(string(b))
	*s = v
	return err
}

// Substate refines initializing and running (seed S2).
type Substate string

// The substates of a job that holds a lease.
const (
	SubstateWarmingUp  Substate = "warming_up"
	SubstateProcessing Substate = "processing"
	SubstateFinalizing Substate = "finalizing"
	SubstateUploading  Substate = "uploading"
)

// Priority orders jobs before submission order does; a lower value is served first.
type Priority uint8

// The priorities. The zero value is not a priority.
const (
	PriorityCritical Priority = iota + 1
	PriorityHigh
	PriorityNormal
	PriorityLow
)

// Priorities is how many priorities there are.
const Priorities = 4

func priorityNames() [Priorities + 1]string {
	return [Priorities + 1]string{"", "critical", "high", "normal", "low"}
}

// String returns the name.
func (p Priority) String() string {
	if names := priorityNames(); int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("priority(%d)", uint8(p))
}

// Valid reports whether p is one of the four.
func (p Priority) Valid() bool { return p >= PriorityCritical && p <= PriorityLow }

// ParsePriority reads a name; the empty name is normal.
func ParsePriority(name string) (Priority, error) {
	if name == "" {
		return PriorityNormal, nil
	}
	for i, n := range priorityNames() {
		if n == name {
			return Priority(i), nil
		}
	}
	return 0, fmt.Errorf("unknown priority %q: use critical, high, normal or low", clip(name))
}

// MarshalText implements encoding.TextMarshaler.
func (p Priority) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Priority) UnmarshalText(b []byte) error {
	v, err := ParsePriority(string(b))
	*p = v
	return err
}

// Trigger is what moves a job from one state to another.
type Trigger string

// The triggers of the state machine.
const (
	TriggerSubmit   Trigger = "submit"
	TriggerLease    Trigger = "lease"    // a lease for an agent committed
	TriggerStart    Trigger = "start"    // the agent reported that the handler runs
	TriggerComplete Trigger = "complete" // the handler returned a result
	TriggerFail     Trigger = "fail"     // failed for good: not retryable or no attempt left
	TriggerRetry    Trigger = "retry"    // failed, an attempt is left: waits for its back-off
	TriggerRelease  Trigger = "release"  // lease lost, rejected, drained: back to its place
	TriggerCancel   Trigger = "cancel"
	TriggerTimeout  Trigger = "timeout" // execution timeout
	TriggerExpire   Trigger = "expire"  // waited longer than its ttl
	TriggerPause    Trigger = "pause"
	TriggerResume   Trigger = "resume"
	TriggerReopen   Trigger = "reopen" // retried by a user: a new run of the same id
)

// Transition is one row of the job state machine.
type Transition struct {
	From    Status // 0 for a job that does not exist yet
	Trigger Trigger
	To      Status
}

// Transitions returns the whole job state machine. Whatever is not listed is
// refused and changes nothing; a terminal state leaves only by reopen.
func Transitions() []Transition {
	return []Transition{
		{0, TriggerSubmit, StatusQueued},

		{StatusQueued, TriggerLease, StatusInitializing},
		{StatusQueued, TriggerCancel, StatusCancelled},
		{StatusQueued, TriggerExpire, StatusTimeout},
		{StatusQueued, TriggerPause, StatusPaused},

		{StatusPaused, TriggerResume, StatusQueued},
		{StatusPaused, TriggerCancel, StatusCancelled},
		{StatusPaused, TriggerExpire, StatusTimeout},

		{StatusInitializing, TriggerStart, StatusRunning},
		{StatusInitializing, TriggerComplete, StatusCompleted},
		{StatusInitializing, TriggerFail, StatusFailed},
		{StatusInitializing, TriggerRetry, StatusQueued},
		{StatusInitializing, TriggerRelease, StatusQueued},
		{StatusInitializing, TriggerCancel, StatusCancelled},
		{StatusInitializing, TriggerTimeout, StatusTimeout},
		{StatusInitializing, TriggerPause, StatusPaused},

		{StatusRunning, TriggerComplete, StatusCompleted},
		{StatusRunning, TriggerFail, StatusFailed},
		{StatusRunning, TriggerRetry, StatusQueued},
		{StatusRunning, TriggerRelease, StatusQueued},
		{StatusRunning, TriggerCancel, StatusCancelled},
		{StatusRunning, TriggerTimeout, StatusTimeout},
		{StatusRunning, TriggerPause, StatusPaused},

		{StatusCompleted, TriggerReopen, StatusQueued},
		{StatusFailed, TriggerReopen, StatusQueued},
		{StatusCancelled, TriggerReopen, StatusQueued},
		{StatusTimeout, TriggerReopen, StatusQueued},
	}
}
