package main

import (
	"fmt"
	"io"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"windlass/protocol"
)

func (a *app) endpointCommand() *cobra.Command {
	return a.nounCommand("endpoint", "Define what can be run", []string{"ep"},
		a.endpointApplyCommand(), a.endpointListCommand(), a.endpointShowCommand(),
		a.endpointPauseCommand(), a.endpointResumeCommand(), a.endpointPurgeCommand(), a.endpointDeleteCommand())
}

func (a *app) printEndpoints(endpoints []protocol.Endpoint) error {
	v := view{doc: protocol.Page[protocol.Endpoint]{Data: endpoints}, rows: []any{}}
	for _, e := range endpoints {
		v.rows = append(v.rows, e)
		v.names = append(v.names, e.ID)
	}
	v.table = func(w io.Writer) {
		rows := make([]table.Row, 0, len(endpoints))
		for _, e := range endpoints {
			rows = append(rows, table.Row{e.ID, e.Runtime.Kind, needs(e.Resources), max(1, e.Concurrency), e.Revision})
		}
		writeTable(w, table.Row{"Endpoint", "Runtime", "Needs", "Concurrency", "Revision"}, rows)
	}
	return a.print(v)
}

func needs(r protocol.ResourceSpec) string {
	if r.GPUs == 0 {
		return "cpu"
	}
	text := fmt.Sprintf("%d gpu", r.GPUs)
	if r.VRAM > 0 {
		text += " " + protocol.FormatBytes(int64(r.VRAM))
	}
	if r.GPUType != "" {
		text += " " + r.GPUType
	}
	return text
}
