package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) agentListCommand() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List agents", Args: args(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			defer c.Close()
			agents, err := c.Agents(cmd.Context())
			if err != nil {
				return fmt.Errorf("cannot list agents: %w", err)
			}
			return a.printAgents(agents)
		},
	}
}

func (a *app) printAgents(agents []protocol.AgentInfo) error {
	v := view{doc: protocol.Page[protocol.AgentInfo]{Data: agents}, rows: []any{}}
	for _, g := range agents {
		v.rows = append(v.rows, g)
		v.names = append(v.names, g.ID.String())
	}
	v.table = func(w io.Writer) {
		now := time.Now()
		rows := make([]table.Row, 0, len(agents))
		for _, g := range agents {
			state := "lost"
			if g.Connected {
				state = "connected"
			}
			rows = append(rows, table.Row{
				printable(g.Name), state, fmt.Sprintf("%d/%d", g.Running, g.Slots), len(g.GPUs),
				strings.Join(g.Kinds, ","), age(now, g.LastSeen), g.ID,
			})
		}
		writeTable(w, table.Row{"Agent", "State", "Running", "GPUs", "Runtimes", "Seen", "Id"}, rows)
	}
	return a.print(v)
}
