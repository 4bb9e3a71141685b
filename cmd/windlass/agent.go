package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"strings"
	"syscall"
	"time"

	yaml "github.com/goccy/go-yaml"
	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"windlass/agent"
	"windlass/agent/gpu"
	"windlass/protocol/client"
)

const (
	shimVerb  = "shim"
	probeVerb = "gpu-probe"
	// drainTimeout is how long the first SIGTERM lets jobs finish before they are
	// given back; a service manager's stop timeout must be longer.
	drainTimeout = 10 * time.Minute
)

func (a *app) agentCommand() *cobra.Command {
	var file string
	cmd := a.nounCommand("agent", "Run an agent, or look at them", nil, a.agentListCommand())
	cmd.Long = `Run an agent on this host, or look at the agents of a cluster.

The configuration comes from the file, then WINDLASS_* variables, then flags; the later wins.
The first SIGTERM or Ctrl-C drains: running jobs finish, up to 10 minutes. The second gives them back,
the third leaves them to their shims, as SIGUSR2 does at once for a new agent to take over.`
	cmd.Example = `  windlass agent -c /etc/windlass/agent.yaml
  windlass agent list`
	cmd.Flags().StringVarP(&file, "config", "c", "", "YAML file; runs an agent")
	s := newSettings(cmd.Flags(), reflect.TypeFor[agent.Config]())
	help := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, given []string) error {
		if len(given) > 0 || cmd.Flags().NFlag() == 0 {
			return help(cmd, given)
		}
		cfg, err := load(a, s, file, agent.Config{}, yaml.CustomUnmarshaler(allowRule))
		if err != nil {
			return err
		}
		return a.runAgent(cmd.Context(), cfg)
	}
	return cmd
}

// allowRule reads an entry of runtimes.allow: the name of a kind, which allows all
// its commands, or the whole rule.
func allowRule(r *agent.AllowRule, text []byte) error {
	var kind string
	if yaml.Unmarshal(text, &kind) == nil {
		*r = agent.AllowRule{Kind: kind}
		return nil
	}
	type rule agent.AllowRule
	return yaml.UnmarshalWithOptions(text, (*rule)(r), yaml.Strict())
}

func (a *app) runAgent(ctx context.Context, cfg agent.Config) error {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return usagef("cannot use configuration: %v", err)
	}
	level := cfg.Log.Level
	if level == "" {
		level = zerolog.InfoLevel.String()
	}
	log, err := a.newLogger(level, cfg.Log.Format)
	if err != nil {
		return err
	}
	c, err := agentClient(cfg, a.version)
	if err != nil {
		return err
	}
	defer c.Close()
	deps, err := a.agentDeps(c, log)
	if err != nil {
		return err
	}
	ag, err := agent.New(cfg, deps)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 3) // as many as mean something
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGUSR2)
	defer signal.Stop(signals)
	// The signals are this command's own: the first one ends nothing.
	return obey(context.WithoutCancel(ctx), ag, signals)
}

// obey runs the agent and does what the signals ask (agent.md 6.6): the first
// drains, the second gives back what still runs, the third leaves it behind.
func obey(ctx context.Context, ag *agent.Agent, signals <-chan os.Signal) error {
	ctx, leave := context.WithCancel(ctx)
	defer leave()
	draining, giveBack := context.WithCancel(ctx)
	defer giveBack()
	ended, drained := make(chan error, 1), make(chan error, 1)
	go func() { ended <- ag.Run(ctx) }()
	for asked := 0; ; {
		select {
		case err := <-ended:
			return err
		case err := <-drained:
			leave()
			return errors.Join(err, <-ended)
		case s := <-signals:
			if asked++; s == syscall.SIGUSR2 || asked > 2 {
				leave()
				continue
			}
			if asked == 1 {
				expiry := time.AfterFunc(drainTimeout, giveBack)
				defer expiry.Stop()
				go func() { drained <- ag.Drain(draining) }()
			}
			if asked == 2 || s == syscall.SIGQUIT {
				giveBack()
			}
		}
	}
}

// agentClient reaches the coordinators with the agent's credential.
func agentClient(cfg agent.Config, version string) (*client.Client, error) {
	if len(cfg.Coordinators) == 0 {
		return nil, usagef("coordinators is empty: list the base URL of at least one")
	}
	conf := client.Config{Addrs: cfg.Coordinators, UserAgent: "windlass-agent/" + version}
	if cfg.CredentialFile != "" {
		text, err := os.ReadFile(cfg.CredentialFile)
		if err != nil {
			return nil, usagef("cannot read credentialFile: %v", err)
		}
		line, _, _ := strings.Cut(string(text), "\n")
		conf.Key = strings.TrimSpace(line)
	}
	var err error
	if conf.HTTP, err = trusting("ca", cfg.CA); err != nil {
		return nil, err
	}
	return client.New(conf)
}

// agentDeps are the parts of this binary that an agent starts as children.
func (a *app) agentDeps(c *client.Client, log zerolog.Logger) (agent.Deps, error) {
	self, err := os.Executable()
	if err != nil {
		return agent.Deps{}, fmt.Errorf("cannot find our own binary: %w", err)
	}
	return agent.Deps{
		Coordinator: c, Log: log, Version: a.version, Executable: self,
		ShimCommand: []string{self, shimVerb}, ProbeCommand: []string{self, probeVerb},
	}, nil
}

// probeCommand is the child that loads NVML, so that a hung driver never takes
// the agent with it.
func (a *app) probeCommand() *cobra.Command {
	return &cobra.Command{
		Use: probeVerb, Hidden: true, Args: args(),
		RunE: func(*cobra.Command, []string) error { return exitWith(gpu.ProbeMain(a.in, a.out)) },
	}
}
