package main

import "github.com/spf13/cobra"

func (a *app) agentCommand() *cobra.Command {
	return a.nounCommand("agent", "Run an agent, or look at them", nil, a.agentListCommand())
}
