package main

import (
	"context"
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) endpointPauseCommand() *cobra.Command {
	return a.endpointAction("pause", "Give no job of an endpoint to an agent; submits are still taken", func(ctx context.Context, c *client.Client, id string) error {
		e, err := c.PauseEndpoint(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot pause endpoint %s: %w", id, err)
		}
		return a.printEndpoints([]protocol.Endpoint{e})
	})
}

func (a *app) endpointResumeCommand() *cobra.Command {
	return a.endpointAction("resume", "Give the jobs of a paused endpoint to agents again", func(ctx context.Context, c *client.Client, id string) error {
		e, err := c.ResumeEndpoint(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot resume endpoint %s: %w", id, err)
		}
		return a.printEndpoints([]protocol.Endpoint{e})
	})
}

func (a *app) endpointPurgeCommand() *cobra.Command {
	return a.endpointAction("purge", "Cancel the jobs of an endpoint that wait", func(ctx context.Context, c *client.Client, id string) error {
		p, err := c.PurgeEndpoint(ctx, id)
		if err != nil {
			return fmt.Errorf("cannot purge endpoint %s: %w", id, err)
		}
		return a.print(view{doc: p, names: []string{id}, table: func(w io.Writer) {
			writeTable(w, table.Row{"Endpoint", "Removed"}, []table.Row{{id, p.Removed}})
		}})
	})
}

// endpointAction is a command on one endpoint.
func (a *app) endpointAction(use, short string, act func(context.Context, *client.Client, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " ENDPOINT", Short: short, Args: args("ENDPOINT"), ValidArgsFunction: a.completeEndpoint,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			return act(cmd.Context(), c, given[0])
		},
	}
}
