package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"windlass/protocol"
)

type runOptions struct {
	file     string
	priority string
	tags     []string
	wait     bool
	key      string
	callback string
	followOptions
}

func (a *app) runCommand() *cobra.Command {
	var opts runOptions
	cmd := &cobra.Command{
		Use: "run ENDPOINT [KEY=VALUE ...]", Short: "Submit a job, and wait for its result if asked",
		Example: `  windlass run ep_story prompt="Once upon a time" count=3 --wait
  windlass run ep_story -i input.json --stream
  echo '{"prompt": "Hi"}' | windlass run ep_story -i - -o name`,
		ValidArgsFunction: a.completeEndpoint,
		Args: func(cmd *cobra.Command, given []string) error {
			if len(given) == 0 {
				return usagef("%s needs ENDPOINT; list what there is with: windlass endpoint list", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, given []string) error { return a.runJob(cmd, given[0], given[1:], opts) },
	}
	f := cmd.Flags()
	f.StringVarP(&opts.file, "input", "i", "", "file with the input JSON; - is stdin")
	f.StringVar(&opts.priority, "priority", "", "critical, high, normal or low")
	f.StringArrayVar(&opts.tags, "tag", nil, "tag as key=value; repeatable")
	f.StringVar(&opts.callback, "callback", "", "URL that is told how the job ended; see: windlass webhook --help")
	f.BoolVar(&opts.wait, "wait", false, "wait for the end; print the output on stdout and the figures on stderr")
	f.BoolVar(&opts.text, "text", false, "with --wait: print the output's text or result field alone, where it has one")
	f.BoolVar(&opts.stream, "stream", false, "print the stream as it comes; waits for the end")
	f.DurationVar(&opts.timeout, "timeout", 0, "stop waiting after this long; the job goes on")
	f.StringVar(&opts.key, "idempotency-key", "", "the same key and input submit one job only")
	_ = cmd.RegisterFlagCompletionFunc("priority", cobra.FixedCompletions(priorities(), cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func priorities() []string {
	var names []string
	for p := protocol.PriorityCritical; p <= protocol.PriorityLow; p++ {
		names = append(names, p.String())
	}
	return names
}

func (a *app) runJob(cmd *cobra.Command, endpoint string, pairs []string, opts runOptions) error {
	req, err := a.submitRequest(pairs, opts)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	r, err := c.Submit(cmd.Context(), endpoint, req)
	if err != nil {
		return fmt.Errorf("cannot submit: %w", err)
	}
	if opts.wait || opts.stream {
		if a.errTerminal {
			a.sayf("%s\n", r.JobID)
		}
		return a.follow(cmd.Context(), c, r.JobID, opts.followOptions)
	}
	if err := a.submitted(r); err != nil {
		return err
	}
	if a.format == formatTable {
		a.sayf("follow it with: windlass job watch %s\n", r.JobID)
	}
	return nil
}

func (a *app) submitRequest(pairs []string, opts runOptions) (protocol.SubmitRequest, error) {
	req := protocol.SubmitRequest{Priority: opts.priority, IdempotencyKey: opts.key, CallbackURL: opts.callback}
	if opts.timeout < 0 {
		return req, usagef("--timeout %v: want a positive length such as 30s", opts.timeout)
	}
	if opts.timeout > 0 && opts.timeout < time.Millisecond {
		return req, usagef("--timeout %v: want a unit, such as 30s", opts.timeout)
	}
	if _, err := protocol.ParsePriority(opts.priority); err != nil {
		return req, usagef("--priority: %v", err)
	}
	var err error
	if req.Tags, err = parseTags(opts.tags); err != nil {
		return req, err
	}
	req.Input, err = a.readInput(opts.file, pairs)
	return req, err
}
