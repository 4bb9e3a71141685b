package api

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// The classic dialect (contracts.md 1): the same jobs, submits and reads as the
// native one, in other documents, and within the clients' own time limits.

const (
	// quickTime bounds every answer that is not held: the clients give up after
	// three seconds, and what they gave up they do not look for.
	quickTime = 2 * time.Second
	// classicWait is how long runsync and status-sync wait when they do not say;
	// minClassicWait and maxClassicWait bound what they say.
	classicWait    = 90 * time.Second
	minClassicWait = time.Second
	maxClassicWait = 300 * time.Second
	// classicGrace is what an answer may come after the wait: clients give one to
	// two seconds.
	classicGrace = 800 * time.Millisecond
)

// classicPrefix is how the patterns of the classic dialect begin: the route
// decides the dialect.
const classicPrefix = "/v2/{endpointId}/"

// readDialect sets the terms of the dialect that the request came in.
func (c *call) readDialect() {
	if c.route != nil && strings.HasPrefix(c.route.pattern, classicPrefix) {
		c.classic, c.deadline = true, c.began.Add(quickTime)
	}
}

// arrive reads the body. What it took to send it is the client's affair: its time
// limits count from here on.
func (c *call) arrive() ([]byte, error) {
	body, err := c.body()
	c.began = time.Now()
	c.deadline = c.began.Add(quickTime)
	return body, err
}

// waitEnd reads wait=, in milliseconds, and returns when the wait is over.
func (c *call) waitEnd(usual, most time.Duration) (time.Time, error) {
	return c.waitFor(c.query("wait"), usual, most)
}

func (c *call) waitFor(raw string, usual, most time.Duration) (time.Time, error) {
	wait := usual
	if raw != "" {
		ms, err := strconv.ParseInt(raw, 10, 64)
		if err != nil {
			return time.Time{}, protocol.Invalid("wait", shown(raw), "Must be an integer number of milliseconds")
		}
		ms = min(max(ms, minClassicWait.Milliseconds()), most.Milliseconds())
		wait = time.Duration(ms) * time.Millisecond
	}
	end := c.began.Add(wait - c.waited) // some of it has passed at the coordinator that relays it
	c.deadline = end.Add(classicGrace)
	return end, nil
}

// classicRun is POST /v2/{endpointId}/run.
func (s *Server) classicRun(c *call) error {
	body, err := c.arrive()
	if err != nil {
		return err
	}
	res, err := s.classicSubmit(c, body)
	if err != nil {
		return err
	}
	return c.json(&protocol.ClassicJob{ID: res.Job, Status: protocol.ClassicInQueue})
}

// classicRunSync is POST /v2/{endpointId}/runsync: a run, and the wait for its end.
// When the wait is over the job goes on.
func (s *Server) classicRunSync(c *call) error {
	body, err := c.arrive()
	if err != nil {
		return err
	}
	end, err := c.waitEnd(classicWait, maxClassicWait)
	if err != nil {
		return err
	}
	res, err := s.classicSubmit(c, body)
	if err != nil {
		return err
	}
	w := s.newWaiting(c, end, res.Job, c.args[0])
	w.submitted = true
	return c.hold(w.run)
}

// classicSubmit takes the way of the native submit.
func (s *Server) classicSubmit(c *call, body []byte) (command.Result, error) {
	ctx, cancel := c.context()
	defer cancel()
	sub, err := s.prepare(ctx, c, body, classicDialect)
	if err != nil {
		return command.Result{}, err
	}
	return s.accept(ctx, c, sub)
}

// classicStatus is GET /v2/{endpointId}/status/{id}.
func (s *Server) classicStatus(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	c.ended = s.endedAnswer(c)
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	c.write(s.classicReply(c.route.operation, c.id, row, c.relayed))
	return nil
}

// classicCancel is POST /v2/{endpointId}/cancel/{id}. A job that has ended is
// answered as it is.
func (s *Server) classicCancel(c *call) error {
	return s.control(c, cancelCommand, s.classicState)
}

// classicRetry is POST /v2/{endpointId}/retry/{id}: a new run of a job that failed
// or timed out.
func (s *Server) classicRetry(c *call) error {
	return s.control(c, func(row *state.Job) (*command.Command, error) {
		if row.Status != protocol.StatusFailed && row.Status != protocol.StatusTimeout {
			return nil, protocol.NewError(protocol.CodeConflict, "Only a job that failed or timed out can be retried").
				With("jobId", row.ID).With("status", s.shownStatus(row).Classic())
		}
		return s.reopenCommand(row), nil
	}, s.classicState)
}

