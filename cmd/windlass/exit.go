package main

import (
	"context"
	"errors"
	"fmt"

	"windlass/protocol"
	"windlass/protocol/client"
)

// The exit codes (ecosystem.md 4.1); they are documented and never reused.
const (
	exitOK           = 0
	exitFailed       = 1
	exitUsage        = 2
	exitInterrupted  = 3
	exitAuth         = 4
	exitNotFound     = 5
	exitUnavailable  = 6
	exitConflict     = 7
	exitLimited      = 8
	exitTimeout      = 9
	exitJobFailed    = 10
	exitJobCancelled = 11
	exitJobTimeout   = 12
)

const exitCodesHelp = `Exit codes:
  0  done                            7  conflict
  1  failed                          8  rate limit or queue full
  2  usage                           9  --timeout reached, the work continues
  3  interrupted by the user        10  with --wait: the job failed
  4  not authenticated or allowed   11  with --wait: the job was cancelled
  5  not found                      12  with --wait: the job timed out
  6  no leader or cannot connect`

// exitError is an error that brings its exit code.
type exitError struct {
	code int
	err  error // nil: everything was said already
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// errTimeout is the cause of a context that --timeout ended.
var errTimeout = errors.New("--timeout reached")

func exitCode(err error) int {
	var own *exitError
	var e *protocol.Error
	switch {
	case errors.As(err, &own):
		return own.code
	case errors.Is(err, errTimeout):
		return exitTimeout
	case errors.Is(err, context.Canceled):
		return exitInterrupted
	case errors.As(err, &e):
		return codeOfAnswer(e)
	case errors.Is(err, client.ErrUnreachable):
		return exitUnavailable
	default:
		return exitFailed
	}
}

func codeOfAnswer(e *protocol.Error) int {
	status := e.Status
	if status == 0 {
		status = e.Code.HTTPStatus()
	}
	switch status {
	case 401, 403:
		return exitAuth
	case 404:
		return exitNotFound
	case 409:
		return exitConflict
	case 429:
		return exitLimited
	case 502, 503, 504:
		return exitUnavailable
	default:
		return exitFailed
	}
}

// describe is the one line about err: what, why, and what to do about it.
func describe(err error) string {
	var own *exitError
	if errors.As(err, &own) && own.err == nil {
		return ""
	}
	text := err.Error()
	var e *protocol.Error
	if errors.As(err, &e) {
		text += details(e)
	}
	if errors.Is(err, context.Canceled) {
		text = "interrupted"
	}
	if r := remedy(err, e); r != "" {
		text += "; " + r
	}
	return text
}

func details(e *protocol.Error) string {
	text := ""
	if field, ok := e.Details["field"]; ok {
		text = fmt.Sprintf(": %v: %v", field, e.Details["reason"])
	}
	if e.RequestID != "" {
		text += " (" + e.RequestID + ")"
	}
	return text
}

func remedy(err error, e *protocol.Error) string {
	if e == nil {
		if r := tlsRemedy(err); r != "" {
			return r
		}
		if errors.Is(err, client.ErrUnreachable) {
			return "check WINDLASS_ADDR, or start one with: windlass dev"
		}
		return ""
	}
	switch e.Code {
	case protocol.CodeUnauthorized:
		return "set WINDLASS_API_KEY to a valid key (windlass dev prints one)"
	case protocol.CodeAccessDenied:
		return "ask an administrator for a key with this permission"
	case protocol.CodeEndpointNotFound:
		return "list what there is with: windlass endpoint list"
	case protocol.CodeJobNotFound:
		return "list what there is with: windlass job list"
	case protocol.CodeKeyNotFound:
		return "list what there is with: windlass key list"
	case protocol.CodeOrgNotFound:
		return "list what there is with: windlass org list"
	case protocol.CodeOutputNotReady:
		return "follow the job with: windlass job watch JOB"
	case protocol.CodeEndpointInUse:
		return "see its jobs with: windlass job list --endpoint ENDPOINT"
	case protocol.CodeNoLeader, protocol.CodeUnavailable:
		return "try again in a few seconds"
	case protocol.CodeQueueFull, protocol.CodeRateLimit:
		return "wait and try again"
	default:
		return ""
	}
}
