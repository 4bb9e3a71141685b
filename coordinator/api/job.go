package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// maxDetail bounds the log or chunk list of an attempt that is read at once.
const maxDetail = 64 << 20

// cancelJob is POST /v2/jobs/{id}/cancel. A job that has ended is answered as it is.
func (s *Server) cancelJob(c *call) error {
	return s.control(c, cancelCommand, c.wholeDocument)
}

func cancelCommand(row *state.Job) (*command.Command, error) {
	if row.Status.Terminal() {
		return nil, nil
	}
	return &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: row.ID[:], Org: row.Org}}}, nil
}

func (c *call) wholeDocument(row *state.Job) any {
	return c.s.document(row, c.include(protocol.InlineOutput))
}

// retryJob is POST /v2/jobs/{id}/retry: a new run of a job that has ended.
func (s *Server) retryJob(c *call) error {
	return s.control(c, func(row *state.Job) (*command.Command, error) {
		if !row.Status.Terminal() {
			return nil, protocol.NewError(protocol.CodeConflict, "Only a job that has ended can be run again").
				With("jobId", row.ID).With("status", row.Status)
		}
		return s.reopenCommand(row), nil
	}, c.wholeDocument)
}

// reopenCommand names the run, so that it has its effect once.
func (s *Server) reopenCommand(row *state.Job) *command.Command {
	reopen := &command.Reopen{Job: row.ID[:], Org: row.Org, ExpectRun: row.Run}
	view := s.deps.Store.View()
	if e := view.Endpoint(row.Org, row.Target); e != nil {
		reopen.Reserve = s.reserve(view, e, row.ExecutionMs)
	}
	return &command.Command{Op: &command.Command_Reopen{Reopen: reopen}}
}

// control runs a write on one job and answers with the job as it is then, as show
// makes it. A job that needs none is answered as it is.
func (s *Server) control(c *call, write func(*state.Job) (*command.Command, error), show func(*state.Job) any) error {
	if _, err := c.body(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.row(ctx)
	if err != nil {
		return err
	}
	cmd, err := write(row)
	if err != nil {
		return err
	}
	if cmd != nil {
		if cmd.GetReopen() != nil {
			row, err = s.rerun(ctx, row, cmd)
		} else {
			row, err = s.changed(ctx, row, cmd)
		}
		if err != nil {
			return err
		}
	}
	return c.json(show(row))
}

// changed writes the command and returns the job as it is after it.
func (s *Server) changed(ctx context.Context, row *state.Job, cmd *command.Command) (*state.Job, error) {
	res, err := s.deps.Write(ctx, cmd)
	if err != nil {
		return nil, uncertain(err, row.ID)
	}
	if res.Code == protocol.CodeJobNotFound {
		return nil, jobNotFound(row.ID.String())
	}
	if res.Code != "" && !(res.Code == protocol.CodeConflict && cmd.GetCancel() != nil) {
		return nil, refused(res) // a job that ended before its cancel is answered as it is
	}
	if err := s.deps.Applied(ctx, res.Index); err != nil {
		return nil, uncertainRead(err) // it happened, and is not seen here yet
	}
	if now := s.deps.Store.Job(row.ID); now != nil {
		row = now
	}
	return row, nil
}

// sendBlob streams a blob. When it is corrupt the connection breaks before the
// announced length is reached.
func (s *Server) sendBlob(c *call, digest blob.Digest, kind string) error {
	r, size, err := s.deps.Blobs.Get(s.base, digest)
	if errors.Is(err, blob.ErrNotFound) {
		return errNoBlob()
	}
	if err != nil {
		return unreadable(err)
	}
	c.write(reply{status: fasthttp.StatusOK, kind: kind})
	c.ctx.Response.SetBodyStream(r, int(size))
	return nil
}

func errNoBlob() error {
	return protocol.NewError(protocol.CodeNotFound, "There is no blob with this digest")
}

// unreadable is the answer where a payload is known but cannot be read now.
func unreadable(err error) error {
	if errors.Is(err, blob.ErrUnreachable) {
		return unavailable("The payload cannot be fetched from where it is stored at the moment")
	}
	return err
}

// logs is GET /v2/jobs/{id}/logs: every kept line of the newest attempt.
func (s *Server) logs(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	lines, err := s.logLines(ctx, row)
	if err != nil {
		return err
	}
	return c.json(protocol.Page[protocol.LogLine]{Data: lines})
}

// logTail returns the last lines of the newest attempt, as a status shows them.
func (s *Server) logTail(ctx context.Context, row *state.Job) ([]protocol.LogLine, error) {
	lines, err := s.logLines(ctx, row)
	return lines[max(0, len(lines)-protocol.LogTail):], err
}

func (s *Server) logLines(ctx context.Context, row *state.Job) ([]protocol.LogLine, error) {
	lines := []protocol.LogLine{}
	if row.Lease != nil {
		for _, item := range s.deps.Board.Logs(row.ID, row.Attempt, 0) {
			lines = append(lines, item.Value)
		}
		return lines, nil
	}
	if row.Outcome == nil {
		return lines, nil
	}
	if err := s.readDetail(ctx, row.Outcome.Logs, &lines); err != nil {
		return nil, fmt.Errorf("cannot read the log of job %s: %w", row.ID, err)
	}
	return lines, nil
}

// readDetail decodes a JSON array that is inline or a blob.
func (s *Server) readDetail(ctx context.Context, p state.Payload, out any) error {
	raw := p.Inline
	if p.Ref != nil {
		var err error
		if raw, err = blob.ReadAll(ctx, s.deps.Blobs, p.Ref.SHA256, maxDetail); err != nil {
			return unreadable(err)
		}
	}
	if len(raw) == 0 {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// events is GET /v2/jobs/{id}/events: what the row knows of the job's history.
func (s *Server) events(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	return c.json(protocol.Page[protocol.JobEvent]{Data: s.history(row)})
}

func (s *Server) history(row *state.Job) []protocol.JobEvent {
	list := []protocol.JobEvent{{Time: protocol.Time(row.CreatedMs), Type: "submitted"}}
	add := func(ms int64, kind string, attempt uint32, agent protocol.AgentID) {
		if ms > 0 {
			list = append(list, protocol.JobEvent{Time: protocol.Time(ms), Type: kind, Attempt: attempt, AgentID: agent.String()})
		}
	}
	if out := row.Outcome; out != nil && out.Attempt > 0 {
		add(out.GrantedMs, "leased", out.Attempt, out.Agent)
		add(out.StartedMs, "started", out.Attempt, out.Agent)
	}
	if out := row.Outcome; out != nil {
		kind := "retry"
		if row.Status.Terminal() {
			kind = row.Status.String()
		}
		if row.Status.Terminal() || row.Failures > 0 {
			list = append(list, protocol.JobEvent{Time: protocol.Time(out.EndedMs), Type: kind, Attempt: out.Attempt, Code: out.ErrCode, Message: out.ErrMessage})
		}
	}
	if row.Extra != nil && row.Extra.ReopenedMs > 0 && !row.Status.Terminal() {
		list = append(list, protocol.JobEvent{Time: protocol.Time(row.Extra.ReopenedMs), Type: "reopened"})
	}
	if row.Lease != nil {
		add(row.Lease.GrantedMs, "leased", row.Attempt, row.Lease.Agent)
		if soft, ok := s.deps.Board.Get(row.ID, row.Attempt); ok {
			add(soft.StartedMs, "started", row.Attempt, row.Lease.Agent)
		}
	}
	return list
}
