package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"windlass/protocol"
	"windlass/protocol/client"
)

type followOptions struct {
	stream  bool
	timeout time.Duration
	text    bool // print the output's text instead of its JSON
}

// follow watches a job to its end and shows what came of it: progress and
// figures on stderr, the output on stdout. The job's end decides the error.
func (a *app) follow(ctx context.Context, c *client.Client, id protocol.JobID, opts followOptions) error {
	watching := ctx
	if opts.timeout > 0 {
		var cancel context.CancelFunc
		watching, cancel = context.WithTimeoutCause(ctx, opts.timeout, errTimeout)
		defer cancel()
	}
	f := follower{a: a, opts: opts, progress: a.newProgress(opts.stream)}
	err := f.watch(watching, c, id)
	f.progress.clear()
	f.endStream()
	if err != nil {
		return a.detached(id, err)
	}
	s, err := c.Status(ctx, id, client.StatusOptions{Include: []string{"metrics", "resources"}})
	if err != nil {
		return fmt.Errorf("cannot read result: %w", err)
	}
	if s.Status != protocol.StatusCompleted {
		return endError(s)
	}
	if err := a.printResult(ctx, c, s, opts); err != nil {
		return err
	}
	if a.format == formatTable {
		if rows := figureRows(s); len(rows) > 0 {
			writeTable(a.err, nil, rows)
		}
	}
	return nil
}

// detached explains an end of watching that is not the job's end.
func (a *app) detached(id protocol.JobID, err error) error {
	if errors.Is(err, errTimeout) || errors.Is(err, context.Canceled) {
		a.sayf("%s goes on; follow it with: windlass job watch %s\n", id, id)
		return err
	}
	return fmt.Errorf("cannot watch job: %w", err)
}

func endError(s protocol.JobStatus) error {
	code := exitJobFailed
	switch s.Status {
	case protocol.StatusCancelled:
		code = exitJobCancelled
	case protocol.StatusTimeout:
		code = exitJobTimeout
	}
	text := fmt.Sprintf("%s %s", s.JobID, ended(s.Status))
	if s.Error != nil {
		text += ": " + printable(s.Error.Error())
	}
	return &exitError{code: code, err: fmt.Errorf("%s; see: windlass job logs %s", text, s.JobID)}
}

func ended(s protocol.Status) string {
	switch s {
	case protocol.StatusCancelled:
		return "was cancelled"
	case protocol.StatusTimeout:
		return "timed out"
	default:
		return s.String()
	}
}

// printResult writes the output alone, or in the formats of documents the whole status.
func (a *app) printResult(ctx context.Context, c *client.Client, s protocol.JobStatus, opts followOptions) error {
	if a.format != formatTable {
		if opts.stream && a.format == formatJSONL {
			return nil // the stream was the data
		}
		return a.printJob(s)
	}
	if opts.stream {
		return nil
	}
	if s.Output == nil {
		body, err := c.Output(ctx, s.JobID)
		if err != nil {
			return fmt.Errorf("cannot read output: %w", err)
		}
		defer body.Close()
		if _, err := io.Copy(a.out, body); err != nil {
			return fmt.Errorf("cannot copy output: %w", err)
		}
		_, err = io.WriteString(a.out, "\n")
		return err
	}
	if text := outputText(s.Output); opts.text && text != "" {
		_, err := fmt.Fprintln(a.out, text)
		return err
	}
	if !a.outTerminal {
		_, err := fmt.Fprintln(a.out, string(s.Output))
		return err
	}
	return writeJSON(a.out, s.Output)
}

// outputText is what a person wants to read of an output: the output itself when
// it is text, else its field text or result; "" when there is none.
func outputText(output json.RawMessage) string {
	var whole string
	if json.Unmarshal(output, &whole) == nil {
		return whole
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(output, &fields) != nil {
		return ""
	}
	for _, name := range []string{"text", "result"} {
		if json.Unmarshal(fields[name], &whole) == nil && whole != "" {
			return whole
		}
	}
	return ""
}

// follower shows the events of one job.
type follower struct {
	a        *app
	opts     followOptions
	progress *progress
	open     bool   // stream text that does not end a line was written
	attempt  uint32 // of the newest chunk
	next     uint64 // chunk of that attempt
}

func (f *follower) watch(ctx context.Context, c *client.Client, id protocol.JobID) error {
	for e, err := range c.Watch(ctx, id) {
		if err != nil {
			return err
		}
		switch e.Type {
		case protocol.EventStatus:
			var s protocol.JobStatus
			if err := json.Unmarshal(e.Data, &s); err != nil {
				return fmt.Errorf("cannot read status event: %w", err)
			}
			f.progress.show(s)
		case protocol.EventOutput:
			if err := f.chunk(e.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

// chunk prints one stream chunk: text as text, anything else as JSON. The
// stream is data unless stdout is promised to the status document.
func (f *follower) chunk(data []byte) error {
	if !f.opts.stream {
		return nil
	}
	var e protocol.OutputEvent
	if err := json.Unmarshal(data, &e); err != nil {
		return fmt.Errorf("cannot read output event: %w", err)
	}
	if e.Attempt == f.attempt && e.Seq < f.next {
		return nil // a stream that was taken up again may repeat
	}
	f.attempt, f.next = e.Attempt, e.Seq+1
	if f.a.format == formatJSONL {
		return writeLine(f.a.out, e)
	}
	if e.Restart && e.Attempt > 1 {
		f.endStream()
		f.a.sayf("attempt %d starts again\n", e.Attempt)
	}
	text, isText := chunkText(e.Chunk)
	if !isText {
		f.endStream()
		text = string(e.Chunk) + "\n"
	}
	if text == "" {
		return nil
	}
	f.progress.clear()
	f.open = text[len(text)-1] != '\n'
	_, err := io.WriteString(f.streamTo(), text)
	return err
}

func (f *follower) streamTo() io.Writer {
	if f.a.format == formatTable {
		return f.a.out
	}
	return f.a.err
}

func (f *follower) endStream() {
	if f.open {
		_, _ = io.WriteString(f.streamTo(), "\n")
		f.open = false
	}
}

// chunkText reads a chunk that is text, or an object with text.
func chunkText(chunk json.RawMessage) (string, bool) {
	var s string
	if json.Unmarshal(chunk, &s) == nil {
		return s, true
	}
	var o struct {
		Text *string `json:"text"`
	}
	if json.Unmarshal(chunk, &o) == nil && o.Text != nil {
		return *o.Text, true
	}
	return "", false
}

// submitted shows the answer to a submit that nobody waits for.
func (a *app) submitted(r protocol.SubmitResponse) error {
	return a.print(view{doc: r, names: []string{r.JobID.String()}, table: func(w io.Writer) {
		writeTable(w, nil, []table.Row{{"Job", r.JobID}, {"Status", r.Status}, {"Endpoint", r.EndpointID}, {"Priority", r.Priority}})
	}})
}
