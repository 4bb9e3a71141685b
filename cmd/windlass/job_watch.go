package main

import (
	"context"

	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobWatchCommand() *cobra.Command {
	var opts followOptions
	cmd := a.jobAction("watch", "Follow a job until it ends, and show its result", func(ctx context.Context, c *client.Client, id protocol.JobID) error {
		return a.follow(ctx, c, id, opts)
	})
	cmd.Flags().BoolVar(&opts.stream, "stream", false, "print the stream as it comes, instead of the output")
	cmd.Flags().DurationVar(&opts.timeout, "timeout", 0, "stop watching after this long; the job goes on")
	return cmd
}
