package api

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/board"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// maxWait bounds wait= of a status: below the idle limit of usual proxies.
const maxWait = 60 * time.Second

// status is GET /v2/jobs/{id}/status (seed S2).
func (s *Server) status(c *call) error {
	inc, format, err := c.statusQuery()
	if err != nil {
		return err
	}
	wait, since, err := c.waitQuery()
	if err != nil {
		return err
	}
	c.holds = wait
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	match, id, operation := c.header(fasthttp.HeaderIfNoneMatch), c.id, c.route.operation
	if wait > 0 && !row.Status.Terminal() && !c.stale {
		if now := s.deps.Board.Revision(row); since == nil || now.Compare(*since) == 0 {
			return c.hold(func(ctx context.Context) reply {
				row := s.await(ctx, row, now, wait)
				return s.statusReply(operation, id, row, inc, format, "")
			})
		}
	}
	c.write(s.statusReply(operation, id, row, inc, format, match))
	return nil
}

func (s *Server) statusReply(operation, id string, row *state.Job, inc include, format, match string) reply {
	doc := s.document(row, inc)
	etag := `"` + doc.Revision + `"`
	header := [2]string{fasthttp.HeaderETag, etag}
	if match != "" && (match == "*" || strings.Contains(match, etag)) {
		return reply{status: fasthttp.StatusNotModified, header: [][2]string{header}}
	}
	var r reply
	if format == formatSummary {
		r = s.answer(operation, id, summary(doc), nil)
	} else {
		if inc.logs {
			lines, err := s.logTail(s.base, row)
			if err != nil {
				return s.errorReply(operation, id, err)
			}
			doc.Logs = lines
		}
		r = s.answer(operation, id, doc, nil)
	}
	r.header = append(r.header, header)
	return r
}

// await returns the row as it is when the job's revision is not seen any more,
// or when the wait is over. It is over at once when this node leads no more: what
// it knows was true after the request began, and the next poll asks the new leader.
func (s *Server) await(ctx context.Context, row *state.Job, seen board.Revision, wait time.Duration) *state.Job {
	sub := s.deps.Board.Subscribe(row.ID)
	defer sub.Close()
	timer := time.NewTimer(wait)
	defer timer.Stop()
	lead, _ := s.deps.Cluster.Leads()
	for {
		if now, err := s.find(ctx, s.deps.Store.View(), row.ID); now == nil || err != nil {
			return row // expired, or unknown: this is the last that it was
		} else if row = now; s.deps.Board.Revision(row).Compare(seen) != 0 {
			return row
		}
		select {
		case <-sub.C():
		case <-timer.C:
			return row
		case <-lead.Lost:
			return row
		case <-ctx.Done():
			return row
		}
	}
}

const formatSummary = "summary"

// statusQuery reads include= and format=.
func (c *call) statusQuery() (include, string, error) {
	inc := c.include(protocol.InlineOutput)
	var bad findings
	parts := c.queryList("include", "include[]")
	readInclude(&inc, parts, "include", &bad)
	format := c.query("format")
	if format != "" && format != "json" && format != formatSummary {
		bad.add("format", format, "Must be json or summary")
	}
	return inc, format, bad.err()
}

func readInclude(inc *include, parts []string, field string, bad *findings) {
	for _, part := range parts {
		switch part {
		case "logs":
			inc.logs = true
		case "metrics":
			inc.metrics = true
		case "resources":
			inc.resources = true
		default:
			bad.add(field, part, "Must be logs, metrics or resources")
		}
	}
}

// waitQuery reads wait= and revision=. A revision that is not ours is no error:
// the current state answers it.
func (c *call) waitQuery() (time.Duration, *board.Revision, error) {
	raw := c.query("wait")
	if raw == "" {
		return 0, nil, nil
	}
	wait, err := time.ParseDuration(raw)
	if err != nil || wait < 0 {
		return 0, nil, protocol.Invalid("wait", shown(raw), "Must be a length of time such as 30s")
	}
	given := c.query("revision")
	wait = max(min(wait, maxWait)-c.waited, 0) // some of it has passed at the coordinator that relays it
	if given == "" {
		return wait, nil, nil
	}
	since, err := board.ParseRevision(given)
	if err != nil {
		since = board.Revision{}
	}
	return wait, &since, nil
}

