package command

import (
	"encoding/binary"
	"math/bits"

	"google.golang.org/protobuf/proto"
)

// The commands of every job (Submit, Lease, Finish) are written and read by hand,
// because protobuf's own code, which goes by descriptors, was a tenth of a
// follower's processor time. The bytes are those of protobuf's deterministic
// encoding: the golden files and FuzzOwnCodec hold both against each other. What
// is rare goes the way of protobuf.

// Wire types of protobuf.
const (
	wireVarint = 0
	wireBytes  = 2
)

// Numbers of fields that hold commands.
const (
	fieldClock    = 1 // of Batch
	fieldCommands = 2
	fieldSubmit   = 1 // of Command
	fieldLease    = 2
	fieldFinish   = 3
)

// Size is the length of a command in an entry, without the tag before it.
func Size(c *Command) int {
	if n, ok := hotSize(c); ok {
		return n
	}
	return proto.Size(c)
}

// hotSize is the size of a command that is written by hand; false for others.
func hotSize(c *Command) (int, bool) {
	if len(c.unknownFields) > 0 {
		return 0, false
	}
	n, ok := 0, false
	switch op := c.Op.(type) {
	case *Command_Submit:
		n, ok = op.Submit.hotSize()
	case *Command_Lease:
		n, ok = op.Lease.hotSize()
	case *Command_Finish:
		n, ok = op.Finish.hotSize()
	}
	return sizeBytes(fieldSubmit, n), ok // the tags of the three are as long
}

func (s *Submit) hotSize() (int, bool) {
	if s == nil || len(s.unknownFields) > 0 {
		return 0, false
	}
	n := sizeField(1, len(s.Job)) + sizeField(2, len(s.Org)) + sizeField(3, len(s.Endpoint)) + sizeUint(4, uint64(s.Priority))
	ok := sizePayload(&n, 5, s.Input)
	for _, t := range s.Tags {
		ok = ok && t != nil && len(t.unknownFields) == 0
		n += sizeBytes(6, sizeField(1, len(t.GetKey()))+sizeField(2, len(t.GetValue())))
	}
	n += sizeField(7, len(s.CallbackUrl)) + sizeField(8, len(s.IdempotencyKey)) + sizeField(9, len(s.PayloadHash)) +
		sizeUint(10, uint64(s.ExecutionMs)) + sizeUint(11, uint64(s.TtlMs)) + sizeUint(12, uint64(s.MaxAttempts)) +
		sizeUint(13, uint64(s.MaxLosses)) + sizeUint(14, uint64(s.QueueLimit)) + sizeUint(15, truth(s.RetryTimeout)) +
		sizeField(30, len(s.S3Config)) + sizeField(40, len(s.CallbackBase)) +
		sizeUint(50, uint64(s.ExpectedOutput)) + sizeUint(60, uint64(s.Reserve))
	return n, ok
}

func (l *Lease) hotSize() (int, bool) {
	if l == nil || len(l.unknownFields) > 0 {
		return 0, false
	}
	return sizeField(1, len(l.Job)) + sizeUint(2, uint64(l.ExpectAttempt)) + sizeField(3, len(l.Agent)) +
		sizeField(4, len(l.Incarnation)) + sizeUint(5, l.Revision) + sizeField(6, len(l.Reason)), true
}

func (f *Finish) hotSize() (int, bool) {
	if f == nil || len(f.unknownFields) > 0 || len(f.Files) > 0 {
		return 0, false
	}
	n := sizeField(1, len(f.Job)) + sizeUint(2, uint64(f.Attempt)) + sizeField(3, len(f.Agent)) +
		sizeField(4, len(f.Incarnation)) + sizeField(5, len(f.Outcome)) + sizeField(7, len(f.ErrorCode)) +
		sizeField(8, len(f.ErrorMessage)) + sizeField(9, len(f.ErrorDetails)) + sizeUint(10, truth(f.Retryable)) +
		sizeField(11, len(f.Partial)) + sizeUint(12, uint64(f.StartedMs)) + sizeUint(13, uint64(f.EndedMs)) +
		sizeField(14, len(f.Facts)) + sizeUint(17, uint64(f.NotBeforeMs))
	ok := sizePayload(&n, 6, f.Output)
	ok = sizePayload(&n, 15, f.Logs) && ok
	ok = sizePayload(&n, 16, f.Chunks) && ok
	ok = sizePayload(&n, 30, f.Checkpoint) && ok
	return n, ok
}

// sizePayload adds a payload's size; false when it cannot be written by hand.
func sizePayload(n *int, field int, p *Payload) bool {
	if p == nil {
		return true
	}
	*n += sizeBytes(field, p.hotSize())
	return len(p.unknownFields) == 0
}

func (p *Payload) hotSize() int {
	return sizeField(1, len(p.Inline)) + sizeField(2, len(p.Sha256)) + sizeUint(3, uint64(p.Size))
}

