package main

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) clusterCommand() *cobra.Command {
	return a.nounCommand("cluster", "Look at the coordinators", nil, a.clusterStatusCommand())
}

func (a *app) clusterStatusCommand() *cobra.Command {
	digest := false
	cmd := &cobra.Command{
		Use: "status", Short: "Show how a coordinator stands", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			s, err := c.Cluster(cmd.Context(), digest)
			if err != nil {
				return fmt.Errorf("cannot read cluster status: %w", err)
			}
			return a.printCluster(s)
		},
	}
	cmd.Flags().BoolVar(&digest, "digest", false, "hash the state, to compare coordinators with equal indexes")
	return cmd
}

func (a *app) printCluster(s protocol.ClusterStatus) error {
	return a.print(view{doc: s, names: []string{s.Node}, table: func(w io.Writer) {
		limit := "no limit"
		if s.MaxBytes > 0 {
			limit = protocol.FormatBytes(s.MaxBytes)
		}
		rows := []table.Row{
			{"Node", s.Node}, {"Leader", s.Leader}, {"Term", s.Term}, {"Index", s.Index},
			{"Clock", protocol.Time(s.ClockMs)}, {"Agents", s.Agents},
			{"Queued", grouped(int64(s.Jobs.Queued))}, {"Running", grouped(int64(s.Jobs.Running))},
			{"State", protocol.FormatBytes(s.Bytes) + " of " + limit},
		}
		if s.Digest != "" {
			rows = append(rows, table.Row{"Digest", s.Digest})
		}
		writeTable(w, nil, rows)
	}})
}
