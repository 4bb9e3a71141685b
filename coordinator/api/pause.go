package api

import (
	"context"
	"errors"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// pauseTime is how long a pause waits for a running handler to come to its
	// checkpoint.
	pauseTime = 20 * time.Second
	// pauseTries is how often a job is looked at again that changed just before it
	// was to be held.
	pauseTries = 10
)

// pauseEndpoint is POST /v2/endpoints/{id}/pause: submits are taken and no job is
// given to an agent.
func (s *Server) pauseEndpoint(c *call) error { return s.setPaused(c, true) }

// resumeEndpoint is POST /v2/endpoints/{id}/resume.
func (s *Server) resumeEndpoint(c *call) error { return s.setPaused(c, false) }

func (s *Server) setPaused(c *call, paused bool) error {
	if _, err := c.body(); err != nil {
		return err
	}
	if err := s.supports(command.FeatureAPI); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	id := c.args[0]
	if !c.who.Reaches(c.who.Org, id) {
		return endpointNotFound(id)
	}
	res, err := s.propose(ctx, &command.Command{Op: &command.Command_PauseEndpoint{
		PauseEndpoint: &command.PauseEndpoint{Org: c.who.Org, Id: id, Paused: paused},
	}})
	if protocol.CodeOf(err) == protocol.CodeEndpointNotFound {
		return endpointNotFound(id)
	}
	if err != nil {
		return err
	}
	if err := s.deps.Applied(ctx, res.Index); err != nil {
		return uncertainRead(err)
	}
	e := s.deps.Store.Endpoint(c.who.Org, id)
	if e == nil {
		return endpointNotFound(id)
	}
	return c.json(e.Doc)
}

// resumeJob is POST /v2/jobs/{id}/resume: the job takes its place in the queue
// again. One that is not paused is answered as it is.
func (s *Server) resumeJob(c *call) error {
	if err := s.supports(command.FeatureAPI); err != nil {
		return err
	}
	return s.control(c, func(row *state.Job) (*command.Command, error) {
		switch {
		case row.Status.Terminal():
			return nil, endedConflict(row)
		case row.Status != protocol.StatusPaused:
			return nil, nil
		}
		resume := &command.Resume{Job: row.ID[:], Org: row.Org, ExpectIndex: row.Index}
		return &command.Command{Op: &command.Command_Resume{Resume: resume}}, nil
	}, c.wholeDocument)
}

func endedConflict(row *state.Job) error {
	return protocol.NewError(protocol.CodeConflict, "The job has ended").With("jobId", row.ID).With("status", row.Status)
}

// pauseJob is POST /v2/jobs/{id}/pause. A job that waits is held. One that runs is
// asked to stop at a checkpoint, which the leader does and waits for; 409 when its
// runtime offers none.
func (s *Server) pauseJob(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	if err := s.supports(command.FeatureAPI); err != nil {
		return err
	}
	c.holds = pauseTime
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	operation, id, inc, end := c.route.operation, c.id, c.include(protocol.InlineOutput), c.began.Add(pauseTime-c.waited)
	return c.hold(func(ctx context.Context) reply {
		row, err := s.pause(ctx, row, end)
		if err != nil {
			return s.errorReply(operation, id, err)
		}
		return s.answer(operation, id, s.document(row, inc), nil)
	})
}

// pause holds a job, by what it is at the moment: it may be leased, or end, while
// this is on its way.
func (s *Server) pause(ctx context.Context, row *state.Job, end time.Time) (*state.Job, error) {
	for range pauseTries {
		var err error
		switch {
		case row.Status.Terminal():
			return nil, endedConflict(row)
		case row.Status == protocol.StatusPaused:
			return row, nil
		case row.Lease != nil:
			row, err = s.askToPause(ctx, row, end)
		default:
			row, err = s.holdBack(ctx, row)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, protocol.NewError(protocol.CodeConflict, "The job changes too often to be held").With("jobId", row.ID)
}

// holdBack pauses a job that waits. It returns the job as it is after that, also
// when that came too late.
func (s *Server) holdBack(ctx context.Context, row *state.Job) (*state.Job, error) {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	pause := &command.Pause{Job: row.ID[:], Org: row.Org, ExpectIndex: row.Index}
	now, err := s.changed(ctx, row, &command.Command{Op: &command.Command_Pause{Pause: pause}})
	if protocol.CodeOf(err) != protocol.CodeConflict {
		return now, err
	}
	now, err = s.find(ctx, s.deps.Store.View(), row.ID)
	if now == nil && err == nil {
		err = jobNotFound(row.ID.String())
	}
	return now, err
}

// askToPause asks a leased attempt to stop at a checkpoint and waits until it has
// left its lease. What it can do its agent tells: before that is known here, as
// after a failover, nothing can be asked.
func (s *Server) askToPause(ctx context.Context, row *state.Job, end time.Time) (*state.Job, error) {
	sub := s.deps.Board.Subscribe(row.ID)
	defer sub.Close()
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	lead, _ := s.deps.Cluster.Leads()
	attempt, asked := row.Attempt, false
	for {
		now := s.deps.Store.Job(row.ID)
		if now == nil || now.Lease == nil || now.Attempt != attempt {
			if now == nil {
				return nil, jobNotFound(row.ID.String())
			}
			return now, nil
		}
		soft, known := s.deps.Board.Get(row.ID, attempt)
		if known && (soft.Pausable == nil || !*soft.Pausable) {
			return nil, protocol.NewError(protocol.CodeConflict, "The job runs, and its runtime offers no checkpoint to pause at: cancel it, or let it end").
				With("jobId", row.ID).With("status", s.shownStatus(now))
		}
		if known && !asked {
			if err := s.ask(row.ID, attempt); err != nil {
				return nil, err
			}
			asked = true
		}
		select {
		case <-sub.C():
		case <-timer.C:
			return nil, notPausedYet(row.ID, asked)
		case <-lead.Lost:
			return nil, noLeader(protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead any more").With("outcome", "unknown"))
		case <-ctx.Done():
			return nil, notPausedYet(row.ID, asked)
		}
	}
}

func (s *Server) ask(job protocol.JobID, attempt uint32) error {
	b, berr := s.deps.Broker()
	if berr != nil {
		return noLeader(berr)
	}
	err := b.Pause(job, attempt)
	if protocol.CodeOf(err) == protocol.CodeConflict {
		return nil // it has left its lease, which is seen in a moment
	}
	if e := (*protocol.Error)(nil); errors.As(err, &e) {
		return noLeader(e)
	}
	return err
}

func notPausedYet(job protocol.JobID, asked bool) error {
	message := "Nothing was heard of the job's agent yet, so it could not be asked to pause: try again"
	if asked {
		message = "The job's handler was asked to pause and has not come to a checkpoint yet: it pauses when it does"
	}
	return protocol.NewError(protocol.CodeConflict, message).With("jobId", job)
}
