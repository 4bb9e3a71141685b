package protocol

import "encoding/json"

// ReportRequest carries everything that flows up from an agent: the held set
// (which renews its leases), progress, logs, chunks, results and freed capacity.
// It is answered when its results are committed.
type ReportRequest struct {
	Agent       AgentID         `json:"agent"`
	Incarnation Incarnation     `json:"incarnation"`
	Held        []HeldAttempt   `json:"held"` // without those of Finished
	Capacity    Capacity        `json:"capacity"`
	Attempts    []AttemptUpdate `json:"attempts,omitempty"`
	Finished    []Finish        `json:"finished,omitempty"`
	Host        *HostSample     `json:"host,omitempty"`
	// Takes says that the agent takes assignments in the answer (ADR 14), as in
	// that of a sync. It sends one such report at a time, with Capacity.Seq set, and
	// Warm and Endpoints mean what they mean in a sync.
	Takes     bool              `json:"takes,omitempty"`
	Warm      []WarmInstance    `json:"warm,omitempty"`
	Endpoints map[string]uint64 `json:"endpoints,omitempty"`
	Relay     bool              `json:"relay,omitempty"`
	Org       string            `json:"-"` // of the credential; set by the coordinator
}

// AttemptUpdate is the newest soft state of one attempt. All fields but the
// fence may be absent; logs and chunks continue at their sequence numbers.
type AttemptUpdate struct {
	Job       JobID             `json:"job"`
	Attempt   uint32            `json:"attempt"`
	Substate  Substate          `json:"substate,omitempty"`
	StartedMs int64             `json:"startedMs,omitempty"` // how long ago the handler started; 0: not yet
	Progress  *Progress         `json:"progress,omitempty"`
	ColdStart *ColdStart        `json:"coldStart,omitempty"`
	Usage     *Usage            `json:"usage,omitempty"`
	LogFrom   uint64            `json:"logFrom,omitempty"` // number of the first line of Logs
	Logs      []LogLine         `json:"logs,omitempty"`
	ChunkFrom uint64            `json:"chunkFrom,omitempty"` // number of the first element of Chunks
	Chunks    []json.RawMessage `json:"chunks,omitempty"`
	// Pausable says whether the attempt can be asked to pause now: while it loads,
	// and when its runtime offers a checkpoint; absent says nothing new.
	Pausable *bool `json:"pausable,omitempty"`
}

// Progress is what a handler says about how far it is.
type Progress struct {
	Percent    *float64           `json:"percent,omitempty"` // 0 to 100
	Step       string             `json:"step,omitempty"`
	Metadata   json.RawMessage    `json:"metadata,omitempty"` // an object
	Throughput *Throughput        `json:"throughput,omitempty"`
	EtaMs      *int64             `json:"etaMs,omitempty"` // until completion, from now
	Metrics    map[string]float64 `json:"metrics,omitempty"`
}

// Usage is measured on the job's own process tree.
type Usage struct {
	CPUPercent float64    `json:"cpuPercent"` // of the host's cores, since the sample before
	CPUMs      int64      `json:"cpuMs"`      // processor time so far
	Memory     int64      `json:"memory"`     // resident bytes
	PeakMemory int64      `json:"peakMemory"`
	Cores      int        `json:"cores"`
	HostMemory int64      `json:"hostMemory"`
	GPUs       []GPUUsage `json:"gpus,omitempty"`
}

// HostSample is the state of a host.
type HostSample struct {
	CPUPercent  float64 `json:"cpuPercent"`
	Cores       int     `json:"cores"`
	MemoryUsed  int64   `json:"memoryUsed"`
	MemoryTotal int64   `json:"memoryTotal"`
	DiskFree    int64   `json:"diskFree"`
	Load1       float64 `json:"load1"`
}

// Outcome is how an attempt ended.
type Outcome string

