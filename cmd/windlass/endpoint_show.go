package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

func (a *app) endpointShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show ENDPOINT", Short: "Show one endpoint document", Args: args("ENDPOINT"),
		ValidArgsFunction: a.completeEndpoint,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			e, err := c.Endpoint(cmd.Context(), given[0])
			if err != nil {
				return fmt.Errorf("cannot read endpoint: %w", err)
			}
			// A document is most readable as what apply takes.
			return a.print(view{doc: e, names: []string{e.ID}, table: func(w io.Writer) { _ = writeYAML(w, e) }})
		},
	}
}
