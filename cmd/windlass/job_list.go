package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
)

func (a *app) jobListCommand() *cobra.Command {
	var opts client.ListOptions
	var tags []string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List jobs, newest first", Args: args(),
		Example: `  windlass job list --status queued,running --endpoint ep_story
  windlass job list --tag user=ada -o name`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opts.Tags, err = parseTags(tags); err != nil {
				return err
			}
			if opts.Limit < 1 || opts.Limit > protocol.MaxListLimit {
				return usagef("--limit %d: want 1 to %d", opts.Limit, protocol.MaxListLimit)
			}
			for _, s := range opts.Status {
				if _, err := protocol.ParseStatus(s); err != nil {
					return usagef("--status: %v", err)
				}
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			page, err := listJobs(cmd.Context(), c, opts)
			if err != nil {
				return fmt.Errorf("cannot list jobs: %w", err)
			}
			return a.printJobs(page)
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&opts.Status, "status", nil, "only these states (comma list)")
	f.StringVar(&opts.Endpoint, "endpoint", "", "only jobs of this endpoint")
	f.StringArrayVar(&tags, "tag", nil, "only jobs with this tag, as key=value; repeatable")
	f.StringVar(&opts.IdempotencyKey, "idempotency-key", "", "the job that was submitted with this key")
	f.IntVar(&opts.Limit, "limit", protocol.DefaultListLimit, fmt.Sprintf("rows of a page, at most %d", protocol.MaxListLimit))
	f.StringVar(&opts.Cursor, "cursor", "", "nextCursor of the page before")
	_ = cmd.RegisterFlagCompletionFunc("endpoint", a.completeEndpoints)
	return cmd
}

// listJobs fills one page: a filtered one may come short while more follow.
func listJobs(ctx context.Context, c *client.Client, opts client.ListOptions) (protocol.Page[protocol.JobStatus], error) {
	var page protocol.Page[protocol.JobStatus]
	limit := opts.Limit
	for {
		opts.Limit = limit - len(page.Data)
		next, err := c.Jobs(ctx, opts)
		if err != nil {
			return page, err
		}
		page.Data = append(page.Data, next.Data...)
		page.NextCursor, opts.Cursor = next.NextCursor, next.NextCursor
		if page.NextCursor == "" || len(page.Data) >= limit {
			return page, nil
		}
	}
}

func (a *app) printJobs(page protocol.Page[protocol.JobStatus]) error {
	v := view{doc: page, rows: []any{}}
	for _, j := range page.Data {
		v.rows = append(v.rows, j)
		v.names = append(v.names, j.JobID.String())
	}
	v.table = func(w io.Writer) {
		writeTable(w, table.Row{"Job", "Status", "Endpoint", "Priority", "Progress", "Age"}, listRows(time.Now(), page.Data))
	}
	if err := a.print(v); err != nil {
		return err
	}
	if page.NextCursor != "" && a.format != formatJSON && a.format != formatYAML {
		a.sayf("more follow: --cursor %s\n", page.NextCursor)
	}
	return nil
}

func parseTags(pairs []string) (map[string]string, error) {
	if len(pairs) == 0 {
		return nil, nil
	}
	tags := make(map[string]string, len(pairs))
	for _, p := range pairs {
		k, v, ok := strings.Cut(p, "=")
		if !ok || k == "" {
			return nil, usagef("--tag %q: want key=value", p)
		}
		tags[k] = v
	}
	return tags, nil
}
