package protocol

// Explain says where a job stands, why it waits, and what would change that. It
// comes from the same questions that the matching asks.
type Explain struct {
	JobID    JobID          `json:"jobId,omitzero"` // zero for a job that was not submitted
	Status   Status         `json:"status"`
	Summary  string         `json:"summary"`                   // one sentence for people
	Position int            `json:"position,omitempty"`        // among the waiting jobs of its endpoint; 1 is next
	Ahead    int            `json:"ahead"`                     // jobs of its endpoint that go first
	AheadBy  map[string]int `json:"aheadByPriority,omitempty"` // the same, by priority
	Reasons  []string       `json:"reasons"`                   // the messages of Blocking, or what the job does instead
	Blocking []Blocker      `json:"blocking,omitempty"`
	Agents   *AgentFunnel   `json:"agents,omitempty"`
	Never    bool           `json:"never,omitempty"` // no registered agent could ever take it
	ETA      *ETA           `json:"eta,omitempty"`   // absent when nothing was measured yet
}

// Blocker is one reason why a job waits.
type Blocker struct {
	Code    BlockerCode `json:"code"`
	Message string      `json:"message"`
	Owner   string      `json:"owner"`            // who can change it: submitter, operator, nobody
	Count   int         `json:"count,omitempty"`  // jobs or agents
	Agents  []string    `json:"agents,omitempty"` // names, the first 20
	Fix     string      `json:"fix,omitempty"`
}

// The owners of a reason. Nobody's passes by itself.
const (
	OwnerSubmitter = "submitter"
	OwnerOperator  = "operator"
	OwnerNobody    = "nobody"
)

// BlockerCode names a reason.
type BlockerCode string

// The reasons why a job waits.
const (
	BlockedBehindQueue   BlockerCode = "BEHIND_QUEUE"
	BlockedSlotsBusy     BlockerCode = "ALL_SLOTS_BUSY"
	BlockedGPUsBusy      BlockerCode = "ALL_GPUS_BUSY"
	BlockedConcurrency   BlockerCode = "ENDPOINT_CONCURRENCY"
	BlockedOrganisation  BlockerCode = "TENANT_QUOTA"
	BlockedEndpointPause BlockerCode = "ENDPOINT_PAUSED"
	BlockedEndpointGone  BlockerCode = "ENDPOINT_DELETED"
	BlockedJobPaused     BlockerCode = "JOB_PAUSED"
	BlockedBackoff       BlockerCode = "RETRY_BACKOFF"
	BlockedNoAgent       BlockerCode = "NO_AGENT_ONLINE"
	BlockedPool          BlockerCode = "NO_AGENT_IN_POOL"
	BlockedRuntime       BlockerCode = "RUNTIME_NOT_ALLOWED"
	BlockedFewGPUs       BlockerCode = "TOO_FEW_GPUS"
	BlockedGPUType       BlockerCode = "GPU_TYPE_MISMATCH"
	BlockedGPUMemory     BlockerCode = "GPU_MEMORY_TOO_SMALL"
	BlockedDraining      BlockerCode = "AGENT_DRAINING"
	BlockedRejected      BlockerCode = "AGENT_REFUSED"
)

// AgentFunnel counts the agents that serve the organisation.
type AgentFunnel struct {
	Connected int `json:"connected"`
	Suitable  int `json:"suitable"` // of those connected: they could run the job
	Free      int `json:"free"`     // of those suitable: they could run it now
}

// ETA is estimated from how the endpoint's jobs ended lately.
type ETA struct {
	StartAt    Time `json:"startAt"`
	CompleteAt Time `json:"completeAt,omitzero"`
}

// DryRun answers a submit with dryRun=true that would be accepted: nothing was
// submitted.
type DryRun struct {
	DryRun            bool     `json:"dryRun"`         // true
	JobID             JobID    `json:"jobId,omitzero"` // the job that the idempotency key names already
	EndpointID        string   `json:"endpointId"`
	Priority          Priority `json:"priority"`
	EstimatedDuration *float64 `json:"estimatedDuration,omitempty"` // seconds
	CostLimit         Money    `json:"costLimit,omitempty"`         // what would be kept back of the credits
	Explain           *Explain `json:"explain,omitempty"`
}
