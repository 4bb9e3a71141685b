package fsm

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// archive records a segment with the next number and removes those of the rows
// that are still as they were written to it. A row that changed since stays: the
// table's state of a job goes before that of a segment.
func (s *step) archive(c *command.Archive) command.Result {
	known := s.txn.Segment(c.GetNumber())
	r := command.Result{Replayed: known != nil}
	switch add := c.GetSegment(); {
	case add == nil && known == nil:
		return refuse(protocol.CodeConflict, "The segment is not recorded")
	case add == nil:
	case known != nil && !bytes.Equal(known.SHA256[:], add.GetSha256()):
		return refuse(protocol.CodeConflict, "Another segment has this number")
	case known != nil:
	case add.GetNumber() != s.txn.NewestSegment()+1:
		return refuse(protocol.CodeConflict, "The segment's number is not the next one")
	default:
		for _, n := range c.GetReplaces() {
			if s.txn.Segment(n) == nil {
				return refuse(protocol.CodeConflict, fmt.Sprintf("Segment %d does not exist", n))
			}
		}
		for _, n := range c.GetReplaces() {
			if s.txn.Segment(n) != nil { // named twice
				s.txn.DropSegment(n)
			}
		}
		known = segmentOf(add)
		s.txn.AddSegment(known)
	}
	for _, a := range c.GetJobs() {
		id := protocol.JobID(a.GetJob())
		if j := s.txn.Job(id); j != nil && !j.Live() && !j.Owes() && j.Index == a.GetIndex() && known.Covers(id) {
			s.remove(j)
			r.Count++
		}
	}
	r.Replayed = r.Replayed && r.Count == 0
	return r
}

// remove deletes an ended job. Its idempotency key stays until it expires, and
// answers as if the row were there.
func (s *step) remove(j *state.Job) {
	if j.Extra != nil && j.Extra.IdempotencyKey != "" {
		if k := s.txn.Key(j.Org, j.Target, j.Extra.IdempotencyKey); k != nil && k.Job == j.ID {
			n := *k
			n.CreatedMs = j.CreatedMs
			s.txn.PutKey(&n)
		}
	}
	s.txn.DeleteJob(j.ID)
}

func segmentOf(g *command.Segment) *state.Segment {
	return &state.Segment{
		Number: g.GetNumber(), SHA256: [32]byte(g.GetSha256()), Size: g.GetSize(),
		IndexOffset: g.GetIndexOffset(), IndexSHA256: [32]byte(g.GetIndexSha256()),
		First: protocol.JobID(g.GetFirst()), Last: protocol.JobID(g.GetLast()), Jobs: g.GetJobs(),
		OldestEndMs: g.GetOldestEndMs(), NewestEndMs: g.GetNewestEndMs(),
	}
}

// dropSegment forgets those of the segments that hold nothing younger.
func (s *step) dropSegment(c *command.DropSegment) command.Result {
	var r command.Result
	for _, n := range c.GetNumbers() {
		if g := s.txn.Segment(n); g != nil && g.NewestEndMs < c.GetEndedBeforeMs() {
			s.txn.DropSegment(n)
			r.Count++
		}
	}
	r.Replayed = r.Count == 0
	return r
}

// recall puts an archived row back as it was, so that it can be run again. The
// segments above the newest that the reader knew may hold a later state of it.
func (s *step) recall(c *command.Recall) command.Result {
	id := protocol.JobID(c.GetJob())
	if s.txn.Job(id) != nil {
		return replayed()
	}
	held := false
	for _, g := range s.txn.Segments() {
		if !g.Covers(id) {
			continue
		}
		if g.Number > c.GetNewest() {
			return refuse(protocol.CodeConflict, "The archive has changed since the job was read")
		}
		held = true
	}
	if !held {
		return notFound()
	}
	j, err := DecodeJob(c.GetRecord())
	if err != nil || j.ID != id || j.Live() {
		return refuse(protocol.CodeValidation, "The record is not that of an ended job")
	}
	if e := s.txn.Endpoint(j.Org, j.Target); e != nil {
		j.Org, j.Target = e.Org, e.ID // strings that its jobs share
	}
	if limit := s.txn.Settings().MaxBytes; limit > 0 && s.txn.Bytes()+j.Size() > limit {
		return full(command.LimitMemory, s.txn.Bytes(), "The coordinators' memory for jobs is full")
	}
	s.txn.PutJob(j)
	return command.Result{}
}

// EncodeJob returns a row as snapshots and archive segments hold it.
func EncodeJob(j *state.Job) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(new(scratch).jobRecord(j))
	if err != nil {
		panic("fsm: cannot encode a job: " + err.Error()) // its texts were checked when they came in
	}
	return b
}

// DecodeJob reads what EncodeJob wrote. A field of a newer version is an error:
// the row would not be what it was.
func DecodeJob(b []byte) (*state.Job, error) {
	m := new(JobRecord)
	if err := proto.Unmarshal(b, m); err != nil {
		return nil, fmt.Errorf("cannot decode a job: %w", err)
	}
	if err := known(m); err != nil {
		return nil, err
	}
	return jobOf(m, func(s string) string { return s })
}
