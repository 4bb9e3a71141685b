package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol/client"
)

// completionBudget is how long a shell may hang on the Tab key; without an
// answer in time there is nothing to offer.
const completionBudget = 300 * time.Millisecond

const completionRows = 50

func (a *app) completeJobs(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.live(cmd, func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		page, err := c.Jobs(ctx, client.ListOptions{Limit: completionRows})
		var found []cobra.Completion
		for _, j := range page.Data {
			found = append(found, cobra.CompletionWithDesc(j.JobID.String(), j.Status.String()+" "+j.EndpointID))
		}
		return found, err
	})
}

// completeEndpoint completes a first argument; the arguments after it are not names.
func (a *app) completeEndpoint(cmd *cobra.Command, given []string, prefix string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeEndpoints(cmd, given, prefix)
}

func (a *app) completeEndpoints(cmd *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return a.live(cmd, func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		endpoints, err := c.Endpoints(ctx)
		var found []cobra.Completion
		for _, e := range endpoints {
			found = append(found, cobra.CompletionWithDesc(e.ID, e.Runtime.Kind))
		}
		return found, err
	})
}

func (a *app) live(cmd *cobra.Command, ask func(context.Context, *client.Client) ([]cobra.Completion, error)) ([]cobra.Completion, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	c, err := a.client()
	if err != nil {
		return nil, none
	}
	defer c.Close()
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, completionBudget)
	defer cancel()
	found, err := ask(ctx, c)
	if err != nil {
		return nil, none
	}
	return found, none
}