// job reads the job that the path names, for an answer about it. What is known
// of one that has not ended is with the leader: elsewhere it is errElsewhere. So
// is one that this node has not heard of, which may be new.
func (c *call) job(ctx context.Context) (*state.Job, error) {
	id, err := protocol.ParseJobID(c.jobText())
	if err != nil {
		return nil, jobNotFound(c.jobText())
	}
	if view := c.s.deps.Store.View(); !c.stale && !c.s.leads() && !ended(view.Job(id)) {
		if view.Job(id) != nil || !mayBeArchived(view, id) {
			return nil, errElsewhere
		}
	}
	row, err := c.row(ctx)
	if err == nil && !c.stale && !c.s.leads() && !ended(row) {
		return nil, errElsewhere // it runs again
	}
	return row, err
}

func ended(row *state.Job) bool { return row != nil && row.Status.Terminal() }

// row reads the job's row, linearizably unless the caller wants it stale. One of
// another organisation is the same 404 as one that never was (DESIGN 4).
func (c *call) row(ctx context.Context) (*state.Job, error) {
	text := c.jobText()
	id, err := protocol.ParseJobID(text)
	if err != nil {
		return nil, jobNotFound(text)
	}
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	row, err := c.s.find(ctx, c.s.deps.Store.View(), id)
	if err != nil {
		return nil, err
	}
	if row == nil || !c.reaches(row) || c.classic && row.Target != c.args[0] {
		return nil, jobNotFound(text)
	}
	return row, nil
}

func jobNotFound(text string) error {
	text, _ = shown(text).(string)
	return protocol.NewError(protocol.CodeJobNotFound, "Job "+text+" does not exist or has expired").
		With("jobId", text).
		With("possibleReasons", []string{"Job ID is incorrect", "Job was deleted after completion", "Job expired (older than 30 days)"})
}

// uncertainRead is the error of a read that could not be checked.
func uncertainRead(err error) error {
	var e *protocol.Error
	if errors.As(err, &e) {
		return noLeader(e)
	}
	return protocol.NewError(protocol.CodeNoLeader, "No leader confirms that this coordinator is up to date").With("retryAfter", noLeaderRetry)
}

// batchStatus is POST /v2/jobs/status/batch (seed S2).
func (s *Server) batchStatus(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	req, inc, err := parseBatch(body, c.include(protocol.InlineOutput))
	if err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := c.barrier(ctx); err != nil {
		return err
	}
	view := s.deps.Store.View()
	if !c.stale && !s.leads() && !allEnded(view, req.JobIDs) {
		return errElsewhere
	}
	out := protocol.BatchStatusResponse{Jobs: []protocol.JobStatus{}, Errors: []protocol.BatchError{}}
	rows := s.findAll(ctx, view, req.JobIDs)
	for i, text := range req.JobIDs {
		row, err := rows[i].row, rows[i].err
		if e := (*protocol.Error)(nil); errors.As(err, &e) {
			out.Errors = append(out.Errors, protocol.BatchError{JobID: text, Error: e.Code, Message: e.Message})
			continue
		}
		if err != nil {
			return err
		}
		if row == nil || !c.reaches(row) {
			text, _ = shown(text).(string)
			out.Errors = append(out.Errors, protocol.BatchError{JobID: text, Error: protocol.CodeJobNotFound, Message: "Job " + text + " does not exist or has expired"})
			continue
		}
		doc := s.document(row, inc)
		if inc.logs {
			if doc.Logs, err = s.logTail(ctx, row); err != nil {
				return err
			}
		}
		out.Jobs = append(out.Jobs, *doc)
	}
	return c.json(&out)
}

// allEnded reports whether this node can answer for all of the jobs.
func allEnded(view *state.View, ids []string) bool {
	for _, text := range ids {
		id, err := protocol.ParseJobID(text)
		if err == nil && !ended(view.Job(id)) {
			return false
		}
	}
	return true
}

func parseBatch(body []byte, inc include) (*protocol.BatchStatusRequest, include, error) {
	req := &protocol.BatchStatusRequest{}
	var bad findings
	err := scanObject(body, func(key string, value []byte) {
		switch key {
		case "jobIds":
			decodeList(value, key, &req.JobIDs, &bad)
		case "include":
			decodeList(value, key, &req.Include, &bad)
		}
	})
	switch {
	case errors.Is(err, errNotObject):
		bad.add("body", trimSpace(body), "Must be a JSON object")
	case err != nil:
		return nil, inc, malformed(err)
	case len(req.JobIDs) == 0 && len(bad.list) == 0:
		bad.add("jobIds", nil, "Required: a list of job ids")
	case len(req.JobIDs) > protocol.MaxBatchStatus:
		bad.add("jobIds", len(req.JobIDs), "Must hold at most 1000 ids")
	}
	readInclude(&inc, req.Include, "include", &bad)
	return req, inc, bad.err()
}
