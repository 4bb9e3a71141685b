package protocol

import "encoding/json"

// RegisterRequest opens a new life of an agent (DESIGN 3.3). It is sent after
// re-adoption: Held lists the attempts that still run, or whose results wait in
// the journal; the coordinator moves them to this incarnation and releases the
// agent's others.
type RegisterRequest struct {
	Agent       AgentID       `json:"agent"` // made once by the agent, kept in its identity file
	Name        string        `json:"name"`
	Incarnation Incarnation   `json:"incarnation"`
	Held        []HeldAttempt `json:"held"`
	Facts       AgentFacts    `json:"facts"`
	Protocol    [2]int        `json:"protocol"` // lowest and highest minor spoken
	Relay       bool          `json:"relay,omitempty"`
	Org         string        `json:"-"` // of the credential; set by the coordinator
}

// RegisterResponse tells the agent its terms. An attempt of Held that is absent
// from Current is no longer this agent's: stop it, drop its result.
type RegisterResponse struct {
	Current []HeldAttempt `json:"current"`
	// Adopted maps a returned run to its NEW attempt: the run goes on under it.
	Adopted []Adoption `json:"adopted,omitempty"`
	HoldMs  int64      `json:"holdMs"`
	BeatMs  int64      `json:"beatMs"`
	LeaseMs int64      `json:"leaseMs"`
	AckMs   int64      `json:"ackMs"`
	Minor   int        `json:"minor"`
	Leader  string     `json:"leader,omitempty"` // ask there instead; everything else is empty
}

// Adoption is one attempt that continues under a new number.
type Adoption struct {
	Job  JobID  `json:"job"`
	From uint32 `json:"from"`
	To   uint32 `json:"to"`
}

