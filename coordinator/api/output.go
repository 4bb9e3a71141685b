package api

import (
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/blob"
	"windlass/coordinator/output"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// view is how the outputs of a document are shown.
func (s *Server) outputs(inc include) output.View {
	return output.View{Secret: s.deps.Store.View().Meta().Secret, Base: inc.base, NowMs: s.deps.NowMs(), Inline: inc.inline}
}

// addOutputs adds what an outcome has beside its figures: the output of a completed
// job, what any other left, and when it is deleted.
func (s *Server) addOutputs(doc *protocol.JobStatus, row *state.Job, inc include) {
	v := s.outputs(inc)
	if row.Status == protocol.StatusCompleted {
		doc.Output = v.Document(row)
	} else {
		doc.PartialResults = v.Partial(row)
	}
	doc.Files = v.Files(row)
	doc.OutputExpiresAt = protocol.Time(row.Outcome.OutputsUntilMs)
}

// output is GET /v2/jobs/{id}/output: the output's JSON, streamed when it is large.
func (s *Server) output(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.job(ctx)
	if err != nil {
		return err
	}
	if row.Status != protocol.StatusCompleted || row.Outcome == nil {
		return protocol.NewError(protocol.CodeOutputNotReady, "The job has no output: it is "+s.shownStatus(row).String()).
			With("jobId", row.ID).With("status", s.shownStatus(row))
	}
	if err := s.checkStored(row); err != nil && row.Outcome.Output.Ref != nil {
		return err
	}
	return s.sendPart(c, row, output.Whole)
}

// getOutput is GET /v2/outputs/{job}/{name}: a part of a job's output, for whoever
// has its signed URL. Nothing but the signature is needed, and without it nothing
// can be learnt.
func (s *Server) getOutput(c *call) error {
	ticket, ok := output.Open(s.deps.Store.View().Meta().Secret, c.args[0], c.query("part"), c.query("expires"), c.query("signature"))
	if !ok {
		return noOutput()
	}
	if ticket.Expires*1000 <= s.deps.NowMs() {
		return outputExpired(protocol.Time(ticket.Expires * 1000))
	}
	ctx, cancel := c.context()
	defer cancel()
	row, err := c.ticketed(ctx, ticket)
	if err != nil {
		return err
	}
	name := output.Name(row.Outcome, ticket.Part)
	if name == "" || name != c.args[1] {
		return noOutput()
	}
	if ticket.Part != output.Whole || row.Outcome.Output.Ref != nil {
		if err := s.checkStored(row); err != nil {
			return err
		}
	}
	return s.sendPart(c, row, ticket.Part)
}

// ticketed returns the job of a ticket, unless it has another outcome by now.
func (c *call) ticketed(ctx context.Context, t output.Ticket) (*state.Job, error) {
	if err := c.barrier(ctx); err != nil {
		return nil, err
	}
	row, err := c.s.find(ctx, c.s.deps.Store.View(), t.Job)
	switch {
	case err != nil:
		return nil, err
	case row == nil || row.Outcome == nil || row.Outcome.Attempt != t.Attempt:
		return nil, noOutput()
	}
	return row, nil
}

func noOutput() error {
	return protocol.NewError(protocol.CodeNotFound, "There is no such output: the URL is not one of ours, or the job was deleted or ran again")
}

func outputExpired(at protocol.Time) error {
	return protocol.NewError(protocol.CodeOutputExpired, "The output was deleted: stored outputs are kept for 7 days").With("outputExpiresAt", at)
}

// checkStored returns OUTPUT_EXPIRED when the job's stored outputs are deleted, or
// about to be.
func (s *Server) checkStored(row *state.Job) error {
	until := row.Outcome.OutputsUntilMs
	if until != 0 && (until <= s.deps.NowMs() || !s.deps.Store.View().HasStored(row.ID, until)) {
		return outputExpired(protocol.Time(until))
	}
	return nil
}

// sendPart answers with a part of an output. What a handler made is never shown by
// a browser as if it were a page of ours: it is saved.
func (s *Server) sendPart(c *call, row *state.Job, part int) error {
	name, ref := output.Name(row.Outcome, part), row.Outcome.Output.Ref
	if part != output.Whole {
		ref = &row.Outcome.Files[part].Blob
	}
	header := [][2]string{
		{"X-Content-Type-Options", "nosniff"},
		{"Content-Security-Policy", "default-src 'none'; sandbox"},
		{fasthttp.HeaderContentDisposition, disposition(name)},
	}
	if ref == nil {
		c.write(reply{status: fasthttp.StatusOK, header: header, body: row.Outcome.Output.Inline, kind: typeJSON})
		return nil
	}
	r, size, err := s.deps.Blobs.Get(s.base, ref.SHA256)
	if errors.Is(err, blob.ErrNotFound) {
		return noOutput()
	}
	if err != nil {
		return unreadable(err)
	}
	c.write(reply{status: fasthttp.StatusOK, header: header, kind: contentType(name)})
	c.ctx.Response.SetBodyStream(r, int(size))
	return nil
}

// disposition saves a file under its name (RFC 6266); what is not ASCII is in the
// second form only.
func disposition(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, name)
	return `attachment; filename="` + plain + `"; filename*=UTF-8''` + strings.ReplaceAll(url.QueryEscape(name), "+", "%20")
}

// contentType names the formats that players and libraries want to know; any
// other is bytes.
func contentType(name string) string {
	switch protocol.OutputFormat(name) {
	case "json":
		return typeJSON
	case "txt", "log", "md":
		return "text/plain; charset=utf-8"
	case "csv":
		return "text/csv; charset=utf-8"
	case "pdf":
		return "application/pdf"
	case "zip":
		return "application/zip"
	case "png", "gif", "webp", "bmp", "avif":
		return "image/" + protocol.OutputFormat(name)
	case "jpg", "jpeg":
		return "image/jpeg"
	case "mp4", "webm":
		return "video/" + protocol.OutputFormat(name)
	case "mp3":
		return "audio/mpeg"
	case "wav", "ogg", "flac":
		return "audio/" + protocol.OutputFormat(name)
	}
	return "application/octet-stream"
}
