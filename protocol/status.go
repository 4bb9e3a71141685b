package protocol

import "encoding/json"

// JobStatus is the native status document (seed S2, "Response"). A field that
// was not measured is absent.
type JobStatus struct {
	JobID               JobID             `json:"jobId"`
	TaskID              JobID             `json:"taskId"`
	Status              Status            `json:"status"`
	Substate            Substate          `json:"substate,omitempty"`
	Progress            *float64          `json:"progress,omitempty"` // percent
	EndpointID          string            `json:"endpointId"`
	Priority            Priority          `json:"priority"`
	CreatedAt           Time              `json:"createdAt"`
	StartedAt           Time              `json:"startedAt,omitzero"`
	EstimatedCompletion Time              `json:"estimatedCompletion,omitzero"`
	CompletedAt         Time              `json:"completedAt,omitzero"`
	FailedAt            Time              `json:"failedAt,omitzero"`
	CancelledAt         Time              `json:"cancelledAt,omitzero"`
	TimedOutAt          Time              `json:"timedOutAt,omitzero"`
	ExecutionTime       *float64          `json:"executionTime,omitempty"` // seconds from startedAt to the end
	CurrentStep         string            `json:"currentStep,omitempty"`
	Metadata            json.RawMessage   `json:"metadata,omitempty"`
	Throughput          *Throughput       `json:"throughput,omitempty"`
	Resources           *Resources        `json:"resources,omitempty"`
	Execution           *Execution        `json:"execution,omitempty"`
	ColdStart           *ColdStart        `json:"coldStart,omitempty"`
	Output              json.RawMessage   `json:"output,omitempty"`
	Files               []FileInfo        `json:"files,omitempty"`          // that the job handed in, also when it failed
	OutputExpiresAt     Time              `json:"outputExpiresAt,omitzero"` // when stored outputs are deleted
	FinalMetrics        map[string]any    `json:"finalMetrics,omitempty"`
	Error               *JobError         `json:"error,omitempty"`
	PartialResults      json.RawMessage   `json:"partialResults,omitempty"`
	Retryable           *bool             `json:"retryable,omitempty"`
	RetryCount          *int              `json:"retryCount,omitempty"`
	NextRetryAt         Time              `json:"nextRetryAt,omitzero"`
	Tags                map[string]string `json:"tags,omitempty"`
	CallbackURL         string            `json:"callbackUrl,omitempty"`
	Logs                []LogLine         `json:"logs,omitempty"`
	Metrics             *JobMetrics       `json:"metrics,omitempty"`
	StaleSince          Time              `json:"staleSince,omitzero"` // soft fields are from before a failover
	Revision            string            `json:"revision"`
}

// JobSummary is the status document of format=summary (seed S2, first sample).
type JobSummary struct {
	JobID    JobID           `json:"jobId"`
	Status   Status          `json:"status"`
	Progress *float64        `json:"progress,omitempty"`
	Result   json.RawMessage `json:"result,omitempty"`
	Error    string          `json:"error,omitempty"`
}

// Throughput is a measured rate.
type Throughput struct {
	Value float64 `json:"value"`
	Unit  string  `json:"unit"` // "tokens/s", "items/s"
}

// Resources is what the job's own process tree uses; peaks at the end.
type Resources struct {
	GPUType            string     `json:"gpuType,omitempty"`
	GPUUtilization     *int       `json:"gpuUtilization,omitempty"`
	MemoryUsage        string     `json:"memoryUsage,omitempty"`
	MemoryUsageBytes   int64      `json:"memoryUsageBytes,omitempty"`
	MemoryTotal        string     `json:"memoryTotal,omitempty"`
	MemoryTotalBytes   int64      `json:"memoryTotalBytes,omitempty"`
	CPUUsage           *float64   `json:"cpuUsage,omitempty"` // percent of the host's cores
	PeakGPUUtilization *int       `json:"peakGpuUtilization,omitempty"`
	PeakMemoryUsage    string     `json:"peakMemoryUsage,omitempty"`
	PeakMemoryBytes    int64      `json:"peakMemoryUsageBytes,omitempty"`
	TotalComputeTime   *float64   `json:"totalComputeTime,omitempty"` // seconds
	GPUs               []GPUUsage `json:"gpus,omitempty"`
	CPU                *CPUUsage  `json:"cpu,omitempty"`
}

