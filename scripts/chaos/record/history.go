// Package record is what a run of chaos writes down: every call of a client,
// every start that a runtime saw, every fault, and what each coordinator
// applied. Nothing in it comes from the coordinators' own view of themselves
// but the applied log, which is compared between them. See ../DESIGN.md.
package record

import (
	"cmp"
	"encoding/json"
	"slices"
)

// Outcome is what a caller knows after a call.
type Outcome string

// The outcomes.
const (
	OK    Outcome = "ok"    // answered with success
	No    Outcome = "no"    // refused: it surely had no effect
	Maybe Outcome = "maybe" // nobody told: it may have had its effect, now or later
)

// The operations.
const (
	OpSubmit = "submit"
	OpRead   = "read"
	OpCancel = "cancel"
	OpWatch  = "watch" // one frame of a status stream; its end is when it came
)

// Call is one call of a client.
type Call struct {
	Client  string  `json:"client"`
	Op      string  `json:"op"`
	Node    string  `json:"node"`
	Task    int     `json:"task"`          // what the job is about, unique in a run
	Key     string  `json:"key,omitempty"` // idempotency key
	Input   string  `json:"input,omitempty"`
	Job     string  `json:"job,omitempty"`
	Start   int64   `json:"start"` // Now
	End     int64   `json:"end"`
	Outcome Outcome `json:"outcome"`
	Status  int     `json:"status,omitempty"` // HTTP; 0 when nobody answered
	Code    string  `json:"code,omitempty"`   // of an error
	Error   string  `json:"error,omitempty"`
	Index   uint64  `json:"index,omitempty"` // log index that the answer names
	Doc     *Doc    `json:"doc,omitempty"`   // the job as answered
	Stale   bool    `json:"stale,omitempty"` // asked with consistency=stale
}

// Doc is a job as a coordinator showed it.
type Doc struct {
	Job      string `json:"job"`
	Task     int    `json:"task"`
	Status   string `json:"status"`
	Attempt  int    `json:"attempt"`
	Index    uint64 `json:"index"` // log index of the job's last change
	Output   string `json:"output,omitempty"`
	Code     string `json:"code,omitempty"` // why it failed
	Replayed bool   `json:"replayed,omitempty"`
}

// Run is one line of the handlers' own journal.
type Run struct {
	Task  int    `json:"task"`
	Job   string `json:"job"`
	Agent string `json:"agent"`
	Event string `json:"event"` // start, or how it ended: result, error
	At    int64  `json:"at"`
	Pid   int    `json:"pid"`
	Input string `json:"input,omitempty"` // SHA-256 of what the handler was given
	Mode  string `json:"mode,omitempty"`  // how the task was told to misbehave
}

// EventStart marks the start of a run.
const EventStart = "start"

// EventResult marks a run that handed its result over.
const EventResult = "result"

// Fault is one injected fault.
type Fault struct {
	Name   string   `json:"name"` // the row of the table
	Target []string `json:"target"`
	At     int64    `json:"at"`
	Struck int64    `json:"struck,omitempty"` // when it was wholly in force; 0: at At
	Until  int64    `json:"until,omitempty"`  // when it was healed; 0: never
	Limit  int64    `json:"limit,omitempty"`  // ns until a submit must succeed again; 0: it does not measure availability
	Exit   string   `json:"exit,omitempty"`   // the coordinator that must end by itself
	Agents bool     `json:"agents,omitempty"` // it takes healthy agents away as well
}

// Exit is a coordinator that ended.
type Exit struct {
	Node string `json:"node"`
	At   int64  `json:"at"`
}

// Final is everything that one coordinator holds at the end.
type Final struct {
	Node   string `json:"node"`
	Index  uint64 `json:"index"`
	Digest string `json:"digest"`
	Docs   []Doc  `json:"docs"`
}

// Stall is a time in which this machine gave the harness no processor, or no
// disk; what took that long is nobody's fault.
type Stall struct {
	At   int64 `json:"at"`
	Span int64 `json:"span"`
}

// Applied is one entry of the log as one coordinator applied it.
type Applied struct {
	Node    string          `json:"-"`
	Index   uint64          `json:"i"`
	Term    uint64          `json:"t"`
	At      int64           `json:"m,omitempty"` // Now, when it had been applied
	Data    []byte          `json:"d"`           // the raft entry: command.Unmarshal reads it
	Results json.RawMessage `json:"r"`           // one result for each command
}

// History is everything that a run wrote down.
type History struct {
	Calls   []Call
	Runs    []Run
	Faults  []Fault
	Exits   []Exit
	Finals  []Final
	Stalls  []Stall
	Applied []Applied
	// Settled is false when the run was given up before every job could end.
	Settled bool
	// EndedAt is when the harness began to stop everything; 0: it never did.
	EndedAt int64
	// Lenient names jobs that may end otherwise than completed: tasks that were
	// told to misbehave, by task number.
	Lenient map[int]bool
	// QueueLimit is the coordinators' limits.queue; 0: not looked at.
	QueueLimit int
}

// stallChain is how many steps of a failover come one after the other and are
// as slow, about, as the one that was seen to be: a vote is asked for, written
// and answered, an entry is written here and there, a client hears of it.
const stallChain = 5

// Stolen is how much of a span of time this machine spoiled: its stalls, each
// with the steps that hang on it.
func (h *History) Stolen(from, to int64) int64 {
	var in []Stall
	for _, s := range h.Stalls {
		s.Span *= 1 + stallChain
		if s.At < to && s.At+s.Span > from {
			in = append(in, s)
		}
	}
	slices.SortFunc(in, func(a, b Stall) int { return cmp.Compare(a.At, b.At) })
	sum, seen := int64(0), from
	for _, s := range in {
		end := min(s.At+s.Span, to)
		sum += max(end-max(s.At, seen), 0)
		seen = max(seen, end)
	}
	return sum
}