// AgentFacts describe a host; they are sent at registration.
type AgentFacts struct {
	Version  string            `json:"version"`
	OS       string            `json:"os"`
	Arch     string            `json:"arch"`
	Cores    int               `json:"cores"`
	Memory   int64             `json:"memory"` // bytes
	Pool     string            `json:"pool,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Slots    int               `json:"slots"`
	Kinds    []string          `json:"kinds"` // runtime kinds that runtimes.allow names
	Commands []string          `json:"commands,omitempty"`
	GPUs     []GPUFact         `json:"gpus,omitempty"`
	Orgs     []string          `json:"orgs,omitempty"` // that the agent serves; none: all that its credential allows
	BootID   string            `json:"bootId,omitempty"`
}

// GPUFact is one GPU of a host.
type GPUFact struct {
	UUID   string `json:"uuid"`
	Name   string `json:"name"`
	Memory int64  `json:"memory"` // bytes
}

// HeldAttempt is one attempt that an agent has: loading, running, or finished
// and waiting in its journal until the answer to its Finish.
type HeldAttempt struct {
	Job     JobID  `json:"job"`
	Attempt uint32 `json:"attempt"`
}

// WarmInstance is one resident runtime with room for more jobs.
type WarmInstance struct {
	Endpoint string `json:"endpoint"` // EndpointName
	Revision uint64 `json:"revision"`
	Free     int    `json:"free"`
}

// Capacity is what an agent could take when it made the statement. The
// coordinator subtracts what it granted that Held does not show yet.
type Capacity struct {
	// Seq grows with every statement of an incarnation, syncs and reports alike:
	// they travel on different connections, and an older one that arrives later
	// must not undo what a newer one said. 0 is always the newest.
	Seq      uint64 `json:"seq,omitempty"`
	Free     int    `json:"free"` // slots
	FreeGPUs int    `json:"freeGpus,omitempty"`
	Draining bool   `json:"draining,omitempty"`
}

// SyncRequest is the parked poll (DESIGN 3.4): a statement of state, not a pop.
// It never carries results.
type SyncRequest struct {
	Agent       AgentID        `json:"agent"`
	Incarnation Incarnation    `json:"incarnation"`
	Seq         uint64         `json:"seq"` // grows with every sync of this incarnation
	Held        []HeldAttempt  `json:"held"`
	Capacity    Capacity       `json:"capacity"`
	Warm        []WarmInstance `json:"warm,omitempty"`
	// Rejected gives back assignments that this agent cannot run; they count as
	// neither failure nor loss.
	Rejected []Reject `json:"rejected,omitempty"`
	// Endpoints lists the documents the agent has by their EndpointName, so that
	// they are not sent again.
	Endpoints map[string]uint64 `json:"endpoints,omitempty"`
	// Reporting is the Capacity.Seq of the report that takes assignments and whose
	// answer the agent still waits for; 0: there is none. What that answer assigns
	// may be on its way, so its absence from Held says nothing.
	Reporting uint64 `json:"reporting,omitempty"`
	HoldMs    int64  `json:"holdMs"`
	Relay     bool   `json:"relay,omitempty"`
	Org       string `json:"-"` // of the credential; set by the coordinator
}

// Reject is an assignment given back.
type Reject struct {
	Job     JobID  `json:"job"`
	Attempt uint32 `json:"attempt"`
	Reason  string `json:"reason"`
}

// SyncResponse is the difference between what the agent said and what the
// coordinator knows. The agent discards Assign when the reply answers an older
// sync than its newest, or when it took longer than the acknowledgement
// deadline beyond ParkedMs to arrive.
type SyncResponse struct {
	Seq       uint64        `json:"seq"`      // of the request it answers
	ParkedMs  int64         `json:"parkedMs"` // how long the coordinator held the request
	Assign    []Assignment  `json:"assign,omitempty"`
	Stop      []StopAttempt `json:"stop,omitempty"`
	Endpoints []Endpoint    `json:"endpoints,omitempty"` // documents of Assign that the agent lacks
	Drain     bool          `json:"drain,omitempty"`
	HoldMs    int64         `json:"holdMs"`   // for the next sync, jittered by the coordinator
	SpreadMs  int64         `json:"spreadMs"` // after a lost connection wait a uniform time up to this
	Leader    string        `json:"leader,omitempty"`
}

// Assignment is one leased attempt to run.
type Assignment struct {
	Job         JobID           `json:"job"`
	Attempt     uint32          `json:"attempt"`
	Endpoint    string          `json:"endpoint"`
	Revision    uint64          `json:"revision"`
	Org         string          `json:"org"`
	Priority    Priority        `json:"priority"`
	Input       json.RawMessage `json:"input,omitempty"`
	InputBlob   string          `json:"inputBlob,omitempty"` // hex SHA-256, instead of Input
	InputSize   int64           `json:"inputSize,omitempty"`
	ExecutionMs int64           `json:"executionMs"` // execution timeout

	// Checkpoint is what the handler kept when the job was paused.
	Checkpoint     json.RawMessage `json:"checkpoint,omitempty"`
	CheckpointBlob string          `json:"checkpointBlob,omitempty"` // hex SHA-256, instead of Checkpoint
	CheckpointSize int64           `json:"checkpointSize,omitempty"`
	// S3Config is the submit's, for the handler; it holds a secret.
	S3Config json.RawMessage `json:"s3Config,omitempty"`
}

// StopReason says why an attempt must stop.
type StopReason string

// The reasons to stop.
const (
	StopCancelled StopReason = "cancelled" // a caller cancelled the job
	StopStale     StopReason = "stale"     // the attempt is not this agent's any more: no result is wanted
	StopDrain     StopReason = "drain"     // give it back
	StopTimeout   StopReason = "timeout"   // the execution timeout passed
	StopPause     StopReason = "pause"     // stop at a checkpoint; only to an attempt that said Pausable
)

// StopAttempt tells the agent to end an attempt.
type StopAttempt struct {
	Job     JobID      `json:"job"`
	Attempt uint32     `json:"attempt"`
	Reason  StopReason `json:"reason"`
}
