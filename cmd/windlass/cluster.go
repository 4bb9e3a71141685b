package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/protocol/retry"
)

func (a *app) clusterCommand() *cobra.Command {
	return a.nounCommand("cluster", "Look at the coordinators and change their cluster", nil,
		a.clusterStatusCommand(), a.clusterJoinCommand(), a.clusterLeaveCommand(), a.clusterRemoveCommand(), a.clusterTransferCommand(),
		a.clusterSnapshotCommand(), a.clusterRecoverCommand(), a.clusterDebugCommand())
}

// clusterView is what `cluster status` shows: one coordinator, and all of them
// as it sees them.
type clusterView struct {
	protocol.ClusterStatus
	protocol.ClusterMembers
}

func (a *app) clusterStatusCommand() *cobra.Command {
	digest, wait, timeout := false, false, time.Minute
	cmd := &cobra.Command{
		Use: "status", Short: "Show the coordinators and how one of them stands", Args: args(),
		Long: `Show the coordinators, what is wrong with them, and how the one that answers stands.

With --wait-healthy the command returns once all coordinators that the configuration asks for vote, answer and keep up.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			if wait {
				if timeout <= 0 {
					return usagef("--timeout %v: want a positive length such as 30s", timeout)
				}
				if err := a.waitHealthy(cmd.Context(), c, timeout); err != nil {
					return err
				}
			}
			v := clusterView{}
			if v.ClusterStatus, err = c.Cluster(cmd.Context(), digest); err == nil {
				v.ClusterMembers, err = c.ClusterMembers(cmd.Context())
			}
			if err != nil {
				return fmt.Errorf("cannot read cluster status: %w", err)
			}
			return a.printCluster(v)
		},
	}
	cmd.Flags().BoolVar(&digest, "digest", false, "hash the state, to compare coordinators with equal indexes")
	cmd.Flags().BoolVar(&wait, "wait-healthy", false, "wait until the cluster is healthy")
	cmd.Flags().DurationVar(&timeout, "timeout", timeout, "with --wait-healthy: give up after this long")
	return cmd
}

// lookAgain is between two looks at a cluster that is waited for; what
// coordinators know of each other is a second old.
const lookAgain = time.Second

// waitHealthy returns once the cluster is healthy; it says what is missing
// whenever that changes.
func (a *app) waitHealthy(ctx context.Context, c *client.Client, timeout time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, errTimeout)
	defer cancel()
	said := ""
	for {
		m, err := c.ClusterMembers(ctx)
		if err == nil && m.Healthy {
			return nil
		}
		var e *protocol.Error
		if errors.As(err, &e) && e.Status < 500 {
			return fmt.Errorf("cannot read cluster status: %w", err)
		}
		now := strings.Join(m.Findings, "\n")
		if err != nil && ctx.Err() == nil {
			now = err.Error()
		}
		if now != said && now != "" {
			a.sayf("waiting: %s\n", now)
			said = now
		}
		if err := retry.Sleep(ctx, lookAgain); err != nil {
			return fmt.Errorf("the cluster is not healthy: %w", errors.Join(err, context.Cause(ctx)))
		}
	}
}

func (a *app) printCluster(v clusterView) error {
	names := make([]string, len(v.Members))
	for i, m := range v.Members {
		names[i] = m.Server
	}
	return a.print(view{doc: v, names: names, table: func(w io.Writer) {
		writeTable(w, table.Row{"SERVER", "ROLE", "ADDRESS", "API", "STATE", "APPLIED", "CLOCK", "VERSION"}, memberRows(v.Members))
		_, _ = fmt.Fprintln(w)
		for _, f := range v.Findings {
			_, _ = fmt.Fprintln(w, "! "+f)
		}
		if len(v.Findings) > 0 {
			_, _ = fmt.Fprintln(w)
		}
		writeTable(w, nil, standingRows(v))
	}})
}

func memberRows(members []protocol.ClusterMember) []table.Row {
	rows := make([]table.Row, len(members))
	for i, m := range members {
		state := "reachable"
		switch {
		case m.Self:
			state = "answers"
		case !m.Reachable && m.LastContactMs == nil:
			state = "never seen"
		case !m.Reachable:
			state = fmt.Sprintf("silent for %s", (time.Duration(*m.LastContactMs) * time.Millisecond).Round(time.Second))
		}
		rows[i] = table.Row{m.Server, m.Role, m.Address, m.URL, state, m.Applied, fmt.Sprintf("%+d ms", m.ClockOffsetMs), m.Version}
	}
	return rows
}

func standingRows(v clusterView) []table.Row {
	s := v.ClusterStatus
	limit := "no limit"
	if s.MaxBytes > 0 {
		limit = protocol.FormatBytes(s.MaxBytes)
	}
	health := fmt.Sprintf("healthy, %d may fail", v.Tolerates)
	if !v.Healthy {
		health = fmt.Sprintf("not healthy, %d may fail", v.Tolerates)
	}
	rows := []table.Row{
		{"Cluster", v.ClusterMembers.Cluster}, {"Health", health},
		{"Node", s.Node}, {"Leader", s.Leader}, {"Term", s.Term}, {"Index", s.Index},
		{"Clock", protocol.Time(s.ClockMs)}, {"Agents", s.Agents},
		{"Queued", grouped(int64(s.Jobs.Queued))}, {"Running", grouped(int64(s.Jobs.Running))},
		{"State", protocol.FormatBytes(s.Bytes) + " of " + limit},
	}
	if s.Digest != "" {
		rows = append(rows, table.Row{"Digest", s.Digest})
	}
	return rows
}