// classicState is the answer to a write.
func (s *Server) classicState(row *state.Job) any {
	return &protocol.ClassicJob{ID: row.ID, Status: s.shownStatus(row).Classic()}
}

// classicHealth is GET /v2/{endpointId}/health.
func (s *Server) classicHealth(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	b, berr := s.deps.Broker()
	if berr != nil {
		return errElsewhere
	}
	if err := c.barrier(ctx); err != nil {
		return err
	}
	e := s.deps.Store.Endpoint(c.who.Org, c.args[0])
	if e == nil || !c.who.Reaches(e.Org, e.ID) {
		return endpointNotFound(c.args[0])
	}
	h := b.Health(e.Org, e.ID)
	running := min(h.Running, e.Live) // the broker may be a moment ahead
	return c.json(&protocol.ClassicHealth{Workers: h.Workers, Jobs: protocol.ClassicJobs{
		Completed: e.Completed, Failed: e.Failed, Retried: e.Retried, InProgress: running, InQueue: e.Live - running,
	}})
}

// classicDocument is the job as the classic dialect shows it, without its output.
func (s *Server) classicDocument(row *state.Job) *protocol.ClassicJob {
	doc := &protocol.ClassicJob{ID: row.ID, Status: s.shownStatus(row).Classic(), Retries: retries(row)}
	out := row.Outcome
	switch {
	case row.Lease != nil:
		doc.WorkerID = row.Lease.Agent.String()
		soft := s.softOf(row)
		if soft.StartedMs > 0 {
			doc.DelayTime = ptr(max(soft.StartedMs-waitingSince(row), 0))
		}
		if soft.Progress != nil && doc.Status == protocol.ClassicInProgress {
			doc.Output, _ = protocol.EncodeJSON(soft.Progress) // it came as JSON
		}
	case out != nil && row.Status.Terminal():
		doc.WorkerID = out.Agent.String()
		if out.StartedMs > 0 {
			doc.DelayTime = ptr(max(out.StartedMs-waitingSince(row), 0))
			doc.ExecutionTime = ptr(max(out.EndedMs-out.StartedMs, 0))
		}
		if row.Status == protocol.StatusFailed || row.Status == protocol.StatusTimeout {
			doc.Error = classicError(out)
		}
	}
	return doc
}

// classicError is why a run failed, as text: never empty.
func classicError(out *state.Outcome) string {
	if out.ErrMessage != "" {
		return out.ErrMessage
	}
	return string(out.ErrCode)
}

// classicReply is the answer to a status. The output of a completed job is part of
// it, however large. A coordinator that relays the question has the job, too: it is
// told to answer itself rather than sent a large document.
func (s *Server) classicReply(operation, id string, row *state.Job, relayed bool) reply {
	doc := s.classicDocument(row)
	if row.Status != protocol.StatusCompleted || row.Outcome == nil {
		return s.answer(operation, id, doc, nil)
	}
	ref := row.Outcome.Output.Ref
	switch {
	case ref == nil:
		doc.Output = row.Outcome.Output.Inline
		return s.answer(operation, id, doc, nil)
	case relayed:
		index := strconv.FormatUint(row.Index, 10)
		return reply{status: fasthttp.StatusOK, header: [][2]string{{protocol.HeaderEnded, index}}}
	}
	body, size, err := s.deps.Blobs.Get(s.base, ref.SHA256)
	if err != nil {
		return s.errorReply(operation, id, unreadable(err))
	}
	doc.Output = json.RawMessage("null")
	text, err := protocol.EncodeJSON(doc)
	if err != nil {
		body.Close()
		return s.errorReply(operation, id, err)
	}
	return around(text, body, size)
}

// endedAnswer answers for a job that has ended, once this node knows of the end.
func (s *Server) endedAnswer(c *call) localAnswer {
	operation, id, who, endpoint, text := c.route.operation, c.id, c.who, c.args[0], c.jobText()
	return func(ctx context.Context, index uint64) reply {
		if err := s.deps.Applied(ctx, index); err != nil {
			return s.errorReply(operation, id, uncertainRead(err))
		}
		job, err := protocol.ParseJobID(text)
		if err != nil {
			return s.errorReply(operation, id, jobNotFound(text))
		}
		row, err := s.find(ctx, s.deps.Store.View(), job)
		if err == nil && (row == nil || !who.Reaches(row.Org, row.Target) || row.Target != endpoint) {
			err = jobNotFound(text)
		}
		if err != nil {
			return s.errorReply(operation, id, err)
		}
		return s.classicReply(operation, id, row, false)
	}
}
