package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobExplainCommand() *cobra.Command {
	return a.jobAction("explain", "Say why a job waits", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		e, err := c.Explain(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot explain job: %w", err)
		}
		return a.print(view{doc: e, names: []string{e.JobID.String()}, table: func(w io.Writer) { explainTo(w, &e) }})
	})
}

func explainTo(w io.Writer, e *protocol.Explain) {
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) }
	if e.Position > 0 {
		line("%s is %s, number %d in the queue", e.JobID, e.Status, e.Position)
	} else {
		line("%s is %s", e.JobID, e.Status)
	}
	if e.Never {
		line("No registered agent could ever take it.")
	}
	told := make(map[string]bool)
	for _, b := range e.Blocking {
		told[b.Message] = true
		line("- %s (%s)", printable(b.Message), b.Code)
		if b.Fix != "" {
			line("  %s: %s", b.Owner, printable(b.Fix))
		}
	}
	for _, r := range e.Reasons {
		if !told[r] {
			line("- %s", printable(r))
		}
	}
	if e.ETA != nil {
		line("Starts about %s", e.ETA.StartAt)
	}
}
