package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobRetryCommand() *cobra.Command {
	return a.jobAction("retry", "Run a job that has ended once more, under its id", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		s, err := c.Retry(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot retry job: %w", err)
		}
		return a.printJob(s)
	})
}
