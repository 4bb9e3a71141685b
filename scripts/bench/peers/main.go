// Command peers measures Windlass beside other queues. See DESIGN.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type settings struct {
	binary  string
	dir     string
	systems string
	clients string
	rounds  int
	time    time.Duration
	rate    int
	spread  bool
	latency bool
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveNATS {
		exit(natsServer(os.Args[2:]))
		return
	}
	var s settings
	flag.StringVar(&s.binary, "binary", "../../../bin/windlass", "the Windlass program")
	flag.StringVar(&s.dir, "dir", "", "where data directories go (default: the system's temporary folder)")
	flag.StringVar(&s.systems, "systems", "", "names of systems, with commas (default: all that can be installed)")
	flag.StringVar(&s.clients, "clients", "16,64,256", "numbers of clients, and of workers, of the full cycle")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds")
	flag.DurationVar(&s.time, "time", 3*time.Second, "how long to submit in each measurement")
	flag.IntVar(&s.rate, "rate", 200, "jobs per second offered for the latency")
	flag.BoolVar(&s.spread, "spread", false, "spread the clients of three coordinators over all of them")
	flag.BoolVar(&s.latency, "latency", true, "measure the latency too")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, s))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-peers:", err)
		os.Exit(1)
	}
}

// system is one queue that can be measured.
type system struct {
	name     string
	required bool
	// ready says why the system cannot run here.
	ready func(ctx context.Context) error
	// cycle returns the jobs completed per second while c clients submit.
	cycle func(ctx context.Context, dir string, c int) (float64, error)
	// latency returns the quantiles from submit to worker at the settings' rate.
	latency func(ctx context.Context, dir string) (p50, p99 time.Duration, err error)
}

func run(ctx context.Context, s settings) error {
	var clients []int
	for text := range strings.SplitSeq(s.clients, ",") {
		c, err := strconv.Atoi(text)
		if err != nil || c < 1 {
			return fmt.Errorf("cannot read -clients %q: give numbers with commas between them", s.clients)
		}
		clients = append(clients, c)
	}
	systems, err := choose(ctx, s)
	if err != nil {
		return err
	}
	book := newBook(clients)
	for round := range s.rounds {
		if err := book.probe(s.dir); err != nil {
			return err
		}
		fmt.Printf("round %d of %d, load %s, fdatasync probe %.0f/s\n", round+1, s.rounds, loadAverage(), book.probes[round])
		for i := range systems {
			sys := systems[(i+round)%len(systems)]
			if err := measure(ctx, s, sys, clients, book); err != nil {
				return err
			}
		}
	}
	book.print(os.Stdout, systems)
	return nil
}

func choose(ctx context.Context, s settings) ([]*system, error) {
	var out []*system
	for _, sys := range all(s) {
		if s.systems != "" && !contains(s.systems, sys.name) {
			continue
		}
		if err := sys.ready(ctx); err != nil {
			if sys.required {
				return nil, fmt.Errorf("cannot measure %s, which may not be missing: %w", sys.name, err)
			}
			fmt.Printf("not measured: %s: %v\n", sys.name, err)
			continue
		}
		out = append(out, sys)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no system is named %s", s.systems)
	}
	return out, nil
}

func contains(list, name string) bool {
	for item := range strings.SplitSeq(list, ",") {
		if item == name {
			return true
		}
	}
	return false
}

// all is every system, ours first.
func all(s settings) []*system {
	return []*system{
		windlass(s, 3), windlass(s, 1),
		peer(s, "jetstream-r3", true, newNATS(3)), peer(s, "jetstream-r1", true, newNATS(1)),
		peer(s, "rabbitmq", true, newRabbit()), peer(s, "asynq", false, newAsynq()), peer(s, "faktory", false, newFaktory()),
		peer(s, "river", false, newRiver()), peer(s, "beanstalkd", false, newBeanstalk()),
	}
}

func measure(ctx context.Context, s settings, sys *system, clients []int, book *book) error {
	for _, c := range clients {
		v, err := sys.cycle(ctx, s.dir, c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			book.fail(sys.name, fmt.Sprintf("cycle with %d clients", c), err)
			continue
		}
		fmt.Printf("  %-14s %4d clients  %8.0f jobs/s\n", sys.name, c, v)
		book.add(sys.name, cycleRow(c), v)
	}
	if !s.latency {
		return nil
	}
	p50, p99, err := sys.latency(ctx, s.dir)
	if err != nil {
		book.fail(sys.name, "latency", err)
		return ctx.Err()
	}
	fmt.Printf("  %-14s submit to worker p50 %.2f ms, p99 %.2f ms\n", sys.name, millis(p50), millis(p99))
	book.add(sys.name, rowP50, millis(p50))
	book.add(sys.name, rowP99, millis(p99))
	return nil
}

func millis(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// withDir runs fn with an empty directory that is removed afterwards.
func withDir(parent string, fn func(dir string) error) error {
	dir, err := os.MkdirTemp(parent, "peers-")
	if err != nil {
		return fmt.Errorf("cannot make data directory: %w", err)
	}
	// Servers that run as another user must reach it.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return errors.Join(fn(dir), os.RemoveAll(dir))
}
