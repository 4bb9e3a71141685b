package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) endpointListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List endpoints", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			endpoints, err := c.Endpoints(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot list endpoints: %w", err)
			}
			return a.printEndpoints(endpoints)
		},
	}
}
