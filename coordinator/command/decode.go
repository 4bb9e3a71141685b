package command

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
)

const (
	// maxWords bounds the texts that a Decoder keeps to share: names of endpoints
	// and organisations, reasons, outcomes. When there are more it begins anew.
	maxWords = 4096
	// maxWord is longer than a name of ours.
	maxWord = 64
)

// Decoder reads entries as Unmarshal does, for one goroutine that has used a batch
// before it reads the next. Its zero value is ready.
//
// What it reads lives in memory that the next Decode uses again; ids and hashes
// are in the entry's own. Payloads, and every other text and byte slice that a row
// keeps, are copies that are shared with nothing but equal ones.
type Decoder struct {
	batch    Batch
	submits  parts[submitParts]
	leases   parts[leaseParts]
	finishes parts[finishParts]
	words    map[string]string
	noFacts  []byte
}

type submitParts struct {
	command Command
	op      Command_Submit
	submit  Submit
	input   Payload
}

type leaseParts struct {
	command Command
	op      Command_Lease
	lease   Lease
}

type finishParts struct {
	command              Command
	op                   Command_Finish
	finish               Finish
	output, logs, chunks Payload
	checkpoint           Payload
}

// parts is messages of one kind that are used again.
type parts[T any] struct {
	list []*T
	used int
}

func (p *parts[T]) next() *T {
	if p.used == len(p.list) {
		p.list = append(p.list, new(T))
	}
	p.used++
	return p.list[p.used-1]
}

// reset empties what was used, so that nothing is kept for it.
func (p *parts[T]) reset() {
	var zero T
	for _, t := range p.list[:p.used] {
		*t = zero
	}
	p.used = 0
}

// Decode reads one entry. Errors: those of Unmarshal.
func (d *Decoder) Decode(entry []byte) (*Batch, error) {
	body, err := open(entry)
	if err != nil {
		return nil, err
	}
	d.reset()
	if !d.read(body) {
		return Unmarshal(entry) // which says what is wrong
	}
	for i, c := range d.batch.Commands {
		if err := Check(c); err != nil {
			return nil, fmt.Errorf("cannot read command %d: %w", i, err)
		}
	}
	return &d.batch, nil
}

func (d *Decoder) reset() {
	d.submits.reset()
	d.leases.reset()
	d.finishes.reset()
	clear(d.batch.Commands)
	d.batch = Batch{Commands: d.batch.Commands[:0]}
	if d.words == nil || len(d.words) >= maxWords {
		d.words = make(map[string]string)
		d.noFacts = []byte("{}")
	}
}

// field is one field of a message: a number, or bytes.
type field struct {
	number int
	bytes  bool
	value  uint64
	data   []byte
}

// cut takes the first field off a message; false when it is of another wire type
// or broken.
func cut(b []byte) (f field, rest []byte, ok bool) {
	tag, n := binary.Uvarint(b)
	if n <= 0 || tag>>3 > 1<<10 {
		return f, nil, false
	}
	f.number, b = int(tag>>3), b[n:]
	if f.value, n = binary.Uvarint(b); n <= 0 {
		return f, nil, false
	}
	b = b[n:]
	switch tag & 7 {
	case wireVarint:
		return f, b, true
	case wireBytes:
		if f.value > uint64(len(b)) {
			return f, nil, false
		}
		f.bytes, f.data = true, b[:f.value:f.value]
		return f, b[f.value:], true
	}
	return f, nil, false
}

// each calls take for every field of a message; false when one is not taken.
func each(b []byte, take func(f field) bool) bool {
	for len(b) > 0 {
		f, rest, ok := cut(b)
		if !ok || !take(f) {
			return false
		}
		b = rest
	}
	return true
}

// read reads a batch; false when something in it is wrong or of a newer version, and
// then nothing that was read counts.
func (d *Decoder) read(body []byte) bool {
	for len(body) > 0 {
		f, rest, ok := cut(body)
		switch {
		case !ok:
			return false
		case f.number == fieldClock && !f.bytes:
			d.batch.ClockMs = int64(f.value)
		case f.number == fieldCommands && f.bytes:
			c := d.command(f.data)
			if c == nil {
				return false
			}
			d.batch.Commands = append(d.batch.Commands, c)
		default:
			return false
		}
		body = rest
	}
	return true
}

// command reads one command, by hand if it holds nothing unusual; nil when it is
// wrong or of a newer version.
func (d *Decoder) command(b []byte) *Command {
	f, rest, ok := cut(b)
	if ok && f.bytes && len(rest) == 0 { // a second operation would replace or extend the first
		if c := d.hot(f); c != nil {
			return c
		}
	}
	c := new(Command)
	if proto.Unmarshal(b, c) != nil || hasUnknown(c) {
		return nil
	}
	return c
}

// hot reads an operation of every job; nil when it is another, or unusual.
func (d *Decoder) hot(f field) *Command {
	switch f.number {
	case fieldSubmit:
		return d.submit(f.data)
	case fieldLease:
		return d.lease(f.data)
	case fieldFinish:
		return d.finish(f.data)
	}
	return nil
}

func (d *Decoder) submit(b []byte) *Command {
	p := d.submits.next()
	s := &p.submit
	ok := each(b, func(f field) bool {
		switch {
		case f.bytes:
			return d.submitBytes(p, f)
		case f.number == 4:
			s.Priority = uint32(f.value)
		case f.number == 10:
			s.ExecutionMs = int64(f.value)
		case f.number == 11:
			s.TtlMs = int64(f.value)
		case f.number == 12:
			s.MaxAttempts = uint32(f.value)
		case f.number == 13:
			s.MaxLosses = uint32(f.value)
		case f.number == 14:
			s.QueueLimit = uint32(f.value)
		case f.number == 15:
			s.RetryTimeout = f.value != 0
		case f.number == 50:
			s.ExpectedOutput = int64(f.value)
		case f.number == 60:
			s.Reserve = int64(f.value)
		default:
			return false
		}
		return true
	})
	if !ok {
		return nil
	}
	p.op.Submit, p.command.Op = s, &p.op
	return &p.command
}

