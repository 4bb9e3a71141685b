package protocol

import (
	"encoding/json"
	"strings"
)

// OrgDefault is the organisation that exists from the first start.
const OrgDefault = "org_default"

// EndpointName names an endpoint where those of several organisations meet: on an
// agent, and in what it says. One of the first organisation goes by its id alone.
func EndpointName(org, id string) string {
	if org == "" || org == OrgDefault {
		return id
	}
	return org + "/" + id
}

// SplitEndpointName is the reverse of EndpointName.
func SplitEndpointName(name string) (org, id string) {
	if org, id, ok := strings.Cut(name, "/"); ok {
		return org, id
	}
	return OrgDefault, name
}

// EndpointKind is the kind field of an endpoint document.
const EndpointKind = "Endpoint"

// Endpoint is one endpoint document: the same in files, API and CLI (DESIGN 5).
type Endpoint struct {
	Kind        string            `json:"kind,omitempty"`
	ID          string            `json:"id"`
	Org         string            `json:"org,omitempty"`      // set by the server
	Revision    uint64            `json:"revision,omitempty"` // set by the server; sent back on update it must match
	Labels      map[string]string `json:"labels,omitempty"`
	Runtime     RuntimeSpec       `json:"runtime"`
	Resources   ResourceSpec      `json:"resources,omitzero"`
	Pool        string            `json:"pool,omitempty"`
	Concurrency int               `json:"concurrency,omitempty"` // jobs at once in one instance; default 1
	Policy      EndpointPolicy    `json:"policy,omitzero"`
	Warm        WarmPolicy        `json:"warm,omitzero"`
	Timeouts    Timeouts          `json:"timeouts,omitzero"`
	Price       Price             `json:"price,omitzero"`
	Input       InputSpec         `json:"input,omitzero"`
	QueueLimit  int               `json:"queueLimit,omitempty"`
	MaxRunning  int               `json:"maxRunning,omitempty"`
	Fairness    Fairness          `json:"fairness,omitzero"`
	Outputs     OutputSpec        `json:"outputs,omitzero"`
	Paused      bool              `json:"paused,omitempty"` // set by pause and resume
}

// RuntimeSpec says what runs the endpoint's jobs on an agent.
type RuntimeSpec struct {
	Kind    string              `json:"kind"` // builtin, command, ...
	Command []string            `json:"command,omitempty"`
	Workdir string              `json:"workdir,omitempty"`
	Env     map[string]EnvValue `json:"env,omitempty"`
	Model   string              `json:"model,omitempty"`   // builtin: a GGUF file on the agent; empty is the embedded model
	Handler string              `json:"handler,omitempty"` // builtin: story, document, echo
}

// EnvValue is a literal, or where the agent finds the value. Its JSON is text
// or an object with fromFile or fromEnv; secrets never reach the coordinator.
type EnvValue struct {
	Literal  string
	FromFile string
	FromEnv  string
}

type envObject struct {
	FromFile string `json:"fromFile,omitempty"`
	FromEnv  string `json:"fromEnv,omitempty"`
}

// MarshalJSON implements json.Marshaler.
func (v EnvValue) MarshalJSON() ([]byte, error) {
	if v.FromFile != "" || v.FromEnv != "" {
		return EncodeJSON(envObject{FromFile: v.FromFile, FromEnv: v.FromEnv})
	}
	return EncodeJSON(v.Literal)
}

// UnmarshalJSON implements json.Unmarshaler; numbers and booleans become text.
func (v *EnvValue) UnmarshalJSON(b []byte) error {
	var o envObject
	if len(b) > 0 && b[0] == '{' {
		err := json.Unmarshal(b, &o)
		*v = EnvValue{FromFile: o.FromFile, FromEnv: o.FromEnv}
		return err
	}
	if len(b) > 0 && b[0] != '"' {
		*v = EnvValue{Literal: string(b)}
		return nil
	}
	*v = EnvValue{}
	return json.Unmarshal(b, &v.Literal)
}

// ResourceSpec is what one job needs of an agent.
type ResourceSpec struct {
	GPUs    int    `json:"gpus,omitempty"`
	VRAM    Size   `json:"vram,omitempty"`
	GPUType string `json:"gpuType,omitempty"`
	CPU     bool   `json:"cpu,omitempty"`
}

// EndpointPolicy holds an endpoint's defaults; zero is the default of limits.go.
type EndpointPolicy struct {
	ExecutionTimeout Duration `json:"executionTimeout,omitempty"`
	TTL              Duration `json:"ttl,omitempty"`
	MaxAttempts      int      `json:"maxAttempts,omitempty"`
	RetryTimeout     bool     `json:"retryTimeout,omitempty"` // an execution timeout counts as a retryable failure
}

// WarmPolicy says how many instances of a runtime stay loaded on an agent.
type WarmPolicy struct {
	Min  int      `json:"min,omitempty"`
	Max  int      `json:"max,omitempty"` // 0: as many as the agent has slots
	Keep Duration `json:"keep,omitempty"`
}

// Timeouts bound a runtime's start and its silence.
type Timeouts struct {
	Start Duration `json:"start,omitempty"` // default 5m, restarted by signs of life
	Stall Duration `json:"stall,omitempty"` // 0: silence is no fault
}

// Price is what an endpoint's jobs cost.
type Price struct {
	GPUSecond Money `json:"gpuSecond,omitempty"` // for each GPU and second; a job without GPUs counts as one
}

// Cost is what a run of so many milliseconds costs at the document's price.
func (e *Endpoint) Cost(ms int64) Money { return e.Price.GPUSecond.For(max(e.Resources.GPUs, 1), ms) }

// InputSpec validates inputs.
type InputSpec struct {
	Schema json.RawMessage `json:"schema,omitempty"`
}

// Fairness opts out of strict priority.
type Fairness struct {
	Ageing Duration `json:"ageing,omitempty"`
}

// OutputSpec bounds what travels inline.
type OutputSpec struct {
	InlineMax Size `json:"inlineMax,omitempty"`
}
