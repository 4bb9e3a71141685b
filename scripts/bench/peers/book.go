package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

const (
	rowP50 = "submit to worker p50, ms"
	rowP99 = "submit to worker p99, ms"
)

func cycleRow(c int) string { return fmt.Sprintf("full cycle, %d clients, jobs/s", c) }

// book keeps the figures of all rounds.
type book struct {
	rows   []string
	values map[string]map[string][]float64 // by row, then system
	probes []float64
	failed []string
}

func newBook(clients []int) *book {
	b := &book{values: make(map[string]map[string][]float64)}
	for _, c := range clients {
		b.rows = append(b.rows, cycleRow(c))
	}
	b.rows = append(b.rows, rowP50, rowP99)
	for _, r := range b.rows {
		b.values[r] = make(map[string][]float64)
	}
	return b
}

func (b *book) add(system, row string, v float64) {
	b.values[row][system] = append(b.values[row][system], v)
}

func (b *book) fail(system, what string, err error) {
	line := fmt.Sprintf("%s: %s: %v", system, what, err)
	fmt.Println("  thrown away:", line)
	b.failed = append(b.failed, line)
}

// probeTime is how long the disk is probed before a round.
const probeTime = 2 * time.Second

// probe measures 4 KiB append + fdatasync.
func (b *book) probe(dir string) error {
	return withDir(dir, func(dir string) error {
		f, err := os.Create(filepath.Join(dir, "probe"))
		if err != nil {
			return fmt.Errorf("cannot probe the disk: %w", err)
		}
		defer f.Close()
		block, n, start := make([]byte, 4096), 0, time.Now()
		for time.Since(start) < probeTime {
			if _, err := f.Write(block); err != nil {
				return fmt.Errorf("cannot probe the disk: %w", err)
			}
			if err := syscall.Fdatasync(int(f.Fd())); err != nil {
				return fmt.Errorf("cannot probe the disk: %w", err)
			}
			n++
		}
		b.probes = append(b.probes, float64(n)/probeTime.Seconds())
		return nil
	})
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

// print shows medians with the least and greatest, then the ratios.
func (b *book) print(out io.Writer, systems []*system) {
	fmt.Fprintf(out, "\nmedian (least to greatest) of %d rounds\n", len(b.probes))
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, row := range b.rows {
		fmt.Fprintln(w, row)
		for _, sys := range systems {
			v := b.values[row][sys.name]
			if len(v) == 0 {
				continue
			}
			format := "  %s\t%.0f\t(%.0f to %.0f)\n"
			if row == rowP50 || row == rowP99 {
				format = "  %s\t%.2f\t(%.2f to %.2f)\n"
			}
			fmt.Fprintf(w, format, sys.name, median(v), slices.Min(v), slices.Max(v))
		}
	}
	_ = w.Flush()
	b.goals(out)
	middle := median(b.probes)
	for i, p := range b.probes {
		if p > 2*middle || p < middle/2 {
			fmt.Fprintf(out, "round %d: the disk was more than 2x off its median: %.0f/s against %.0f/s\n", i+1, p, middle)
		}
	}
	for _, line := range b.failed {
		fmt.Fprintln(out, "thrown away:", line)
	}
}

// goal is a ratio of two medians that the project set itself.
type goal struct {
	row   string
	ours  string
	other string // "best" is the best of the one-node queues beside RabbitMQ
	want  float64
	most  bool // at most want instead of at least
}

func goals() []goal {
	return []goal{
		{cycleRow(16), "windlass-r3", "jetstream-r3", 3, false},
		{cycleRow(64), "windlass-r3", "jetstream-r3", 3, false},
		{cycleRow(256), "windlass-r3", "jetstream-r3", 1.75, false},
		{rowP50, "windlass-r3", "jetstream-r3", 0.6, true},
		{rowP99, "windlass-r3", "jetstream-r3", 0.6, true},
		{cycleRow(64), "windlass-r1", "rabbitmq", 2, false},
		{cycleRow(256), "windlass-r1", "rabbitmq", 2, false},
		{cycleRow(64), "windlass-r1", "best", 3.5, false},
		{cycleRow(64), "windlass-r3", "rabbitmq", 1.25, false},
		{cycleRow(64), "windlass-r3", "windlass-r1", 0.6, false},
	}
}

func (b *book) goals(out io.Writer) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nratios of the medians\tmeasured\tgoal\t")
	for _, g := range goals() {
		other := g.other
		if other == "best" {
			other = b.best(g.row, "asynq", "faktory", "river", "beanstalkd")
		}
		ours, theirs := b.values[g.row][g.ours], b.values[g.row][other]
		if len(ours) == 0 || len(theirs) == 0 {
			continue
		}
		ratio := median(ours) / median(theirs)
		sign, met := "at least", ratio >= g.want
		if g.most {
			sign, met = "at most", ratio <= g.want
		}
		verdict := "met"
		if !met {
			verdict = "MISSED"
		}
		fmt.Fprintf(w, "%s: %s / %s\t%.2f\t%s %.2f\t%s\n", strings.TrimSuffix(g.row, ", jobs/s"), g.ours, other, ratio, sign, g.want, verdict)
	}
	_ = w.Flush()
}

func (b *book) best(row string, names ...string) string {
	best := names[0]
	for _, n := range names {
		if median(b.values[row][n]) > median(b.values[row][best]) {
			best = n
		}
	}
	return best
}

func loadAverage() string {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(string(raw), " ")
	return first
}
