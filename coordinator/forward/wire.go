package forward

import (
	"encoding/binary"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// The methods of the peer port that this package serves.
const (
	methodWrite     = "forward/write"
	methodReadIndex = "forward/readindex"
)

var errShort = errors.New("the answer has another number of results than the call had commands")

// request is the commands of one call, as they stand in the log.
type request struct{ commands []*command.Command }

// MarshalBinary implements encoding.BinaryMarshaler.
func (r *request) MarshalBinary() ([]byte, error) {
	b, err := proto.Marshal(&command.Batch{Commands: r.commands})
	if err != nil {
		return nil, fmt.Errorf("cannot encode commands: %w", err)
	}
	return b, nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *request) UnmarshalBinary(b []byte) error {
	var batch command.Batch
	if err := proto.Unmarshal(b, &batch); err != nil {
		return fmt.Errorf("cannot decode commands: %w", err)
	}
	r.commands = batch.Commands
	return nil
}

// response is one answer for each command. Most are a job's id and its time:
// some 30 bytes.
type response struct{ answers []answer }

// The flags of an encoded answer.
const (
	flagError    = 1 << iota // an error: code, message, outcome
	flagReplayed             // Result.Replayed
	flagRefused              // a code, a message, a limit and a count follow
	flagNumbers              // attempt and revision follow
	flagCount                // a count follows what was not refused: commands of level 3 and later only
)

// MarshalBinary implements encoding.BinaryMarshaler.
func (r *response) MarshalBinary() ([]byte, error) {
	const usual = 48
	b := make([]byte, 0, len(r.answers)*usual)
	for i := range r.answers {
		b = r.answers[i].append(b)
	}
	return b, nil
}

func (a *answer) append(b []byte) []byte {
	if a.err != nil {
		e := known(a.err)
		result, _ := e.Details["outcome"].(string)
		return appendText(appendText(appendText(append(b, flagError), string(e.Code)), e.Message), result)
	}
	r, flags := &a.result, byte(0)
	if r.Replayed {
		flags |= flagReplayed
	}
	switch {
	case r.Code != "":
		flags |= flagRefused
	case r.Count != 0:
		flags |= flagCount
	}
	if r.Attempt != 0 || r.Revision != 0 {
		flags |= flagNumbers
	}
	b = append(append(b, flags), r.Job[:]...)
	b = binary.AppendUvarint(b, r.Index)
	b = binary.AppendVarint(b, r.CreatedMs)
	b = binary.AppendUvarint(b, uint64(r.Run))
	if flags&flagNumbers != 0 {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(r.Attempt)), r.Revision)
	}
	if flags&flagRefused != 0 {
		b = binary.AppendVarint(appendText(appendText(appendText(b, string(r.Code)), r.Message), r.Limit), r.Count)
	}
	if flags&flagCount != 0 {
		b = binary.AppendVarint(b, r.Count)
	}
	return b
}

// known is the error as the other side may read it. One that is not ours may
// have come after the command was in the log.
func known(err error) *protocol.Error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e
	}
	return protocol.NewError(protocol.CodeUnavailable, "the leader could not finish the write: "+err.Error()).With("outcome", outcomeUnknown)
}

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (r *response) UnmarshalBinary(b []byte) error {
	d := decoder{b: b}
	for len(d.b) > 0 && !d.bad {
		r.answers = append(r.answers, d.answer())
	}
	if d.bad {
		return errors.New("cannot decode results: they break off")
	}
	return nil
}

// decoder reads answers; bad is set when something is missing.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) answer() answer {
	flags := d.take(1)[0]
	if flags&flagError != 0 {
		e := protocol.NewError(protocol.Code(d.text()), d.text())
		if result := d.text(); result != "" {
			e.With("outcome", result)
		}
		return answer{err: e}
	}
	r := command.Result{Replayed: flags&flagReplayed != 0}
	copy(r.Job[:], d.take(len(r.Job)))
	r.Index, r.CreatedMs, r.Run = d.uint(), d.int(), uint32(d.uint())
	if flags&flagNumbers != 0 {
		r.Attempt, r.Revision = uint32(d.uint()), d.uint()
	}
	if flags&flagRefused != 0 {
		r.Code, r.Message, r.Limit, r.Count = protocol.Code(d.text()), d.text(), d.text(), d.int()
	}
	if flags&flagCount != 0 {
		r.Count = d.int()
	}
	return answer{result: r}
}

// take returns the next n bytes; zeros when there are less.
func (d *decoder) take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.bad = true
		d.b = nil
		return make([]byte, min(max(n, 1), len(protocol.JobID{})))
	}
	part := d.b[:n]
	d.b = d.b[n:]
	return part
}

func (d *decoder) uint() uint64 {
	v, n := binary.Uvarint(d.b)
	d.take(number(n))
	return v
}

func (d *decoder) int() int64 {
	v, n := binary.Varint(d.b)
	d.take(number(n))
	return v
}

// number is the length of a number; one that is cut off counts as too long.
func number(n int) int {
	if n <= 0 {
		return -1
	}
	return n
}

func (d *decoder) text() string {
	n := d.uint()
	if n > uint64(len(d.b)) {
		d.take(-1)
		return ""
	}
	return string(d.take(int(n)))
}

// index is a position in the log.
type index uint64

// MarshalBinary implements encoding.BinaryMarshaler.
func (i index) MarshalBinary() ([]byte, error) {
	return binary.AppendUvarint(nil, uint64(i)), nil
}

// UnmarshalBinary implements encoding.BinaryUnmarshaler.
func (i *index) UnmarshalBinary(b []byte) error {
	v, n := binary.Uvarint(b)
	if n <= 0 {
		return errors.New("cannot decode index: it breaks off")
	}
	*i = index(v)
	return nil
}
