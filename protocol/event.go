package protocol

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// The event types of a status stream (ecosystem.md 2.2).
const (
	EventStatus = "status" // data is the whole status document
	EventOutput = "output" // data is an OutputEvent: one stream chunk
	EventLog    = "log"    // data is a LogLine
)

// Event is one server-sent event.
type Event struct {
	ID   string
	Type string
	Data []byte
}

// OutputEvent is one stream chunk of an attempt. Restart marks the first chunk
// of a new attempt: what was shown of the one before is void.
type OutputEvent struct {
	Attempt uint32          `json:"attempt"`
	Seq     uint64          `json:"seq"` // from 0
	Chunk   json.RawMessage `json:"chunk"`
	Restart bool            `json:"restart,omitempty"`
}

// AppendEvent appends the text/event-stream form. Line breaks in the id and
// type are removed, because they would start a new field.
func AppendEvent(b []byte, e Event) []byte {
	if e.ID != "" {
		b = append(append(append(b, "id: "...), oneLine(e.ID)...), '\n')
	}
	if e.Type != "" {
		b = append(append(append(b, "event: "...), oneLine(e.Type)...), '\n')
	}
	for line := range bytes.SplitSeq(e.Data, []byte{'\n'}) {
		b = append(append(append(b, "data: "...), bytes.ReplaceAll(line, []byte{'\r'}, nil)...), '\n')
	}
	return append(b, '\n')
}

// AppendComment appends a comment line, which keeps a connection alive.
func AppendComment(b []byte, text string) []byte {
	return append(append(append(b, ": "...), oneLine(text)...), '\n', '\n')
}

func oneLine(s string) string {
	return strings.NewReplacer("\n", "", "\r", "", "\x00", "").Replace(s)
}

// MaxEvent bounds one received event; a status document with its logs stays far below.
const MaxEvent = 128 << 20

// EventReader reads a text/event-stream.
type EventReader struct {
	r *bufio.Reader
}

// NewEventReader reads events from r.
func NewEventReader(r io.Reader) *EventReader {
	return &EventReader{r: bufio.NewReaderSize(r, 64<<10)}
}

// Next returns the next event with data; io.EOF at the end of the stream. An
// event that the stream breaks off in the middle is dropped, as the format says.
func (r *EventReader) Next() (Event, error) {
	var e Event
	var data []byte
	has := false
	for {
		line, err := r.readLine()
		if err != nil {
			return Event{}, err
		}
		if len(line) == 0 {
			if has {
				e.Data = data
				return e, nil
			}
			e = Event{}
			continue
		}
		field, value, _ := bytes.Cut(line, []byte{':'})
		value = bytes.TrimPrefix(value, []byte{' '})
		switch string(field) {
		case "id":
			e.ID = string(value)
		case "event":
			e.Type = string(value)
		case "data":
			if has {
				data = append(data, '\n')
			}
			has = true
			data = append(data, value...)
			if len(data) > MaxEvent {
				return Event{}, fmt.Errorf("cannot read event: longer than %d bytes", MaxEvent)
			}
		}
	}
}

func (r *EventReader) readLine() ([]byte, error) {
	var line []byte
	for {
		part, err := r.r.ReadSlice('\n')
		line = append(line, part...)
		if err == nil {
			return bytes.TrimRight(line, "\r\n"), nil
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
		if len(line) > MaxEvent {
			return nil, fmt.Errorf("cannot read event: line longer than %d bytes", MaxEvent)
		}
	}
}
