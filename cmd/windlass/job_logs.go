package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobLogsCommand() *cobra.Command {
	var follow bool
	cmd := a.jobAction("logs", "Print a job's log", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		if follow {
			return a.followLogs(ctx, c, id)
		}
		lines, err := c.Logs(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot read logs: %w", err)
		}
		return a.printLogs(lines)
	})
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on until the job ends")
	return cmd
}

func (a *app) printLogs(lines []protocol.LogLine) error {
	v := view{doc: protocol.Page[protocol.LogLine]{Data: lines}, rows: []any{}}
	for _, l := range lines {
		v.rows = append(v.rows, l)
		v.names = append(v.names, printable(l.Line))
	}
	v.table = func(w io.Writer) {
		for _, l := range lines {
			_, _ = fmt.Fprintln(w, logText(l))
		}
	}
	return a.print(v)
}

// followLogs prints lines as they come. The event stream says when to look; the
// lines are read from the log itself, so that none is missed or shown twice
// when the stream breaks or the coordinator changes.
func (a *app) followLogs(ctx context.Context, c *client.Client, id protocol.JobID) error {
	f := logFollower{a: a, c: c, id: id}
	for e, err := range c.Watch(ctx, id) {
		if err != nil {
			return fmt.Errorf("cannot follow logs: %w", err)
		}
		if e.Type == protocol.EventOutput {
			continue
		}
		if err := f.catchUp(ctx); err != nil {
			return err
		}
	}
	return f.catchUp(ctx)
}

type logFollower struct {
	a    *app
	c    *client.Client
	id   protocol.JobID
	last protocol.LogLine
	any  bool
}

func (f *logFollower) catchUp(ctx context.Context) error {
	lines, err := f.c.Logs(ctx, f.id)
	if err != nil {
		return fmt.Errorf("cannot read logs: %w", err)
	}
	for _, l := range lines[f.seen(lines):] {
		if err := f.print(l); err != nil {
			return err
		}
		f.last, f.any = l, true
	}
	return nil
}

// seen is how many of lines were printed: all up to the last one printed. A tail
// that has moved past it, or a new attempt's log, is printed from its start.
func (f *logFollower) seen(lines []protocol.LogLine) int {
	for i := len(lines) - 1; f.any && i >= 0; i-- {
		if lines[i] == f.last {
			return i + 1
		}
	}
	return 0
}

func (f *logFollower) print(l protocol.LogLine) error {
	text := logText(l)
	if f.a.format == formatJSON || f.a.format == formatJSONL {
		b, err := protocol.EncodeJSON(l)
		if err != nil {
			return fmt.Errorf("cannot write log line: %w", err)
		}
		text = string(b)
	}
	_, err := fmt.Fprintln(f.a.out, text)
	return err
}

func logText(l protocol.LogLine) string {
	return l.Time.String() + " " + l.Source + " " + printable(l.Line)
}
