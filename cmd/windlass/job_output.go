package main

import (
	"context"
	"fmt"
	"io"

	"windlass/protocol"
	"windlass/protocol/client"

	"github.com/spf13/cobra"
)

func (a *app) jobOutputCommand() *cobra.Command {
	return a.jobAction("output", "Print a completed job's output JSON", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		body, err := c.Output(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot read output: %w", err)
		}
		defer body.Close()
		// As it is, whatever the format: an output may be too large to hold.
		if _, err := io.Copy(a.out, body); err != nil {
			return fmt.Errorf("cannot copy output: %w", err)
		}
		_, err = io.WriteString(a.out, "\n")
		return err
	})
}
