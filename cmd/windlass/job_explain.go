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
		return a.print(view{doc: e, names: []string{e.JobID.String()}, table: func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "%s is %s", e.JobID, e.Status)
			if e.Position > 0 {
				_, _ = fmt.Fprintf(w, ", number %d in the queue", e.Position)
			}
			_, _ = fmt.Fprintln(w)
			for _, r := range e.Reasons {
				_, _ = fmt.Fprintln(w, "- "+printable(r))
			}
		}})
	})
}
