package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"windlass/cmd/windlass/bench"
)

func (a *app) rootCommand() *cobra.Command {
	root := a.nounCommand("windlass", "Asynchronous GPU jobs on your own machines", nil,
		a.runCommand(), a.jobCommand(), a.endpointCommand(), a.agentCommand(), a.keyCommand(), a.orgCommand(), a.webhookCommand(), a.whoamiCommand(), a.clusterCommand(), a.tlsCommand(), a.coordinatorCommand(),
		a.devCommand(), a.versionCommand(), bench.Command(), a.shimCommand(), a.probeCommand(), a.builtinCommand())
	root.Long = `Windlass queues jobs for GPU hosts: submit to an endpoint, follow the progress, fetch the output.

` + exitCodesHelp + `

Environment:
  WINDLASS_ADDR     comma list of coordinators, default http://127.0.0.1:7400
  WINDLASS_API_KEY  the key to call them with
  WINDLASS_CACERT   PEM file of the CA of their certificates, for https addresses
  WINDLASS_OUTPUT   default of --output`
	root.Example = `  windlass dev
  windlass run ep_story prompt="Once upon a time" --stream
  windlass job list --status running`
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usagef("%v; see: %s --help", err, cmd.CommandPath())
	})
	root.PersistentFlags().StringVarP(&a.format, "output", "o", "", "table, json, jsonl, yaml or name")
	_ = root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats(), cobra.ShellCompDirectiveNoFileComp))
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.chooseFormat() }
	return root
}

// nounCommand groups verbs. Alone it shows its help as an error, because a
// script that forgot the verb must not go on.
func (a *app) nounCommand(use, short string, aliases []string, verbs ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Aliases: aliases,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownVerb(cmd, args[0])
			}
			cmd.SetOut(a.err)
			_ = cmd.Help()
			return &exitError{code: exitUsage}
		},
	}
	cmd.SuggestionsMinimumDistance = 2
	cmd.AddCommand(verbs...)
	return cmd
}

func unknownVerb(cmd *cobra.Command, verb string) error {
	text := fmt.Sprintf("unknown command %q for %q", verb, cmd.CommandPath())
	if near := cmd.SuggestionsFor(verb); len(near) > 0 {
		return usagef("%s; did you mean %s?", text, strings.Join(near, " or "))
	}
	return usagef("%s; see: %s --help", text, cmd.CommandPath())
}

// args checks that exactly the named arguments are there.
func args(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if len(given) == len(names) {
			return nil
		}
		if len(given) < len(names) {
			return usagef("%s needs %s; see: %s --help", cmd.CommandPath(), names[len(given)], cmd.CommandPath())
		}
		return usagef("%s does not take %q; see: %s --help", cmd.CommandPath(), given[len(names)], cmd.CommandPath())
	}
}
