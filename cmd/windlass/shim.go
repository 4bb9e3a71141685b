package main

import (
	"github.com/spf13/cobra"

	"windlass/agent/shim"
	"windlass/inference"
	"windlass/inference/builtin"
	"windlass/inference/command"
)

// runtimes are the runtime kinds of this binary.
func runtimes() []inference.Runtime {
	return []inference.Runtime{builtin.New(), command.New()}
}

// shimCommand is what an agent starts for each runtime instance.
func (a *app) shimCommand() *cobra.Command {
	return &cobra.Command{
		Use: shimVerb + " DIR", Hidden: true, Args: args("DIR"),
		RunE: func(_ *cobra.Command, given []string) error {
			return exitWith(shim.Main(given[0], runtimes()))
		},
	}
}

// exitWith hands on the exit code of an entry point that has said what is wrong.
func exitWith(code int) error {
	if code == exitOK {
		return nil
	}
	return &exitError{code: code}
}