func (d *Decoder) submitBytes(p *submitParts, f field) (ok bool) {
	s := &p.submit
	switch f.number {
	case 1:
		s.Job = alias(f.data)
	case 2:
		s.Org, ok = d.word(f.data)
		return ok
	case 3:
		s.Endpoint, ok = d.word(f.data)
		return ok
	case 5:
		return readPayload(&s.Input, &p.input, f.data)
	case 6:
		t := new(Tag)
		s.Tags = append(s.Tags, t)
		return each(f.data, func(f field) (ok bool) {
			switch {
			case f.bytes && f.number == 1:
				t.Key, ok = text(f.data)
			case f.bytes && f.number == 2:
				t.Value, ok = text(f.data)
			}
			return ok
		})
	case 7:
		s.CallbackUrl, ok = text(f.data)
		return ok
	case 8:
		s.IdempotencyKey, ok = text(f.data)
		return ok
	case 9:
		s.PayloadHash = alias(f.data)
	case 30:
		s.S3Config = own(f.data)
	case 40:
		s.CallbackBase, ok = d.word(f.data)
		return ok
	default:
		return false
	}
	return true
}

func (d *Decoder) lease(b []byte) *Command {
	p := d.leases.next()
	l := &p.lease
	ok := each(b, func(f field) (ok bool) {
		switch {
		case f.bytes && f.number == 1:
			l.Job = alias(f.data)
		case !f.bytes && f.number == 2:
			l.ExpectAttempt = uint32(f.value)
		case f.bytes && f.number == 3:
			l.Agent = alias(f.data)
		case f.bytes && f.number == 4:
			l.Incarnation = alias(f.data)
		case !f.bytes && f.number == 5:
			l.Revision = f.value
		case f.bytes && f.number == 6:
			l.Reason, ok = d.word(f.data)
			return ok
		default:
			return false
		}
		return true
	})
	if !ok {
		return nil
	}
	p.op.Lease, p.command.Op = l, &p.op
	return &p.command
}

func (d *Decoder) finish(b []byte) *Command {
	p := d.finishes.next()
	c := &p.finish
	ok := each(b, func(f field) bool {
		switch {
		case f.bytes:
			return d.finishBytes(p, f)
		case f.number == 2:
			c.Attempt = uint32(f.value)
		case f.number == 10:
			c.Retryable = f.value != 0
		case f.number == 12:
			c.StartedMs = int64(f.value)
		case f.number == 13:
			c.EndedMs = int64(f.value)
		case f.number == 17:
			c.NotBeforeMs = int64(f.value)
		default:
			return false
		}
		return true
	})
	if !ok {
		return nil
	}
	p.op.Finish, p.command.Op = c, &p.op
	return &p.command
}

func (d *Decoder) finishBytes(p *finishParts, f field) (ok bool) {
	c := &p.finish
	switch f.number {
	case 1:
		c.Job = alias(f.data)
	case 3:
		c.Agent = alias(f.data)
	case 4:
		c.Incarnation = alias(f.data)
	case 5:
		c.Outcome, ok = d.word(f.data)
		return ok
	case 6:
		return readPayload(&c.Output, &p.output, f.data)
	case 7:
		c.ErrorCode, ok = d.word(f.data)
		return ok
	case 8:
		c.ErrorMessage, ok = text(f.data)
		return ok
	case 9:
		c.ErrorDetails = own(f.data)
	case 11:
		c.Partial = own(f.data)
	case 14:
		if c.Facts = d.noFacts; !bytes.Equal(f.data, d.noFacts) {
			c.Facts = own(f.data)
		}
	case 15:
		return readPayload(&c.Logs, &p.logs, f.data)
	case 16:
		return readPayload(&c.Chunks, &p.chunks, f.data)
	case 30:
		return readPayload(&c.Checkpoint, &p.checkpoint, f.data)
	default:
		return false
	}
	return true
}

// readPayload reads a payload into its place; a second one would be merged with
// the first, and is left to protobuf.
func readPayload(at **Payload, p *Payload, b []byte) bool {
	if *at != nil {
		return false
	}
	*at = p
	return each(b, func(f field) bool {
		switch {
		case f.bytes && f.number == 1:
			p.Inline = own(f.data)
		case f.bytes && f.number == 2:
			p.Sha256 = alias(f.data)
		case !f.bytes && f.number == 3:
			p.Size = int64(f.value)
		default:
			return false
		}
		return true
	})
}

// alias is bytes that are used at once. Like protobuf it knows no empty ones.
func alias(b []byte) []byte {
	if len(b) == 0 {
		return nil
	}
	return b
}

// own is a copy for a row.
func own(b []byte) []byte { return bytes.Clone(alias(b)) }

func text(b []byte) (string, bool) { return string(b), utf8.Valid(b) }

// word is a text that most entries repeat: all of them share one string.
func (d *Decoder) word(b []byte) (string, bool) {
	if s, ok := d.words[string(b)]; ok {
		return s, true
	}
	s, ok := text(b)
	if ok && len(s) <= maxWord && len(d.words) < maxWords {
		d.words[s] = s
	}
	return s, ok
}
