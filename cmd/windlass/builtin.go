package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"windlass/inference/builtin"
)

// builtinCommand is the child process of the built-in runtime. It parses its
// own flags, because agents of other versions start it too.
func (a *app) builtinCommand() *cobra.Command {
	return &cobra.Command{
		Use: builtin.Subcommand, Hidden: true, DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, given []string) error {
			out, err := builtin.OpenChannel(a.env)
			if err != nil {
				return fmt.Errorf("cannot start the built-in runtime: %w", err)
			}
			return exitWith(builtin.Main(given, a.in, out, a.err))
		},
	}
}
