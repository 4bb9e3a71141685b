package protocol

import (
	"encoding/json"
	"time"
)

// SubmitRequest is the body of POST /v2/endpoints/{id}/runasync (seeds S0, S3).
// Unknown keys are ignored.
type SubmitRequest struct {
	Input          json.RawMessage   `json:"input"`
	Async          *bool             `json:"async,omitempty"` // accepted and without effect
	CallbackURL    string            `json:"callbackUrl,omitempty"`
	Webhook        json.RawMessage   `json:"webhook,omitempty"` // text, or {"url": text}
	Priority       string            `json:"priority,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	IdempotencyKey string            `json:"idempotencyKey,omitempty"`
	Policy         *SubmitPolicy     `json:"policy,omitempty"`
}

// SubmitPolicy holds one job's overrides, in integer milliseconds.
type SubmitPolicy struct {
	ExecutionTimeout int64 `json:"executionTimeout,omitempty"`
	TTL              int64 `json:"ttl,omitempty"`
	LowPriority      bool  `json:"lowPriority,omitempty"`
}

// SubmitResponse is the answer to a submit (seed S0, "Response").
type SubmitResponse struct {
	JobID             JobID             `json:"jobId"`
	TaskID            JobID             `json:"taskId"`
	Status            Status            `json:"status"`
	EndpointID        string            `json:"endpointId"`
	Priority          Priority          `json:"priority"`
	EstimatedDuration *float64          `json:"estimatedDuration,omitempty"` // seconds
	CreatedAt         Time              `json:"createdAt"`
	StatusURL         string            `json:"statusUrl"`
	Tags              map[string]string `json:"tags,omitempty"`
}

// CheckPolicyTime refuses a policy value outside 1 s to 7 days; field is its path.
func CheckPolicyTime(field string, ms int64) *Error {
	if ms < MinPolicyTime.Milliseconds() || ms > MaxPolicyTime.Milliseconds() {
		return Invalid(field, ms, "Must be an integer number of milliseconds between 1000 (1 s) and 604800000 (7 days)")
	}
	return nil
}

// Millis is d in integer milliseconds.
func Millis(d time.Duration) int64 { return d.Milliseconds() }
