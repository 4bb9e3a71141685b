package main

import (
	"io"
	"reflect"

	"github.com/spf13/cobra"

	"windlass/coordinator"
)

func (a *app) coordinatorCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use: "coordinator", Short: "Run a coordinator", Args: args(),
		Long: `Run a coordinator until SIGTERM or Ctrl-C.

The configuration comes from the file, then WINDLASS_* variables, then flags; the later wins.`,
		Example: `  windlass coordinator -c /etc/windlass/coordinator.yaml
  WINDLASS_HTTP_LISTEN=:7400 windlass coordinator --data /var/lib/windlass --bootstrap-key-file key`,
	}
	cmd.Flags().StringVarP(&file, "config", "c", "", "YAML file")
	s := newSettings(cmd.Flags(), reflect.TypeFor[coordinator.Config]())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load(a, s, file, coordinator.DefaultConfig())
		if err != nil {
			return err
		}
		if err := cfg.Validate(); err != nil {
			return usagef("cannot use configuration: %v", err)
		}
		recent, logged := &recentLog{}, *a
		logged.err = io.MultiWriter(a.err, recent)
		log, err := logged.newLogger(cfg.Log.Level, cfg.Log.Format)
		if err != nil {
			return err
		}
		a.raiseProcs()
		c, err := coordinator.NewWith(cfg, underChaos(coordinator.Options{Version: a.version, Recent: recent.Lines}), log)
		if err != nil {
			return err
		}
		return c.Run(cmd.Context())
	}
	return cmd
}
