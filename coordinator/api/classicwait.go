package api

import (
	"context"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// waiting is one request that is held until its job has ended: a runsync or a
// status-sync. It keeps nothing of the request but what its answer needs.
type waiting struct {
	s         *Server
	operation string
	id        string // of the request
	job       protocol.JobID
	end       time.Time // of the wait
	out       *outgoing // to the leader, while that is another one
	ended     localAnswer
	relayed   bool
	submitted bool // the request made the job: whatever happens, its id is answered
}

// newWaiting prepares a wait for the end of a job.
func (s *Server) newWaiting(c *call, end time.Time, job protocol.JobID, endpoint string) *waiting {
	wait := strconv.FormatInt(end.Sub(c.began).Milliseconds(), 10)
	path := "/v2/" + endpoint + "/status-sync/" + job.String() + "?wait=" + wait
	w := &waiting{
		s: s, operation: c.route.operation, id: c.id, job: job, end: end, relayed: c.relayed,
		out: c.outgoingAs(fasthttp.MethodGet, path),
	}
	c.args[1] = job.String()
	w.ended = s.endedAnswer(c)
	return w
}

// classicStatusSync is GET /v2/{endpointId}/status-sync/{id}.
func (s *Server) classicStatusSync(c *call) error {
	end, err := c.waitEnd(classicWait, maxClassicWait)
	if err != nil {
		return err
	}
	c.ended = s.endedAnswer(c)
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	if row.Status.Terminal() {
		c.write(s.classicReply(c.route.operation, c.id, row, c.relayed))
		return nil
	}
	return c.hold(s.newWaiting(c, end, row.ID, row.Target).run)
}

// run waits here while this node leads, and at the leader otherwise.
func (w *waiting) run(ctx context.Context) reply {
	ctx, cancel := context.WithDeadline(ctx, w.end.Add(classicGrace))
	defer cancel()
	r, lost := w.here(ctx)
	if !lost {
		return r
	}
	if w.relayed {
		return w.failed(noLeader(protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead any more").With("outcome", "none")))
	}
	r, err := w.s.relay(ctx, w.out)
	if err != nil {
		return w.failed(err)
	}
	if index := r.endedBy(); index > 0 {
		return w.ended(ctx, index)
	}
	if w.submitted && r.status != fasthttp.StatusOK {
		return w.failed(unavailable("The leader could not be asked"))
	}
	return r
}

// here waits on this node; lost says that it does not lead, or no more.
func (w *waiting) here(ctx context.Context) (r reply, lost bool) {
	lead, leads := w.s.deps.Cluster.Leads()
	if !leads {
		return reply{}, true
	}
	sub := w.s.deps.Board.Subscribe(w.job)
	defer sub.Close()
	timer := time.NewTimer(time.Until(w.end))
	defer timer.Stop()
	for {
		row, err := w.s.find(ctx, w.s.deps.Store.View(), w.job)
		switch {
		case err != nil:
			return w.failed(err), false
		case row == nil:
			return w.failed(jobNotFound(w.job.String())), false
		case row.Status.Terminal():
			return w.answer(row), false
		}
		select {
		case <-sub.C():
		case <-lead.Lost:
			return reply{}, true
		case <-timer.C:
			return w.answer(row), false
		case <-ctx.Done():
			return w.answer(row), false
		}
	}
}

func (w *waiting) answer(row *state.Job) reply {
	return w.s.classicReply(w.operation, w.id, row, w.relayed)
}

// failed answers a wait that cannot go on. Whoever submitted a job must learn its
// id: what this node knows of it was true after the submit.
func (w *waiting) failed(err error) reply {
	if !w.submitted {
		return w.s.errorReply(w.operation, w.id, err)
	}
	doc := &protocol.ClassicJob{ID: w.job, Status: protocol.ClassicInQueue}
	if row := w.s.deps.Store.Job(w.job); row != nil && !row.Status.Terminal() {
		doc = w.s.classicDocument(row)
	}
	return w.s.answer(w.operation, w.id, doc, nil)
}
