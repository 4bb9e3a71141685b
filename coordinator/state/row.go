package state

import (
	"bytes"

	"windlass/protocol"
)

// Expired reports whether the key is free at the given FSM clock.
func (k *Key) Expired(clockMs int64) bool { return k.ExpiresMs != 0 && clockMs >= k.ExpiresMs }

// ExpiresAtMs returns the FSM clock at which a job that still waits times out,
// or 0 when it may wait for ever.
func (j *Job) ExpiresAtMs() int64 {
	if j.TTLMs <= 0 {
		return 0
	}
	if j.Extra != nil && j.Extra.ReopenedMs > 0 {
		return j.Extra.ReopenedMs + j.TTLMs
	}
	return j.CreatedMs + j.TTLMs
}

// Live reports whether the job is not terminal.
func (j *Job) Live() bool { return !j.Status.Terminal() }

func compareJobs(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) }