// GPUUsage is one GPU of a job.
type GPUUsage struct {
	ID               string   `json:"id"`
	Type             string   `json:"type,omitempty"`
	Utilization      *int     `json:"utilization,omitempty"`
	MemoryUsed       string   `json:"memoryUsed,omitempty"`
	MemoryUsedBytes  int64    `json:"memoryUsedBytes,omitempty"`
	MemoryTotal      string   `json:"memoryTotal,omitempty"`
	MemoryTotalBytes int64    `json:"memoryTotalBytes,omitempty"`
	Temperature      *int     `json:"temperature,omitempty"`
	PowerUsage       string   `json:"powerUsage,omitempty"`
	PowerUsageWatts  *float64 `json:"powerUsageWatts,omitempty"`
}

// CPUUsage is the processor and memory side of a job.
type CPUUsage struct {
	Utilization float64 `json:"utilization"` // percent of the host's cores
	Cores       int     `json:"cores"`
	Memory      string  `json:"memory"` // the host's memory
	MemoryBytes int64   `json:"memoryBytes"`
}

// Execution is what the job has spent so far.
type Execution struct {
	Duration        float64 `json:"duration"`                  // seconds, of the newest attempt
	CostAccrued     *Money  `json:"costAccrued,omitempty"`     // of all accepted attempts; absent without a price
	TokensProcessed *int64  `json:"tokensProcessed,omitempty"` // as the handler told
	APICalls        *int64  `json:"apiCalls,omitempty"`        // as the handler told
}

// ColdStart is how the runtime instance came up, in seconds.
type ColdStart struct {
	Occurred    bool             `json:"occurred"`
	Duration    float64          `json:"duration"`
	Phases      *ColdStartPhases `json:"phases,omitempty"`
	CacheHit    *bool            `json:"cacheHit,omitempty"`
	Suggestions []string         `json:"optimizationSuggestions,omitempty"`
}

// ColdStartPhases add up to the cold start's duration.
type ColdStartPhases struct {
	ContainerStart float64 `json:"containerStart"`
	DependencyLoad float64 `json:"dependencyLoad"`
	ModelLoad      float64 `json:"modelLoad"`
}

// JobMetrics is include=metrics.
type JobMetrics struct {
	QueueWait *float64           `json:"queueWait,omitempty"` // seconds from submit to lease
	Attempts  int                `json:"attempts"`
	Custom    map[string]float64 `json:"custom,omitempty"`
}

// LogLine is one line of a job's log.
type LogLine struct {
	Time   Time   `json:"time"`
	Source string `json:"source"` // stdout, stderr, handler, agent
	Line   string `json:"line"`
}

// BatchStatusRequest is the body of POST /v2/jobs/status/batch.
type BatchStatusRequest struct {
	JobIDs  []string `json:"jobIds"`
	Include []string `json:"include,omitempty"`
}

// BatchStatusResponse answers it, in the order asked.
type BatchStatusResponse struct {
	Jobs   []JobStatus  `json:"jobs"`
	Errors []BatchError `json:"errors"`
}

// BatchError is one id that could not be answered.
type BatchError struct {
	JobID   string `json:"jobId"`
	Error   Code   `json:"error"`
	Message string `json:"message"`
}

// Page is one page of a list; NextCursor is empty on the last one. A page may
// hold fewer rows than asked for while more follow.
type Page[T any] struct {
	Data       []T    `json:"data"`
	NextCursor string `json:"nextCursor,omitempty"`
}

// AgentInfo is one agent as GET /v2/agents shows it.
type AgentInfo struct {
	ID          AgentID     `json:"id"`
	Org         string      `json:"org"` // whose key registered it
	Name        string      `json:"name"`
	Incarnation Incarnation `json:"incarnation"`
	Pool        string      `json:"pool,omitempty"`
	Slots       int         `json:"slots"`
	Running     int         `json:"running"`
	Connected   bool        `json:"connected"`
	LastSeen    Time        `json:"lastSeen,omitzero"`
	Kinds       []string    `json:"kinds,omitempty"`
	GPUs        []GPUFact   `json:"gpus,omitempty"`
	Host        *HostSample `json:"host,omitempty"`
	Version     string      `json:"version,omitempty"`
}
