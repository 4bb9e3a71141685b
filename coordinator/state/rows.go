package state

import (
	"encoding/json"

	"windlass/protocol"
)

// Job is one row of the job table. It is read-only once it is in the table:
// copy, change, put. Fields are ordered by size because there may be a million.
type Job struct {
	ID     protocol.JobID
	Seq    uint64 // submission order, assigned in Apply; kept by retries
	Index  uint64 // raft index of the last change
	Org    string // interned
	Target string // endpoint id, interned

	CreatedMs   int64
	NotBeforeMs int64 // back-off of a retry; 0: at once
	TTLMs       int64
	ExecutionMs int64
	// Cost sums up what the job's attempts cost whose end was accepted, in all its
	// runs. What a lost or fenced attempt used is not in it.
	Cost protocol.Money
	// Reserved is what the organisation's credits keep back for the job until it ends.
	Reserved protocol.Money

	Input Payload

	Lease   *Lease   // while initializing or running
	Extra   *Extra   // nil when the submit had none of it
	Outcome *Outcome // of the newest attempt that ended; final when Status is terminal

	Attempt     uint32 // newest attempt; the fence; only grows
	Run         uint32 // 1, and one more for each Reopen
	Failures    uint16 // in this run
	Losses      uint16 // in this run
	MaxAttempts uint16
	MaxLosses   uint16

	// Status is queued, initializing (leased; whether it runs is soft state),
	// paused or terminal.
	Status       protocol.Status
	Priority     protocol.Priority
	RetryTimeout bool
	// Adoptable is set while queued because the newest attempt was released
	// without a result: only then may a returned agent continue it.
	Adoptable bool
}

// Payload is opaque bytes inline, or a reference to a blob.
type Payload struct {
	Inline []byte
	Ref    *Blob
}

// Blob names a stored payload.
type Blob struct {
	SHA256 [32]byte
	Size   int64
}

// Lease is who runs the newest attempt.
type Lease struct {
	Agent       protocol.AgentID
	Incarnation protocol.Incarnation
	GrantedMs   int64
	Revision    uint64 // of the endpoint
	Reason      string
}

// Extra is what a submit may carry and most do not.
type Extra struct {
	Tags           []Tag // sorted by key
	CallbackURL    string
	CallbackBase   string // base of URLs in the webhook, as the submitter reached us
	IdempotencyKey string
	// ReopenedMs is when the newest run began, if not with the submit: the ttl
	// counts from it.
	ReopenedMs int64
	// S3Config is a JSON object for the handler. It holds a secret: it goes to
	// the agent and nowhere else.
	S3Config []byte
	// Checkpoint is JSON that the handler left when the run was paused; the next
	// attempt gets it. It goes with the run's end.
	Checkpoint Payload
}

// Tag is one label of a job.
type Tag struct {
	Key, Value string
}

// Outcome is how an attempt, or the job itself, ended.
type Outcome struct {
	Attempt    uint32
	GrantedMs  int64 // when the attempt was leased; 0: never
	StartedMs  int64 // when the handler started; 0: never
	EndedMs    int64
	Output     Payload
	ErrCode    protocol.Code
	ErrMessage string
	ErrDetails json.RawMessage
	Retryable  bool
	Partial    json.RawMessage
	Facts      json.RawMessage // JSON of Facts
	Logs       Payload         // JSON array of protocol.LogLine
	Chunks     Payload         // JSON array of chunks
	Agent      protocol.AgentID
	Revision   uint64
	Files      []File // in the order in which they were handed in
	// OutputsUntilMs is when the blobs of Output and Files are removed, on the FSM
	// clock: there is a Stored row until then. 0: Files is empty, and a blob of
	// Output is kept as long as the job.
	OutputsUntilMs int64
	// Reported is set when the attempt's agent wrote this outcome; only then a
	// repeated Finish of it is answered as done.
	Reported bool
	// Delivery is the webhook that tells this end; nil without one.
	Delivery *Delivery
}

// File is one file that a job handed in.
type File struct {
	Name string
	Blob Blob
}

// Facts is what an attempt measured, as carried by its Finish.
type Facts struct {
	ColdStart *protocol.ColdStart `json:"coldStart,omitempty"`
	Usage     *protocol.Usage     `json:"usage,omitempty"`
	Progress  *protocol.Progress  `json:"progress,omitempty"`
	Metrics   json.RawMessage     `json:"metrics,omitempty"` // an object that came with the result
}

// Endpoint is one endpoint with its newest document and the older revisions
// that a lease may still name.
type Endpoint struct {
	Org      string
	ID       string
	Revision uint64
	Index    uint64
	Doc      *protocol.Endpoint   // with Org and Revision set; read-only
	Older    []*protocol.Endpoint // newest first, at most keptRevisions
	Live     int                  // jobs not terminal
	Queued   int                  // jobs that wait, paused ones too

	// Runs that ended, and that were begun again, since feature level CountedFrom.
	Completed uint64
	Failed    uint64 // timeouts too
	Retried   uint64 // attempts after a failure or a loss, and runs after an end
}

// At returns the document of a revision, or of the nearest one that is kept.
func (e *Endpoint) At(revision uint64) *protocol.Endpoint {
	doc := e.Doc
	for _, older := range e.Older {
		if older.Revision < revision {
			break
		}
		doc = older
	}
	return doc
}

// Agent is an agent's identity.
type Agent struct {
	ID          protocol.AgentID
	Org         string
	Name        string
	Incarnation protocol.Incarnation
	Facts       protocol.AgentFacts
	Index       uint64
	SeenMs      int64 // of the newest registration
}

// Change is one row that a batch changed, as the broker and the board see it.
type Change struct {
	Job      *Job // the row after the batch; nil when it was evicted
	Evicted  protocol.JobID
	Endpoint *Endpoint // set when an endpoint changed
	Removed  string    // "org/id" of a deleted endpoint
	Agent    *Agent    // set when an agent registered
	Org      *Org      // set when an administrator changed an organisation
}

// Changes are the changes of one applied batch, in command order; a job that
// changed twice appears once, as it is after the batch.
type Changes struct {
	Index uint64
	List  []Change
}

// Key is one idempotency key with the job that it names.
type Key struct {
	Org, Endpoint, Key string
	Job                protocol.JobID
	Hash               [32]byte // of the payload
	// ExpiresMs is set when the job ends: the key is free again from then on.
	ExpiresMs int64
	// CreatedMs is when the job was created, once its row left the table: a
	// repeated submit gets the same answer as before.
	CreatedMs int64
}

// Settings are the replicated limits of the whole cluster.
type Settings struct {
	MaxBytes int64 // of the state, above which a Submit is refused; 0: no limit
}

// Meta is what the state knows beside its rows.
type Meta struct {
	Index    uint64 // raft index of the newest batch
	ClockMs  int64  // the newest batch's clock
	Seq      uint64 // of the newest submission
	Revision uint64 // highest revision of a deleted endpoint
	Segment  uint64 // number of the newest segment of the archive that ever was
	Feature  uint32 // replicated feature level; 0: none was ever set
	// Secret signs what any coordinator accepts from any other, such as the URLs of
	// outputs; all zero: none was made yet. It must not be shown.
	Secret   [32]byte
	Settings Settings
}
