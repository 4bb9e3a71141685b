package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) endpointDeleteCommand() *cobra.Command {
	return &cobra.Command{
		Use: "delete ENDPOINT", Aliases: []string{"rm"}, Short: "Remove an endpoint that has no live jobs",
		Args: args("ENDPOINT"), ValidArgsFunction: a.completeEndpoint,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if err := c.DeleteEndpoint(cmd.Context(), given[0]); err != nil {
				return fmt.Errorf("cannot delete endpoint %s: %w", given[0], err)
			}
			a.sayf("deleted %s\n", given[0])
			return nil
		},
	}
}
