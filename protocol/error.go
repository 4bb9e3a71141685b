package protocol

import "errors"

// Code is a stable, machine-readable error name in upper snake case.
type Code string

// The codes of request errors.
const (
	CodeValidation        Code = "VALIDATION_ERROR"
	CodeMalformed         Code = "MALFORMED_REQUEST"
	CodeTooLarge          Code = "PAYLOAD_TOO_LARGE"
	CodeUnauthorized      Code = "UNAUTHORIZED"
	CodeAccessDenied      Code = "ACCESS_DENIED"
	CodeCredits           Code = "INSUFFICIENT_CREDITS"
	CodeNotFound          Code = "NOT_FOUND"
	CodeMethodNotAllowed  Code = "METHOD_NOT_ALLOWED"
	CodeJobNotFound       Code = "JOB_NOT_FOUND"
	CodeEndpointNotFound  Code = "ENDPOINT_NOT_FOUND"
	CodeOrgNotFound       Code = "ORG_NOT_FOUND"
	CodeKeyNotFound       Code = "KEY_NOT_FOUND"
	CodeOutputNotReady    Code = "OUTPUT_NOT_READY"
	CodeOutputExpired     Code = "OUTPUT_EXPIRED"
	CodeConflict          Code = "CONFLICT"
	CodeEndpointInUse     Code = "ENDPOINT_IN_USE"
	CodeOrgInUse          Code = "ORG_IN_USE"
	CodeIdempotencyReused Code = "IDEMPOTENCY_KEY_REUSED"
	CodeQueueFull         Code = "QUEUE_FULL"
	CodeRateLimit         Code = "RATE_LIMIT_EXCEEDED"
	CodeStorageLimit      Code = "STORAGE_LIMIT_EXCEEDED"
	CodeNoLeader          Code = "NO_LEADER"
	CodeUnavailable       Code = "UNAVAILABLE"
	CodeInternal          Code = "INTERNAL_ERROR"
	CodeUpgradeRequired   Code = "UPGRADE_REQUIRED"
)

// The codes of agent writes that were refused.
const (
	CodeStaleAttempt     Code = "STALE_ATTEMPT"     // the fence (job, attempt, agent, incarnation) is not current
	CodeStaleIncarnation Code = "STALE_INCARNATION" // a newer life of this agent has registered
	CodeUnknownAgent     Code = "UNKNOWN_AGENT"     // register first
)

// The codes of job errors (the error object of a failed job).
const (
	CodeHandlerError     Code = "HANDLER_ERROR"      // the handler reported an error without a code
	CodeRuntimeCrashed   Code = "RUNTIME_CRASHED"    // the runtime process ended during the job
	CodeRuntimeStart     Code = "RUNTIME_START"      // the runtime did not become ready
	CodeRuntimeProtocol  Code = "RUNTIME_PROTOCOL"   // the runtime broke its protocol
	CodeExecutionTimeout Code = "EXECUTION_TIMEOUT"  // ran longer than policy.executionTimeout
	CodeStalled          Code = "STALLED"            // no sign of life for timeouts.stall
	CodeTTLExpired       Code = "TTL_EXPIRED"        // waited longer than policy.ttl
	CodeAgentLost        Code = "AGENT_LOST"         // its agents were lost too often
	CodeCancelled        Code = "CANCELLED"          // cancelled by a caller
	CodeResource         Code = "RESOURCE_EXHAUSTED" // out of memory, GPU memory or disk
	CodeOutputTooLarge   Code = "OUTPUT_TOO_LARGE"
	CodeOutputInvalid    Code = "OUTPUT_INVALID" // the output is not JSON
	CodeInvalidInput     Code = "INVALID_INPUT"  // the handler refused the input
	CodeRuntimeRefused   Code = "RUNTIME_REFUSED"
)

// HTTPStatus returns the status that a request error is answered with.
func (c Code) HTTPStatus() int {
	switch c {
	case CodeMalformed:
		return 400
	case CodeUnauthorized:
		return 401
	case CodeCredits:
		return 402
	case CodeAccessDenied:
		return 403
	case CodeNotFound, CodeJobNotFound, CodeEndpointNotFound, CodeOrgNotFound, CodeKeyNotFound:
		return 404
	case CodeMethodNotAllowed:
		return 405
	case CodeConflict, CodeEndpointInUse, CodeOrgInUse, CodeStaleAttempt, CodeStaleIncarnation, CodeUnknownAgent, CodeOutputNotReady:
		return 409
	case CodeOutputExpired:
		return 410
	case CodeTooLarge:
		return 413
	case CodeValidation, CodeIdempotencyReused:
		return 422
	case CodeUpgradeRequired:
		return 426
	case CodeQueueFull, CodeRateLimit:
		return 429
	case CodeNoLeader, CodeUnavailable:
		return 503
	case CodeStorageLimit:
		return 507
	default:
		return 500
	}
}

// Error is a request error as clients read it (seeds S0 and S2).
type Error struct {
	Code      Code           `json:"error"`
	Message   string         `json:"message"`
	Details   map[string]any `json:"details,omitempty"`
	RequestID string         `json:"requestId,omitempty"`

	// Status is the HTTP status of a received error; 0 on one made here.
	Status int `json:"-"`
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// NewError returns an error with its code and message.
func NewError(code Code, message string) *Error { return &Error{Code: code, Message: message} }

// With returns e after setting one detail.
func (e *Error) With(key string, value any) *Error {
	if e.Details == nil {
		e.Details = make(map[string]any)
	}
	e.Details[key] = value
	return e
}

// Invalid is a validation error about one field: its dotted path, the value as
// sent (nil when it is missing) and what it must be.
func Invalid(field string, value any, reason string) *Error {
	return &Error{Code: CodeValidation, Message: "Invalid input parameters", Details: map[string]any{
		"field": field, "value": value, "reason": reason,
	}}
}

// CodeOf returns the code of an *Error in err's chain, or "" if there is none.
func CodeOf(err error) Code {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// JobError is why a job failed (seed S2, "Failed Job Response").
type JobError struct {
	Code    Code           `json:"code"`
	Message string         `json:"message"`
	Details map[string]any `json:"details,omitempty"`
}

// Error implements error.
func (e *JobError) Error() string { return string(e.Code) + ": " + e.Message }
