package api

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"

	"windlass/coordinator/archive"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// archiveScan is what a row of the archive counts for in the bound of a list's
	// page: it is read, decompressed and decoded.
	archiveScan = 5

	// archiveReaders is how many archived jobs of one batch are looked up at a
	// time: a store far away answers in some 20 ms, and a batch has a thousand.
	archiveReaders = 16

	// recallTries is how often a retry brings a job back that left memory again
	// before its new run began, or that was moved to another segment meanwhile.
	recallTries = 5
)

// find returns a job of the view: its row, or what the archive has of it. nil
// when it never was or has expired.
func (s *Server) find(ctx context.Context, view *state.View, id protocol.JobID) (*state.Job, error) {
	if row := view.Job(id); row != nil {
		return row, nil
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	row, err := s.deps.Archive.Job(ctx, view, id)
	if err != nil {
		return nil, archiveError(err)
	}
	return row, nil
}

// archiveError is the answer about a job that may be where the archive cannot be
// read: it is not that there is none.
func archiveError(err error) error {
	var u *archive.Unreadable
	switch {
	case errors.As(err, &u) && u.Damaged:
		return protocol.NewError(protocol.CodeInternal, "The part of the archive that may hold this job is damaged; the server's log names it").
			With("segment", u.Segment)
	case errors.As(err, &u) || errors.Is(err, context.DeadlineExceeded):
		return unavailable("The archive of ended jobs cannot be read at the moment")
	}
	return err
}

// mayBeArchived reports whether a segment covers the job, without reading any.
func mayBeArchived(view *state.View, id protocol.JobID) bool {
	return slices.ContainsFunc(view.Segments(), func(g *state.Segment) bool { return g.Covers(id) })
}

// found is what became of one id of a batch.
type found struct {
	row *state.Job
	err error
}

// findAll is find for many jobs at a time, in their order. Ids that are none are
// not found.
func (s *Server) findAll(ctx context.Context, view *state.View, ids []string) []found {
	out := make([]found, len(ids))
	var away []int // what only the archive may have
	for i, text := range ids {
		id, err := protocol.ParseJobID(text)
		if err != nil {
			continue
		}
		if out[i].row = view.Job(id); out[i].row == nil && mayBeArchived(view, id) {
			away = append(away, i)
		}
	}
	next := make(chan int)
	var readers sync.WaitGroup
	for range min(len(away), archiveReaders) {
		readers.Go(func() {
			for i := range next {
				id, _ := protocol.ParseJobID(ids[i]) // it was one above
				out[i].row, out[i].err = s.find(ctx, view, id)
			}
		})
	}
	for _, i := range away {
		next <- i
	}
	close(next)
	readers.Wait()
	return out
}

// newest calls fn for the jobs of the view below before, from the table and the
// archive, newest first, until it returns false. Which of both a job came from
// is told. table alone leaves the archive out. An error is that of find.
func (s *Server) newest(ctx context.Context, view *state.View, before protocol.JobID, table bool, fn func(row *state.Job, archived bool) bool) error {
	walk := s.deps.Archive.Newest(view, before)
	var head *state.Job // of the archive, not shown yet
	var failed error
	// older shows the archived jobs above the id, which the table has as well or
	// not at all; it returns false when that is the end.
	older := func(id protocol.JobID) bool {
		for !table {
			if head == nil {
				if bound, ok := walk.Bound(); !ok || bytes.Compare(bound[:], id[:]) < 0 {
					return true
				}
				if head, failed = walk.Next(ctx); head == nil || failed != nil {
					return failed == nil
				}
			}
			switch c := bytes.Compare(head.ID[:], id[:]); {
			case c < 0:
				return true
			case c > 0 && !fn(head, true):
				return false
			}
			head = nil
		}
		return true
	}
	going := true
	view.Jobs(before, true, func(row *state.Job) bool {
		going = older(row.ID) && fn(row, false)
		return going
	})
	if going && failed == nil {
		older(protocol.JobID{})
	}
	if failed != nil {
		return archiveError(failed)
	}
	return nil
}

// rerun writes the command that begins a new run. A job that is in the archive
// is brought back first.
func (s *Server) rerun(ctx context.Context, row *state.Job, cmd *command.Command) (*state.Job, error) {
	for range recallTries {
		view := s.deps.Store.View()
		if view.Job(row.ID) == nil {
			res, err := s.deps.Write(ctx, archive.Recall(view, row))
			switch {
			case err != nil:
				return nil, uncertain(err, row.ID)
			case res.Code == protocol.CodeConflict: // it is in another segment by now
			case res.Code == protocol.CodeJobNotFound:
				return nil, jobNotFound(row.ID.String())
			case res.Code != "":
				return nil, refused(res)
			}
			if err := s.deps.Applied(ctx, res.Index); err != nil {
				return nil, uncertainRead(err)
			}
		}
		now, err := s.changed(ctx, row, cmd)
		if protocol.CodeOf(err) != protocol.CodeJobNotFound {
			return now, err
		}
		now, err = s.find(ctx, s.deps.Store.View(), row.ID)
		if err != nil {
			return nil, err
		}
		if now == nil {
			return nil, jobNotFound(row.ID.String())
		}
		if now.Run != row.Run {
			return nil, protocol.NewError(protocol.CodeConflict, "The job was run again meanwhile").With("jobId", row.ID)
		}
		row = now
	}
	return nil, unavailable("The job cannot be brought back from the archive at the moment")
}
