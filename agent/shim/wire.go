package shim

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"windlass/inference"
	"windlass/protocol"
)

// maxMessage bounds one line of the socket: the largest input with its frame.
const maxMessage = 64 << 20

// maxUpdate bounds the logs and chunks of one update message.
const maxUpdate = 1 << 20

// messageType says which fields of a message are set.
type messageType string

// From the agent.
const (
	msgInvoke   messageType = "invoke"   // Run, Job, TimeoutMs, ColdStart
	msgCancel   messageType = "cancel"   // Run, Reason
	msgPause    messageType = "pause"    // Run
	msgRenumber messageType = "renumber" // Run, Attempt
	msgStop     messageType = "stop"     // GraceMs
)

// From the shim.
const (
	msgHello   messageType = "hello"   // Version, Runs; first on every connection
	msgEvent   messageType = "event"   // Event: one of the start
	msgReady   messageType = "ready"   // Info, PIDs
	msgRetired messageType = "retired" // the instance takes no further job; before the result that says why
	msgUpdate  messageType = "update"  // Run, Update
	msgResult  messageType = "result"  // Run, Attempt, Released, Crashed: the journal holds the rest
	msgExit    messageType = "exit"    // Failure, nil after a stop
)

// message is one JSON line.
type message struct {
	Type      messageType             `json:"type"`
	Version   int                     `json:"version,omitempty"`
	Run       string                  `json:"run,omitempty"` // names an invocation for as long as it lives
	Job       *inference.Job          `json:"job,omitempty"`
	Attempt   uint32                  `json:"attempt,omitempty"`
	TimeoutMs int64                   `json:"timeoutMs,omitempty"`
	Reason    reason                  `json:"reason,omitempty"`
	GraceMs   int64                   `json:"graceMs,omitempty"`
	Runs      []runningJob            `json:"runs,omitempty"`
	Info      *inference.Info         `json:"info,omitempty"`
	PIDs      []int                   `json:"pids,omitempty"`
	ColdStart *protocol.ColdStart     `json:"coldStart,omitempty"`
	Event     *inference.Event        `json:"event,omitempty"`
	Update    *protocol.AttemptUpdate `json:"update,omitempty"`
	Released  bool                    `json:"released,omitempty"`
	Crashed   bool                    `json:"crashed,omitempty"`
	Failure   *inference.Failure      `json:"failure,omitempty"`
}

// runningJob is one invocation that a shim has.
type runningJob struct {
	Run     string         `json:"run"`
	Job     protocol.JobID `json:"job"`
	Attempt uint32         `json:"attempt"`
}

// reason is the cause of a cancel on the wire.
type reason string

const (
	reasonCancelled reason = "cancelled"
	reasonTimeout   reason = "timeout"
	reasonDrain     reason = "drain"
)

func (r reason) cause() error {
	switch r {
	case reasonTimeout:
		return inference.ErrTimeout
	case reasonDrain:
		return inference.ErrDrain
	case reasonCancelled:
	}
	return inference.ErrCancelled
}

func reasonOf(cause error) reason {
	switch {
	case errors.Is(cause, inference.ErrTimeout):
		return reasonTimeout
	case errors.Is(cause, inference.ErrDrain):
		return reasonDrain
	}
	return reasonCancelled
}

// reader reads messages.
type reader struct{ r *bufio.Reader }

func newReader(r io.Reader) *reader { return &reader{bufio.NewReaderSize(r, 64<<10)} }

// next reads one message. Types that are not known are the caller's to ignore.
func (r *reader) next() (message, error) {
	var line []byte
	for {
		part, err := r.r.ReadSlice('\n')
		if len(line)+len(part) > maxMessage {
			return message{}, fmt.Errorf("cannot read message: longer than %d bytes", maxMessage)
		}
		line = append(line, part...)
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return message{}, err
		}
	}
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("cannot parse message: %w", err)
	}
	return m, nil
}

func encode(m message) ([]byte, error) {
	b, err := protocol.EncodeJSON(m)
	if err != nil {
		return nil, fmt.Errorf("cannot encode message: %w", err)
	}
	return append(b, '\n'), nil
}