// The outcomes.
const (
	OutcomeCompleted Outcome = "completed"
	OutcomeFailed    Outcome = "failed"
	OutcomeTimeout   Outcome = "timeout"   // execution timeout
	OutcomeCancelled Outcome = "cancelled" // stopped as told
	OutcomePaused    Outcome = "paused"    // stopped as asked: Checkpoint is where the next attempt goes on
)

// Finish is the result of one attempt. It is fsynced on the agent's host before
// it is sent and offered until it is answered.
type Finish struct {
	Job       JobID           `json:"job"`
	Attempt   uint32          `json:"attempt"`
	Outcome   Outcome         `json:"outcome"`
	Output    json.RawMessage `json:"output,omitempty"`
	OutputRef *BlobRef        `json:"outputRef,omitempty"` // instead of Output above the inline limit
	Files     []OutputFile    `json:"files,omitempty"`     // handed in beside the output; stored before, as granted
	Error     *JobError       `json:"error,omitempty"`
	Retryable bool            `json:"retryable,omitempty"`
	Partial   json.RawMessage `json:"partial,omitempty"`
	Metrics   json.RawMessage `json:"metrics,omitempty"` // an object: what the handler measured of the whole job
	ColdStart *ColdStart      `json:"coldStart,omitempty"`
	Progress  *Progress       `json:"progress,omitempty"` // the last one
	Usage     *Usage          `json:"usage,omitempty"`    // totals and peaks
	RunMs     int64           `json:"runMs"`              // handler start to end; 0 when it never started
	EndedMs   int64           `json:"endedMs"`            // how long ago it ended when this was sent
	// Logs is a JSON array of LogLine, the whole log of the attempt as kept; Chunks
	// a JSON array of every stream chunk. Each is inline up to InlineDetail bytes,
	// else a blob that was stored first.
	Logs      json.RawMessage `json:"logs,omitempty"`
	LogsRef   *BlobRef        `json:"logsRef,omitempty"`
	Chunks    json.RawMessage `json:"chunks,omitempty"`
	ChunksRef *BlobRef        `json:"chunksRef,omitempty"`
	// Checkpoint, of outcome paused, is what the handler wants to get back when the
	// job goes on; absent when it had not begun, or keeps nothing.
	Checkpoint    json.RawMessage `json:"checkpoint,omitempty"`
	CheckpointRef *BlobRef        `json:"checkpointRef,omitempty"`
}

// BlobRef names a stored payload.
type BlobRef struct {
	SHA256 string `json:"sha256"` // hex
	Size   int64  `json:"size"`
}

// ReportResponse answers a report. Assign is empty unless the report takes it;
// the agent discards it when the report was answered later than the
// acknowledgement deadline after it was sent, or when its incarnation is not the
// registered one any more, and renews its parked sync then.
type ReportResponse struct {
	Attempts  []AttemptReply `json:"attempts,omitempty"` // one for each update and each result
	Assign    []Assignment   `json:"assign,omitempty"`
	Stop      []StopAttempt  `json:"stop,omitempty"`
	Endpoints []Endpoint     `json:"endpoints,omitempty"` // documents of Assign that the agent lacks
	Resync    bool           `json:"resync,omitempty"`    // an assignment waits unacknowledged: renew the parked sync
	BeatMs    int64          `json:"beatMs"`
	Leader    string         `json:"leader,omitempty"`
}

// AttemptReply answers one attempt of a report. An empty Code is success; any
// other is final: the write changed nothing and must not be repeated.
type AttemptReply struct {
	Job       JobID  `json:"job"`
	Attempt   uint32 `json:"attempt"`
	Finished  bool   `json:"finished,omitempty"` // answers a Finish: drop it from the journal
	Code      Code   `json:"code,omitempty"`
	NextLog   uint64 `json:"nextLog,omitempty"`   // send lines from this number
	NextChunk uint64 `json:"nextChunk,omitempty"` // send chunks from this number
}
