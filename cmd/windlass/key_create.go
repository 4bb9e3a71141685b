package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) keyCreateCommand() *cobra.Command {
	var req protocol.KeyRequest
	var permissions []string
	var ttl time.Duration
	cmd := &cobra.Command{
		Use: "create --permission P[,P...]", Short: "Make a key and show its text, once", Args: args(),
		Example: `  windlass key create --name ci --permission endpoints:execute,jobs:read --ttl 720h
  windlass key create --name gpu-hosts --permission agents:manage > agent.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(permissions) == 0 {
				return usagef("--permission is missing; see: windlass key --help")
			}
			for _, p := range permissions {
				req.Permissions = append(req.Permissions, protocol.Permission(p))
			}
			switch {
			case ttl < 0:
				return usagef("--ttl must not be negative")
			case ttl > 0:
				req.ExpiresAt = protocol.TimeOf(time.Now().Add(ttl))
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			k, err := c.CreateKey(cmd.Context(), req)
			if err != nil {
				return fmt.Errorf("cannot make a key: %w", err)
			}
			return a.printNewKey(k, "made")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&req.Name, "name", "", "what the key is for")
	flags.StringSliceVarP(&permissions, "permission", "p", nil, "what it may do")
	flags.StringSliceVar(&req.Endpoints, "endpoint", nil, "endpoints that it is bound to; none is all of the organisation")
	flags.StringVar(&req.Org, "org", "", "another organisation than that of the key in use")
	flags.DurationVar(&ttl, "ttl", 0, "how long it is valid; 0 is for ever")
	_ = cmd.RegisterFlagCompletionFunc("endpoint", a.completeEndpoints)
	return cmd
}
