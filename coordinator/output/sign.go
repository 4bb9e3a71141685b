// Package output shows what a job made, the same in every answer: the handler's
// own output, with signed URLs of what is in the blob store. See DESIGN.md.
package output

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/url"
	"strconv"
	"strings"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Whole is the part that is the output's JSON itself; the files are 0 and up.
const Whole = -1

// wholeName is what the output's JSON is saved as.
const wholeName = "output.json"

// Secret is the cluster's; all zero: there is none yet, and nothing is signed.
type Secret [32]byte

// macSize is how much of an HMAC a signature has: 128 bits are beyond guessing,
// and URLs are read by people.
const macSize = 16

// Ticket names one part of what one attempt made, for whoever has it, until it
// expires. It is bound to the job, and through it to its organisation.
type Ticket struct {
	Job     protocol.JobID
	Attempt uint32 // of the outcome: another attempt's output is another one
	Part    int    // Whole, or the number of a file
	Expires int64  // unix seconds
}

func (t Ticket) mac(secret Secret) []byte {
	m := hmac.New(sha256.New, secret[:])
	b := append([]byte("windlass output 1\x00"), t.Job[:]...)
	b = binary.BigEndian.AppendUint32(b, t.Attempt)
	b = binary.BigEndian.AppendUint32(b, uint32(int32(t.Part)))
	b = binary.BigEndian.AppendUint64(b, uint64(t.Expires))
	m.Write(b)
	return m.Sum(nil)[:macSize]
}

// query is the ticket as a URL carries it.
func (t Ticket) query(secret Secret) string {
	return "part=" + strconv.FormatUint(uint64(t.Attempt), 10) + "." + strconv.Itoa(t.Part) +
		"&expires=" + strconv.FormatInt(t.Expires, 10) +
		"&signature=" + base64.RawURLEncoding.EncodeToString(t.mac(secret))
}

// Open reads a ticket that a URL carries. It returns false for whatever was not
// signed with the secret; whether the ticket has expired is the caller's to ask.
func Open(secret Secret, job, part, expires, signature string) (Ticket, bool) {
	id, err := protocol.ParseJobID(job)
	if err != nil || secret == (Secret{}) {
		return Ticket{}, false
	}
	attempt, number, _ := strings.Cut(part, ".")
	a, err1 := strconv.ParseUint(attempt, 10, 32)
	n, err2 := strconv.ParseInt(number, 10, 16)
	at, err3 := strconv.ParseInt(expires, 10, 64)
	mac, err4 := base64.RawURLEncoding.Strict().DecodeString(signature)
	if err1 != nil || err2 != nil || err3 != nil || err4 != nil || n < Whole {
		return Ticket{}, false
	}
	t := Ticket{Job: id, Attempt: uint32(a), Part: int(n), Expires: at}
	return t, hmac.Equal(mac, t.mac(secret))
}

// URL is where a part of a job's output can be fetched without a key until its
// time is over; base is that of the API, without /v2. It is the same whenever it
// is asked for. Empty: the part is not kept any more, or nothing can be signed.
func URL(secret Secret, base string, j *state.Job, part int, nowMs int64) string {
	o := j.Outcome
	if secret == (Secret{}) || !Kept(o, nowMs) {
		return ""
	}
	t := Ticket{Job: j.ID, Attempt: o.Attempt, Part: part, Expires: ExpiresMs(o) / 1000}
	return base + "/v2/outputs/" + j.ID.String() + "/" + url.PathEscape(Name(o, part)) + "?" + t.query(secret)
}

// Name is the name of a part; empty when there is no such part.
func Name(o *state.Outcome, part int) string {
	switch {
	case part == Whole:
		return wholeName
	case part >= 0 && part < len(o.Files):
		return o.Files[part].Name
	}
	return ""
}

// ExpiresMs is when the URLs of an outcome expire, in unix milliseconds.
func ExpiresMs(o *state.Outcome) int64 {
	if o.OutputsUntilMs != 0 {
		return o.OutputsUntilMs
	}
	return o.EndedMs + protocol.OutputTerm.Milliseconds()
}

// Kept reports whether what the outcome has can still be fetched.
func Kept(o *state.Outcome, nowMs int64) bool { return nowMs < ExpiresMs(o) }
