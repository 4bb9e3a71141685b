package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobPauseCommand() *cobra.Command {
	return a.jobAction("pause", "Hold a job back; one that runs stops at a checkpoint if its runtime offers one", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		s, err := c.PauseJob(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot pause job: %w", err)
		}
		return a.printJob(s)
	})
}

func (a *app) jobResumeCommand() *cobra.Command {
	return a.jobAction("resume", "Let a paused job take its place in the queue again", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		s, err := c.ResumeJob(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot resume job: %w", err)
		}
		return a.printJob(s)
	})
}
