package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobStatusCommand() *cobra.Command {
	var include []string
	cmd := a.jobAction("status", "Show where a job stands", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		s, err := c.Status(ctx, id, client.StatusOptions{Include: include})
		if err != nil {
			return fmt.Errorf("cannot read job: %w", err)
		}
		return a.printJob(s)
	})
	cmd.Flags().StringSliceVar(&include, "include", []string{"metrics"}, "optional parts: logs, metrics, resources")
	return cmd
}
