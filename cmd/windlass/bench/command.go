// Package bench measures a coordinator from outside: server, load and agents
// are processes of their own, every acknowledgement is after fsync. See DESIGN.md.
package bench

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
)

// options are the flags that all measurements share.
type options struct {
	clients int
	nodes   int
	spread  bool
	agents  int
	slots   int
	rate    int
	seconds time.Duration
	depth   int64
	cpu     int
	dir     string
	level   string // of the coordinators' logs; "": warn
	out     io.Writer
}

// Command returns "windlass bench".
func Command() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:   "bench",
		Short: "Measure a coordinator on this machine: jobs/s, latency, and costs per job",
		Long: "Measure a coordinator on this machine. Server, load and agents are separate processes on loopback;\n" +
			"inputs are 1,024 bytes and every acknowledgement is after fsync. Absolute figures depend on the\n" +
			"machine and on what else runs there: compare ratios and costs per job, and look at the probes.",
	}
	f := root.PersistentFlags()
	f.IntVar(&o.clients, "clients", 64, "clients that submit one job after the other")
	f.IntVar(&o.nodes, "nodes", 1, "coordinators, each with its own log")
	f.BoolVar(&o.spread, "spread", false, "spread the clients over all coordinators instead of the one that leads")
	f.IntVar(&o.agents, "agents", 8, "agents")
	f.IntVar(&o.slots, "slots", 8, "slots of each agent")
	f.IntVar(&o.rate, "rate", 200, "latency: jobs per second offered")
	f.DurationVar(&o.seconds, "time", 5*time.Second, "how long to load")
	f.Int64Var(&o.depth, "depth", 1_000_000, "fill: jobs that wait")
	f.IntVar(&o.cpu, "cpu", 70, "steady: percent of the machine's processors to keep busy")
	f.StringVar(&o.dir, "dir", "", "where data directories go (default: the system's temporary folder)")
	root.AddCommand(
		o.measurement("submit", "Submits per second without agents", runSubmit),
		o.measurement("cycle", "Jobs per second from submit to result", runCycle),
		o.measurement("latency", "Submit and submit-to-agent latency at a fixed rate", runLatency),
		o.measurement("fill", "Cost per job behind a short and a long queue, and memory per queued job", runFill),
		o.measurement("idle", "What parked polls cost (--agents)", runIdle),
		o.measurement("failover", "What a fleet of --agents that each hold a job does when the leader is killed (three coordinators)", runFailover),
		o.measurement("steady", "How often leadership moves while the machine is busy (three coordinators, --cpu, --time)", runSteady),
		fleetCommand(), swarmCommand(),
	)
	return root
}

func (o *options) measurement(use, short string, run func(context.Context, options) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		o.out = cmd.OutOrStdout()
		return run(cmd.Context(), *o)
	}}
}

// row is one line of a result.
type row struct {
	name  string
	value string
}

func print(out io.Writer, title string, rows ...row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, title)
	for _, r := range rows {
		fmt.Fprintf(w, "  %s\t%s\n", r.name, r.value)
	}
	return w.Flush()
}

func ms(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond))
}

// probes measures the machine at this moment.
func probes(o options) ([]row, error) {
	syncs, err := syncProbe(o.tempDir())
	if err != nil {
		return nil, err
	}
	plain, each, err := httpProbe(o.clients)
	if err != nil {
		return nil, err
	}
	return []row{
		{"probe: 4 KiB append + fdatasync", fmt.Sprintf("%.0f/s", syncs)},
		{"probe: plain fasthttp", fmt.Sprintf("%.0f/s", plain)},
		{"probe: CPU per plain request", fmt.Sprintf("%.1f us", float64(each)/float64(time.Microsecond))},
	}, nil
}

// costs are what the server spent between two readings, per job.
func costs(before, after counters, jobs float64) []row {
	return []row{
		{"server CPU per job", fmt.Sprintf("%.1f us", (after.cpu-before.cpu)/jobs*1e6)},
		{"requests per job", fmt.Sprintf("%.2f", (after.requests-before.requests)/jobs)},
		{"allocations per job", fmt.Sprintf("%.0f", (after.mallocs-before.mallocs)/jobs)},
		{"log syncs per job", fmt.Sprintf("%.4f", (after.syncs-before.syncs)/jobs)},
		{"log bytes per job", fmt.Sprintf("%.0f", (after.logBytes-before.logBytes)/jobs)},
	}
}
