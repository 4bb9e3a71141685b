package protocol

import (
	"bytes"
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

// KeyID names an API key. Text "key_" + ULID.
type KeyID [16]byte

// RequestID names one HTTP request. Text "req_" + ULID.
type RequestID [16]byte

const (
	jobPrefix         = "job_"
	agentPrefix       = "agt_"
	incarnationPrefix = "inc_"
	requestPrefix     = "req_"
	purgePrefix       = "prg_"
	keyPrefix         = "key_"
)

// textSize is the length of every id's text.
const textSize = len(jobPrefix) + ulid.EncodedSize

// NewJobID returns an id for a job created at now; 80 of its bits are random.
func NewJobID(now time.Time) JobID { return JobID(newULID(now)) }

// NewAgentID returns an id for an agent first seen at now.
func NewAgentID(now time.Time) AgentID { return AgentID(newULID(now)) }

// NewIncarnation returns an id for an agent process started at now.
func NewIncarnation(now time.Time) Incarnation { return Incarnation(newULID(now)) }

// NewRequestID returns an id for a request received at now.
func NewRequestID(now time.Time) RequestID { return RequestID(newULID(now)) }

// NewPurgeID returns a name for a purge that begins at now: "prg_" + ULID.
func NewPurgeID(now time.Time) string { return idText(purgePrefix, newULID(now)) }

// NewKeyID returns an id for an API key made at now.
func NewKeyID(now time.Time) KeyID { return KeyID(newULID(now)) }

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

// ParseKeyID reads the text form of an API key's id.
func ParseKeyID(s string) (KeyID, error) {
	id, err := parseID(keyPrefix, s)
	return KeyID(id), err
}

// DecodeKeyID reads the characters behind the prefix of an API key's id; false
// when they are none. It allocates nothing.
func DecodeKeyID(b []byte) (id KeyID, ok bool) {
	ok = decodeID("", b, (*[16]byte)(&id))
	return id, ok
}

// String returns the text form.
func (id JobID) String() string { return idText(jobPrefix, id) }

// String returns the text form.
func (id AgentID) String() string { return idText(agentPrefix, id) }

// String returns the text form.
func (id Incarnation) String() string { return idText(incarnationPrefix, id) }

// String returns the text form.
func (id RequestID) String() string { return idText(requestPrefix, id) }

// String returns the text form.
func (id KeyID) String() string { return idText(keyPrefix, id) }

// IsZero reports whether the id was never set.
func (id JobID) IsZero() bool { return id == JobID{} }

// IsZero reports whether the id was never set.
func (id KeyID) IsZero() bool { return id == KeyID{} }

// IsZero reports whether the id was never set.
func (id AgentID) IsZero() bool { return id == AgentID{} }

// IsZero reports whether the incarnation was never set.
func (id Incarnation) IsZero() bool { return id == Incarnation{} }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id JobID) MarshalText() ([]byte, error) { return marshalID(jobPrefix, id) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id AgentID) MarshalText() ([]byte, error) { return marshalID(agentPrefix, id) }

// MarshalText implements encoding.TextMarshaler; the zero id is empty text.
func (id Incarnation) MarshalText() ([]byte, error) { return marshalID(incarnationPrefix, id) }

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
	var id [16]byte
	if decodeID(prefix, []byte(s), &id) {
		return id, nil
	}
	if len(s) != len(prefix)+ulid.EncodedSize || s[:len(prefix)] != prefix {
		return id, fmt.Errorf("cannot parse id %q: want %s and %d characters", clip(s), prefix, ulid.EncodedSize)
	}
	if _, err := ulid.ParseStrict(s[len(prefix):]); err != nil {
		return id, fmt.Errorf("cannot parse id %q: %w", clip(s), err)
	}
	return id, fmt.Errorf("cannot parse id %q: not in canonical upper case", clip(s))
}

// decodeID takes exactly what appendID writes. It leaves out alone when it
// returns false, and allocates nothing: ids are most of what agents send.
func decodeID(prefix string, b []byte, out *[16]byte) bool {
	if len(b) != len(prefix)+ulid.EncodedSize || string(b[:len(prefix)]) != prefix {
		return false
	}
	var id ulid.ULID
	var again [ulid.EncodedSize]byte
	if id.UnmarshalText(b[len(prefix):]) != nil || id.MarshalTextTo(again[:]) != nil || !bytes.Equal(again[:], b[len(prefix):]) {
		return false
	}
	*out = id
	return true
}

func appendID(b []byte, prefix string, id [16]byte) []byte {
	var text [ulid.EncodedSize]byte
	_ = ulid.ULID(id).MarshalTextTo(text[:]) // fails only for another length
	return append(append(b, prefix...), text[:]...)
}

func idText(prefix string, id [16]byte) string {
	var text [textSize]byte
	return string(appendID(text[:0], prefix, id))
}

func marshalID(prefix string, id [16]byte) ([]byte, error) {
	if id == [16]byte{} {
		return nil, nil
	}
	return appendID(make([]byte, 0, textSize), prefix, id), nil
}

// appendQuoted appends the JSON form.
func (id JobID) appendQuoted(b []byte) []byte {
	b = append(b, '"')
	if !id.IsZero() {
		b = appendID(b, jobPrefix, id)
	}
	return append(b, '"')
}

func unmarshalID(prefix string, b []byte, out *[16]byte) error {
	if decodeID(prefix, b, out) {
		return nil
	}
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
