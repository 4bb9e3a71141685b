package state

import (
	"bytes"
	"slices"

	"windlass/protocol"
)

// Segment is one archive file: where it is, and what it may hold. The jobs in it
// are not in the table, or the table has them in a later state.
type Segment struct {
	Number      uint64 // 1 for the first one; never used again
	SHA256      [32]byte
	Size        int64 // of the file, in bytes
	IndexOffset int64
	IndexSHA256 [32]byte // of the file from IndexOffset to its end
	First, Last protocol.JobID
	Jobs        uint32
	OldestEndMs int64 // when the job ended that ended first
	NewestEndMs int64
}

// segmentOverhead is what a segment's row, its hashes and its index entry count
// for; the same on every node.
const segmentOverhead = 512

// RowSize returns the bytes that the row counts for.
func (g *Segment) RowSize() int64 { return segmentOverhead }

// Covers reports whether the job lies between the first and the last one.
func (g *Segment) Covers(id protocol.JobID) bool {
	return bytes.Compare(g.First[:], id[:]) <= 0 && bytes.Compare(id[:], g.Last[:]) <= 0
}

// Segments returns the archive's segments in the order of their numbers. The
// list is the view's: it must not be changed.
func (v *View) Segments() []*Segment { return v.segments }

// Ended returns how many jobs of the table are terminal and may leave it, and
// their bytes.
func (v *View) Ended() (jobs int, size int64) { return v.ended.jobs, v.ended.bytes }

// Owed returns how many ended jobs have a webhook that is still to be delivered.
func (v *View) Owed() int { return v.ended.owed }

// ended sums up the terminal rows. It is derived from the jobs.
type ended struct {
	jobs  int
	bytes int64
	owed  int // not part of the others
}

func (e *ended) count(j *Job, sign int) {
	if j.Owes() {
		e.owed += sign
		return
	}
	e.jobs += sign
	e.bytes += int64(sign) * j.Size()
}

// Segments returns the segments as this transaction left them.
func (t *Txn) Segments() []*Segment { return t.segments }

// NewestSegment returns the number of the newest segment that ever was, or 0.
func (t *Txn) NewestSegment() uint64 { return t.meta.Segment }

// Segment returns a segment, or nil.
func (t *Txn) Segment(number uint64) *Segment {
	if at, ok := find(t.segments, number); ok {
		return t.segments[at]
	}
	return nil
}

// AddSegment records a segment, which must have the next number.
func (t *Txn) AddSegment(g *Segment) {
	if g.Number != t.meta.Segment+1 {
		panic("state: a segment's number is not the next one")
	}
	t.meta.Segment = g.Number
	t.segments = append(slices.Clip(t.segments), g) // a copy: views have the list
	t.bytes += g.RowSize()
}

// DropSegment removes a segment that exists.
func (t *Txn) DropSegment(number uint64) {
	at, ok := find(t.segments, number)
	if !ok {
		panic("state: a segment that does not exist was dropped")
	}
	t.bytes -= t.segments[at].RowSize()
	t.segments = slices.Delete(slices.Clone(t.segments), at, at+1)
}

func find(list []*Segment, number uint64) (int, bool) {
	return slices.BinarySearchFunc(list, number, func(g *Segment, n uint64) int {
		switch {
		case g.Number < n:
			return -1
		case g.Number > n:
			return 1
		}
		return 0
	})
}
