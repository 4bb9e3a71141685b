package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol/client"
)

func (a *app) keyListCommand() *cobra.Command {
	var org string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the keys of an organisation", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			keys, err := c.Keys(cmd.Context(), org)
			if err != nil {
				return fmt.Errorf("cannot list keys: %w", err)
			}
			return a.printKeys(keys)
		},
	}
	cmd.Flags().StringVar(&org, "org", "", "another organisation than that of the key in use")
	return cmd
}

func (a *app) keyShowCommand() *cobra.Command {
	return &cobra.Command{
		Use: "show KEY_ID", Short: "Show a key, without its text", Args: args("KEY_ID"), ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			k, err := c.Key(cmd.Context(), given[0])
			if err != nil {
				return fmt.Errorf("cannot read key: %w", err)
			}
			return a.printKey(k)
		},
	}
}

// whoamiCommand shows the key in use.
func (a *app) whoamiCommand() *cobra.Command {
	return &cobra.Command{
		Use: "whoami", Short: "Show the key in use: whose it is, and what it may do", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			k, err := c.OwnKey(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot read the key in use: %w", err)
			}
			return a.printKey(k)
		},
	}
}

func (a *app) keyRotateCommand() *cobra.Command {
	const overlap = 24 * time.Hour
	var span time.Duration
	cmd := &cobra.Command{
		Use: "rotate KEY_ID", Short: "Give a key a new text and show it, once", Args: args("KEY_ID"), ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, given []string) error {
			if span < 0 {
				return usagef("--overlap must not be negative")
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			k, err := c.RotateKey(cmd.Context(), given[0], span)
			if err != nil {
				return fmt.Errorf("cannot rotate key: %w", err)
			}
			return a.printNewKey(k, "rotated")
		},
	}
	cmd.Flags().DurationVar(&span, "overlap", overlap, "how long the old text stays valid; 0 ends it at once")
	return cmd
}

func (a *app) keyRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "revoke KEY_ID", Aliases: []string{"delete", "rm"}, Short: "End a key at once and for ever", Args: args("KEY_ID"), ValidArgsFunction: a.completeKeys,
		RunE: func(cmd *cobra.Command, given []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.RevokeKey(cmd.Context(), given[0]); err != nil {
				return fmt.Errorf("cannot revoke key: %w", err)
			}
			a.sayf("revoked %s\n", given[0])
			return nil
		},
	}
}

func (a *app) completeKeys(cmd *cobra.Command, given []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.live(cmd, func(ctx context.Context, c *client.Client) ([]cobra.Completion, error) {
		keys, err := c.Keys(ctx, "")
		var found []cobra.Completion
		for _, k := range keys {
			found = append(found, cobra.CompletionWithDesc(k.ID, string(k.Status)+" "+k.Name))
		}
		return found, err
	})
}
