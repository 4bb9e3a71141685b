package command

import (
	"bytes"
	"fmt"
)

func checkArchive(a *Archive) error {
	if a.GetNumber() == 0 {
		return fmt.Errorf("a segment's number must not be 0")
	}
	for _, j := range a.GetJobs() {
		if err := checkIDs("every job", j.GetJob()); err != nil {
			return err
		}
	}
	s := a.GetSegment()
	if s == nil {
		if len(a.GetReplaces()) > 0 {
			return fmt.Errorf("only a new segment replaces others")
		}
		return nil
	}
	for _, n := range a.GetReplaces() {
		if n == 0 || n >= s.GetNumber() {
			return fmt.Errorf("segment %d cannot replace segment %d", s.GetNumber(), n)
		}
	}
	if s.GetNumber() != a.GetNumber() {
		return fmt.Errorf("the segment has number %d and %d", a.GetNumber(), s.GetNumber())
	}
	return checkSegment(s)
}

func checkSegment(s *Segment) error {
	if err := checkIDs("first and last job", s.GetFirst(), s.GetLast()); err != nil {
		return err
	}
	switch {
	case len(s.GetSha256()) != hashSize || len(s.GetIndexSha256()) != hashSize:
		return fmt.Errorf("a segment's hashes must be %d bytes", hashSize)
	case bytes.Compare(s.GetFirst(), s.GetLast()) > 0:
		return fmt.Errorf("a segment's last job is below its first")
	case s.GetJobs() == 0:
		return fmt.Errorf("a segment must not be empty")
	case s.GetIndexOffset() < 0 || s.GetIndexOffset() >= s.GetSize():
		return fmt.Errorf("a segment of %d bytes has its index at %d", s.GetSize(), s.GetIndexOffset())
	case s.GetOldestEndMs() > s.GetNewestEndMs():
		return fmt.Errorf("a segment's oldest end is after its newest")
	}
	return nil
}

func checkDropSegment(d *DropSegment) error {
	for _, n := range d.GetNumbers() {
		if n == 0 {
			return fmt.Errorf("a segment's number must not be 0")
		}
	}
	return nil
}

func checkRecall(r *Recall) error {
	if len(r.GetRecord()) == 0 {
		return fmt.Errorf("a recalled job needs its record")
	}
	return checkIDs("job", r.GetJob())
}
