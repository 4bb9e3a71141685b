package state

import (
	"bytes"
	"math"

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

// Waits reports whether the job waits for its turn, or is held back from it.
func (j *Job) Waits() bool {
	return j.Status == protocol.StatusQueued || j.Status == protocol.StatusPaused
}

// Live reports whether the job is not terminal.
func (j *Job) Live() bool { return !j.Status.Terminal() }

func compareJobs(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) }

// attemptEra is how many attempts a job may have between two restores of a
// backup. Attempts are bounded far below it; only attempts that never started are
// not, and each of them takes a round trip to an agent.
const attemptEra = 1 << 16

// NextEra returns the first attempt above every one that a timeline may have
// granted which went on from a state with this attempt; false when there is none.
func NextEra(attempt uint32) (uint32, bool) {
	if attempt >= math.MaxUint32-attemptEra {
		return 0, false
	}
	return (attempt/attemptEra + 1) * attemptEra, true
}

// Tries is how many attempts the job had, without the eras that restored backups
// began.
func (j *Job) Tries() uint32 { return j.Attempt % attemptEra }

// Blobs calls fn for every blob that is kept as long as the row is: those of
// outputs with a time of their own are named by a Stored row instead.
func (j *Job) Blobs(fn func([32]byte)) {
	payloads := []Payload{j.Input}
	if x := j.Extra; x != nil {
		payloads = append(payloads, x.Checkpoint)
	}
	if o := j.Outcome; o != nil {
		payloads = append(payloads, o.Logs, o.Chunks)
		if o.OutputsUntilMs == 0 {
			payloads = append(payloads, o.Output)
		}
	}
	for _, p := range payloads {
		if p.Ref != nil {
			fn(p.Ref.SHA256)
		}
	}
}

// Outputs calls fn for every blob of the output and the files.
func (o *Outcome) Outputs(fn func(*Blob)) {
	if o.Output.Ref != nil {
		fn(o.Output.Ref)
	}
	for i := range o.Files {
		fn(&o.Files[i].Blob)
	}
}