// appendCommand writes one element of a batch, the tag before it too.
func appendCommand(b []byte, c *Command) ([]byte, error) {
	n, hot := hotSize(c)
	if !hot {
		n = proto.Size(c)
	}
	b = binary.AppendUvarint(appendTag(b, fieldCommands, wireBytes), uint64(n))
	if !hot {
		// Size left its results in the messages, which nobody else touches.
		return proto.MarshalOptions{Deterministic: true, UseCachedSize: true}.MarshalAppend(b, c)
	}
	switch op := c.Op.(type) {
	case *Command_Submit:
		size, _ := op.Submit.hotSize()
		b = op.Submit.append(binary.AppendUvarint(appendTag(b, fieldSubmit, wireBytes), uint64(size)))
	case *Command_Lease:
		size, _ := op.Lease.hotSize()
		b = op.Lease.append(binary.AppendUvarint(appendTag(b, fieldLease, wireBytes), uint64(size)))
	case *Command_Finish:
		size, _ := op.Finish.hotSize()
		b = op.Finish.append(binary.AppendUvarint(appendTag(b, fieldFinish, wireBytes), uint64(size)))
	}
	return b, nil
}

func (s *Submit) append(b []byte) []byte {
	b = appendField(b, 1, s.Job)
	b = appendField(b, 2, s.Org)
	b = appendField(b, 3, s.Endpoint)
	b = appendUint(b, 4, uint64(s.Priority))
	b = appendPayload(b, 5, s.Input)
	for _, t := range s.Tags {
		b = binary.AppendUvarint(appendTag(b, 6, wireBytes), uint64(sizeField(1, len(t.Key))+sizeField(2, len(t.Value))))
		b = appendField(appendField(b, 1, t.Key), 2, t.Value)
	}
	b = appendField(b, 7, s.CallbackUrl)
	b = appendField(b, 8, s.IdempotencyKey)
	b = appendField(b, 9, s.PayloadHash)
	b = appendUint(b, 10, uint64(s.ExecutionMs))
	b = appendUint(b, 11, uint64(s.TtlMs))
	b = appendUint(b, 12, uint64(s.MaxAttempts))
	b = appendUint(b, 13, uint64(s.MaxLosses))
	b = appendUint(b, 14, uint64(s.QueueLimit))
	b = appendUint(b, 15, truth(s.RetryTimeout))
	b = appendField(b, 30, s.S3Config)
	b = appendField(b, 40, s.CallbackBase)
	b = appendUint(b, 50, uint64(s.ExpectedOutput))
	return appendUint(b, 60, uint64(s.Reserve))
}

func (l *Lease) append(b []byte) []byte {
	b = appendField(b, 1, l.Job)
	b = appendUint(b, 2, uint64(l.ExpectAttempt))
	b = appendField(b, 3, l.Agent)
	b = appendField(b, 4, l.Incarnation)
	b = appendUint(b, 5, l.Revision)
	return appendField(b, 6, l.Reason)
}

func (f *Finish) append(b []byte) []byte {
	b = appendField(b, 1, f.Job)
	b = appendUint(b, 2, uint64(f.Attempt))
	b = appendField(b, 3, f.Agent)
	b = appendField(b, 4, f.Incarnation)
	b = appendField(b, 5, f.Outcome)
	b = appendPayload(b, 6, f.Output)
	b = appendField(b, 7, f.ErrorCode)
	b = appendField(b, 8, f.ErrorMessage)
	b = appendField(b, 9, f.ErrorDetails)
	b = appendUint(b, 10, truth(f.Retryable))
	b = appendField(b, 11, f.Partial)
	b = appendUint(b, 12, uint64(f.StartedMs))
	b = appendUint(b, 13, uint64(f.EndedMs))
	b = appendField(b, 14, f.Facts)
	b = appendPayload(b, 15, f.Logs)
	b = appendPayload(b, 16, f.Chunks)
	b = appendUint(b, 17, uint64(f.NotBeforeMs))
	return appendPayload(b, 30, f.Checkpoint)
}

func appendPayload(b []byte, field int, p *Payload) []byte {
	if p == nil {
		return b
	}
	b = binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(p.hotSize()))
	b = appendField(b, 1, p.Inline)
	b = appendField(b, 2, p.Sha256)
	return appendUint(b, 3, uint64(p.Size))
}

func truth(v bool) uint64 {
	if v {
		return 1
	}
	return 0
}

func appendTag(b []byte, field, wire int) []byte {
	return binary.AppendUvarint(b, uint64(field<<3|wire))
}

func appendUint(b []byte, field int, v uint64) []byte {
	if v == 0 {
		return b
	}
	return binary.AppendUvarint(appendTag(b, field, wireVarint), v)
}

func appendField[T string | []byte](b []byte, field int, v T) []byte {
	if len(v) == 0 {
		return b
	}
	return append(binary.AppendUvarint(appendTag(b, field, wireBytes), uint64(len(v))), v...)
}

func sizeVarint(v uint64) int { return (bits.Len64(v|1) + 6) / 7 }

// sizeBytes is a field of n bytes that is written when it is empty too.
func sizeBytes(field, n int) int {
	return sizeVarint(uint64(field<<3)) + sizeVarint(uint64(n)) + n
}

// sizeField is one that is left out when it is empty.
func sizeField(field, n int) int {
	if n == 0 {
		return 0
	}
	return sizeBytes(field, n)
}

func sizeUint(field int, v uint64) int {
	if v == 0 {
		return 0
	}
	return sizeVarint(uint64(field<<3)) + sizeVarint(v)
}
