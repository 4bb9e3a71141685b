package api

import (
	"context"
	"errors"
	"slices"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// purgeEndpoint is POST /v2/endpoints/{id}/purge and, in the classic dialect,
// POST /v2/{endpointId}/purge-queue: it cancels the jobs that waited when the
// request came. What comes meanwhile, runs or is paused is left alone.
//
// Any node reads them at one index of the log, and sends them in pieces, each
// when the one before is in the log, so that others' writes take their turn.
func (s *Server) purgeEndpoint(c *call) error {
	if _, err := c.body(); err != nil {
		return err
	}
	if err := s.supports(command.FeatureAPI); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	view := s.deps.Store.View()
	e := view.Endpoint(c.who.Org, c.args[0])
	if e == nil || !c.who.Reaches(e.Org, e.ID) {
		return endpointNotFound(c.args[0])
	}
	limit, operation, id := writeTime, c.route.operation, c.id
	if c.classic {
		limit = quickTime
	}
	return c.hold(func(ctx context.Context) reply {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		removed, err := s.purge(ctx, e, waitingOf(view, e))
		return s.answer(operation, id, &protocol.PurgeResponse{Removed: removed, Status: "completed"}, err)
	})
}

// waitingOf lists the jobs of an endpoint that wait in a view, in ascending order.
// They are looked for from the newest on, because history is older.
func waitingOf(view *state.View, e *state.Endpoint) []protocol.JobID {
	var out []protocol.JobID
	left := e.Queued
	view.Jobs(protocol.JobID{}, true, func(j *state.Job) bool {
		if left == 0 {
			return false
		}
		if j.Org == e.Org && j.Target == e.ID && j.Waits() {
			left--
			if j.Status == protocol.StatusQueued {
				out = append(out, j.ID)
			}
		}
		return true
	})
	slices.Reverse(out)
	return out
}

// purge cancels those of the jobs that still wait and returns how many. An error
// tells how many it is certain of.
func (s *Server) purge(ctx context.Context, e *state.Endpoint, jobs []protocol.JobID) (int64, error) {
	name, removed := protocol.NewPurgeID(time.UnixMilli(s.deps.NowMs())), int64(0)
	for piece := range slices.Chunk(jobs, command.MaxPurge) {
		p := &command.Purge{Purge: name, Org: e.Org, Endpoint: e.ID, Jobs: make([][]byte, len(piece))}
		for i := range piece {
			p.Jobs[i] = piece[i][:]
		}
		res, err := s.propose(ctx, &command.Command{Op: &command.Command_Purge{Purge: p}})
		if err != nil {
			var known *protocol.Error
			if errors.As(err, &known) {
				known.With("removed", removed)
			}
			return removed, err
		}
		removed += res.Count
	}
	return removed, nil
}
