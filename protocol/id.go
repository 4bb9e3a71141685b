package protocol

import (
	"crypto/rand"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"
)

// JobID names a job. Its text is "job_" and a ULID; its bytes are the raw ULID,
// which sorts by creation time.
type JobID [16]byte

// AgentID names an agent's identity, which outlives restarts. Text "agt_" + ULID.
type AgentID [16]byte

// Incarnation names one life of an agent process. Text "inc_" + ULID.
type Incarnation [16]byte

// RequestID names one HTTP request. Text "req_" + ULID.
type RequestID [16]byte

const (
	jobPrefix         = "job_"
	agentPrefix       = "agt_"
	incarnationPrefix = "inc_"
	requestPrefix     = "req_"
)

// NewJobID returns an id for a job created at now; 80 of its bits are random.
func NewJobID(now time.Time) JobID { return JobID(newULID(now)) }

// NewAgentID returns an id for an agent first seen at now.
func NewAgentID(now time.Time) AgentID { return AgentID(newULID(now)) }

// NewIncarnation returns an id for an agent process started at now.
func NewIncarnation(now time.Time) Incarnation { return Incarnation(newULID(now)) }

// NewRequestID returns an id for a request received at now.
func NewRequestID(now time.Time) RequestID { return RequestID(newULID(now)) }

// ParseJobID reads the text form of a job id.
func ParseJobID(s string) (JobID, error) {
	id, err := parseID(jobPrefix, s)
	return JobID(id), err
}

// ParseAgentID reads the text form of an agent id.
func ParseAgentID(s string) (AgentID, error) {
	id, err := parseID(agentPrefix, s)
	return AgentID(id), err
}

// ParseIncarnation reads the text form of an incarnation.
func ParseIncarnation(s string) (Incarnation, error) {
	id, err := parseID(incarnationPrefix, s)
	return Incarnation(id), err
}

// String returns the text form.
func (id JobID) String() string { return jobPrefix + ulid.ULID(id).String() }

// String returns the text form.
func (id AgentID) String() string { return agentPrefix + ulid.ULID(id).String() }

// String returns the text form.
func (id Incarnation) String() string { return incarnationPrefix + ulid.ULID(id).String() }

// String returns the text form.
func (id RequestID) String() string { return requestPrefix + ulid.ULID(id).String() }

// IsZero reports whether the id was never set.
func (id JobID) IsZero() bool { return id == JobID{} }

// IsZero reports whether the id was never set.
func (id AgentID) IsZero() bool { return id == AgentID{} }

// IsZero reports whether the incarnation was never set.
func (id Incarnation) IsZero() bool { return id == Incarnation{} }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id JobID) MarshalText() ([]byte, error) { return marshalID(id.IsZero(), id.String()) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id AgentID) MarshalText() ([]byte, error) { return marshalID(id.IsZero(), id.String()) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id Incarnation) MarshalText() ([]byte, error) { return marshalID(id.IsZero(), id.String()) }

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *JobID) UnmarshalText(b []byte) error {
	return unmarshalID(jobPrefix, b, (*[16]byte)(id))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *AgentID) UnmarshalText(b []byte) error {
	return unmarshalID(agentPrefix, b, (*[16]byte)(id))
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (id *Incarnation) UnmarshalText(b []byte) error {
	return unmarshalID(incarnationPrefix, b, (*[16]byte)(id))
}

// CreatedAt returns the creation time that the id carries.
func (id JobID) CreatedAt() Time { return Time(ulid.ULID(id).Time()) }

func newULID(now time.Time) [16]byte {
	var id ulid.ULID
	// SetTime fails only after the year 10889; crypto/rand never returns an error.
	_ = id.SetTime(ulid.Timestamp(now))
	_, _ = rand.Read(id[6:])
	return id
}

func parseID(prefix, s string) ([16]byte, error) {
	var zero [16]byte
	if len(s) != len(prefix)+ulid.EncodedSize || s[:len(prefix)] != prefix {
		return zero, fmt.Errorf("cannot parse id %q: want %s and %d characters", clip(s), prefix, ulid.EncodedSize)
	}
	id, err := ulid.ParseStrict(s[len(prefix):])
	if err != nil {
		return zero, fmt.Errorf("cannot parse id %q: %w", clip(s), err)
	}
	if id.String() != s[len(prefix):] {
		return zero, fmt.Errorf("cannot parse id %q: not in canonical upper case", clip(s))
	}
	return id, nil
}

func marshalID(zero bool, s string) ([]byte, error) {
	if zero {
		return nil, nil
	}
	return []byte(s), nil
}

func unmarshalID(prefix string, b []byte, out *[16]byte) error {
	if len(b) == 0 {
		*out = [16]byte{}
		return nil
	}
	id, err := parseID(prefix, string(b))
	*out = id
	return err
}

// maxQuoted bounds how much of a caller's text an error repeats.
const maxQuoted = 64

func clip(s string) string {
	if len(s) > maxQuoted {
		return s[:maxQuoted] + "..."
	}
	return s
}
