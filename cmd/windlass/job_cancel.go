package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobCancelCommand() *cobra.Command {
	return a.jobAction("cancel", "End a job; what runs is stopped", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		s, err := c.Cancel(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot cancel job: %w", err)
		}
		return a.printJob(s)
	})
}
