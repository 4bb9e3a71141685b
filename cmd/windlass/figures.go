package main

import (
	"encoding/json"
	"fmt"
	"iter"
	"maps"
	"slices"

	"github.com/jedib0t/go-pretty/v6/table"

	"windlass/protocol"
)

// figureRows are the measured figures of a job. What was not measured is absent.
func figureRows(s protocol.JobStatus) []table.Row {
	var rows []table.Row
	if s.Metrics != nil && s.Metrics.QueueWait != nil {
		rows = append(rows, table.Row{"Queue wait", seconds(*s.Metrics.QueueWait)})
	}
	if c := s.ColdStart; c != nil {
		rows = append(rows, table.Row{"Cold start", coldStart(c)})
	}
	if s.ExecutionTime != nil {
		rows = append(rows, table.Row{"Run time", seconds(*s.ExecutionTime)})
	}
	if t := tokens(s); t != "" {
		rows = append(rows, table.Row{"Tokens", t})
	}
	if r := s.Resources; r != nil && r.PeakMemoryUsage != "" {
		rows = append(rows, table.Row{"Peak memory", r.PeakMemoryUsage})
	}
	if s.Execution != nil && s.Execution.CostAccrued != nil {
		rows = append(rows, table.Row{"Cost", s.Execution.CostAccrued.String()})
	}
	if s.Metrics != nil && s.Metrics.Attempts > 1 {
		rows = append(rows, table.Row{"Attempts", s.Metrics.Attempts})
	}
	return rows
}

func coldStart(c *protocol.ColdStart) string {
	if !c.Occurred {
		return "none, the runtime was warm"
	}
	text := seconds(c.Duration)
	if p := c.Phases; p != nil {
		text += fmt.Sprintf(" (container start %s, dependency load %s, model load %s)",
			seconds(p.ContainerStart), seconds(p.DependencyLoad), seconds(p.ModelLoad))
	}
	return text
}

// tokens says how many were made and how fast: of a job that has ended the mean
// over its run, of a running one the rate that it tells.
func tokens(s protocol.JobStatus) string {
	n, ok := tokenCount(s)
	switch {
	case !ok:
		return ""
	case s.Status.Terminal() && s.ExecutionTime != nil && *s.ExecutionTime > 0:
		mean := protocol.Throughput{Value: float64(n) / *s.ExecutionTime, Unit: "tokens/s"}
		return grouped(n) + " (" + rate(&mean) + ")"
	default:
		return grouped(n)
	}
}

func tokenCount(s protocol.JobStatus) (int64, bool) {
	var meta struct {
		TokensGenerated *int64 `json:"tokensGenerated"`
	}
	if json.Unmarshal(s.Metadata, &meta) == nil && meta.TokensGenerated != nil {
		return *meta.TokensGenerated, true
	}
	if s.Execution != nil && s.Execution.TokensProcessed != nil {
		return *s.Execution.TokensProcessed, true // those that were read are among them
	}
	return 0, false
}

func rate(t *protocol.Throughput) string {
	if t.Value >= 100 {
		return grouped(int64(t.Value)) + " " + printable(t.Unit)
	}
	return fmt.Sprintf("%.1f %s", t.Value, printable(t.Unit))
}

// sorted walks a map in the order of its keys.
func sorted[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
