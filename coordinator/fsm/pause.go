package fsm

import (
	"bytes"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// pause holds a job that waits. It keeps its place, its ttl goes on, and no agent
// may continue a run that it still has.
func (s *step) pause(c *command.Pause) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil || j.Org != c.GetOrg():
		return notFound()
	case j.Status == protocol.StatusPaused:
		return replayed()
	case j.Status != protocol.StatusQueued || j.Index != c.GetExpectIndex():
		return changedMeanwhile()
	}
	n := s.copyOf(j)
	n.Status, n.Adoptable = protocol.StatusPaused, false
	s.txn.PutJob(n)
	return command.Result{}
}

// resume lets a paused job take its place again.
func (s *step) resume(c *command.Resume) command.Result {
	j := s.txn.Job(protocol.JobID(c.GetJob()))
	switch {
	case j == nil || j.Org != c.GetOrg():
		return notFound()
	case j.Live() && j.Status != protocol.StatusPaused:
		return replayed()
	case j.Status != protocol.StatusPaused || j.Index != c.GetExpectIndex():
		return changedMeanwhile()
	}
	n := s.copyOf(j)
	n.Status = protocol.StatusQueued
	s.txn.PutJob(n)
	return command.Result{}
}

func changedMeanwhile() command.Result {
	return refuse(protocol.CodeConflict, "The job changed meanwhile")
}

func (s *step) pauseEndpoint(c *command.PauseEndpoint) command.Result {
	e := s.txn.Endpoint(c.GetOrg(), c.GetId())
	switch {
	case e == nil:
		return refuse(protocol.CodeEndpointNotFound, "The endpoint does not exist")
	case e.Doc.Paused == c.GetPaused():
		return command.Result{Revision: e.Revision, Replayed: true}
	}
	n, doc := *e, *e.Doc
	doc.Paused = c.GetPaused()
	n.Doc, n.Index = &doc, s.index
	s.txn.PutEndpoint(&n)
	return command.Result{Revision: n.Revision}
}

// purge cancels those of the jobs that wait in the endpoint's queue. Which purge
// ended a job is kept with it, so that a repetition counts the same jobs.
func (s *step) purge(c *command.Purge) command.Result {
	details := encode(map[string]string{"purge": c.GetPurge()})
	r := command.Result{Replayed: true}
	for _, raw := range c.GetJobs() {
		j := s.txn.Job(protocol.JobID(raw))
		switch {
		case j == nil || j.Org != c.GetOrg() || j.Target != c.GetEndpoint():
		case j.Status == protocol.StatusQueued:
			n := s.copyOf(j)
			s.end(n, protocol.StatusCancelled, protocol.CodeCancelled, "The job was purged from the queue")
			n.Outcome.ErrDetails = details
			s.txn.PutJob(n)
			r.Count++
			r.Replayed = false
		case purgedBy(j, details):
			r.Count++
		}
	}
	return r
}

func purgedBy(j *state.Job, details []byte) bool {
	return j.Status == protocol.StatusCancelled && ended(j, protocol.CodeCancelled) && bytes.Equal(j.Outcome.ErrDetails, details)
}
