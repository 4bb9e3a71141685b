// Command bench runs every measurement of "windlass bench" once, and the full
// cycle in turns with the throw-away prototype of the hot path when its source
// is at hand. It prints what docs/performance.md records. See DESIGN.md there.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

type settings struct {
	binary  string
	hotpath string
	rounds  int
	depth   string
	idle    string
	gate    bool
}

func main() {
	var s settings
	flag.StringVar(&s.binary, "binary", "bin/windlass", "the program to measure")
	flag.StringVar(&s.hotpath, "hotpath", "../shared/prototypes/hotpath", "source of the prototype to compare the full cycle with")
	flag.IntVar(&s.rounds, "rounds", 3, "turns of the comparison")
	flag.StringVar(&s.depth, "depth", "1000000", "jobs that wait in the fill measurement")
	flag.StringVar(&s.idle, "idle", "10000", "parked polls of the idle measurement")
	flag.BoolVar(&s.gate, "gate", false, "only check that a job costs no more processor time than it did")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) error {
	if s.gate {
		return gate(ctx, s.binary)
	}
	for _, args := range [][]string{
		{"submit"}, {"latency"},
		{"fill", "--depth", s.depth},
		{"idle", "--agents", s.idle, "--clients", "1"},
	} {
		out, err := windlass(ctx, s.binary, args...)
		if err != nil {
			return err
		}
		fmt.Println(out)
	}
	return compare(ctx, s)
}

func windlass(ctx context.Context, binary string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, binary, append([]string{"bench"}, args...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("cannot measure %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// compare runs the full cycle of both in turns, in one go, and prints medians.
func compare(ctx context.Context, s settings) error {
	p, err := buildPrototype(ctx, s.hotpath)
	if err != nil {
		fmt.Printf("the prototype of the hot path was not measured: %v\n", err)
	}
	if p != nil {
		defer p.remove()
	}
	var ours, theirs []float64
	for range s.rounds {
		out, err := windlass(ctx, s.binary, "cycle")
		if err != nil {
			return err
		}
		fmt.Println(out)
		v, err := figure(out, `jobs done while submitting\s+([0-9.]+)/s`)
		if err != nil {
			return err
		}
		ours = append(ours, v)
		if p == nil {
			continue
		}
		if v, err = p.cycle(ctx); err != nil {
			return err
		}
		theirs = append(theirs, v)
		fmt.Printf("prototype cycle, 64 clients, 64 workers: %.0f/s\n\n", v)
	}
	fmt.Printf("full cycle, median of %d: %.0f jobs/s\n", len(ours), median(ours))
	if len(theirs) > 0 {
		fmt.Printf("prototype with raft-wal, median of %d: %.0f jobs/s; ratio %.2f\n", len(theirs), median(theirs), median(ours)/median(theirs))
	}
	return nil
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}

func figure(text, pattern string) (float64, error) {
	m := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if m == nil {
		return 0, fmt.Errorf("cannot find %s in the output", pattern)
	}
	return strconv.ParseFloat(m[1], 64)
}

// prototype is the hot path alone: no checks, no fences, no history.
type prototype struct{ dir string }

func buildPrototype(ctx context.Context, source string) (*prototype, error) {
	if _, err := os.Stat(filepath.Join(source, "go.mod")); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hotpath-")
	if err != nil {
		return nil, err
	}
	p := &prototype{dir: dir}
	if err := os.CopyFS(filepath.Join(dir, "src"), os.DirFS(source)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	for _, args := range [][]string{{"mod", "tidy"}, {"build", "-tags", "hashicorpmetrics", "-o", "../", "./cmd/coord", "./cmd/load"}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = filepath.Join(dir, "src")
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, errors.Join(fmt.Errorf("go %s: %w: %s", args[0], err, last(string(out))), os.RemoveAll(dir))
		}
	}
	return p, nil
}

func last(out string) string {
	lines := strings.Split(strings.TrimSpace(out), "\n")
	return lines[len(lines)-1]
}

func (p *prototype) remove() { _ = os.RemoveAll(p.dir) }

// settle is how long the prototype takes to elect itself.
const settle = 2 * time.Second

func (p *prototype) cycle(ctx context.Context) (float64, error) {
	server := exec.CommandContext(ctx, filepath.Join(p.dir, "coord"), "-dir", filepath.Join(p.dir, "data"), "-store", "wal", "-fuse", "-inflight", "1")
	server.Env = append(os.Environ(), "GOMAXPROCS=8") // as it was measured when it was made
	if err := server.Start(); err != nil {
		return 0, fmt.Errorf("cannot start the prototype: %w", err)
	}
	defer func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	}()
	time.Sleep(settle)
	out, err := exec.CommandContext(ctx, filepath.Join(p.dir, "load"), "-d", "coord", "-opt", "next", "-c", "64", "-tests", "cycle", "-t", "5s").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("cannot load the prototype: %w: %s", err, last(string(out)))
	}
	return figure(string(out), `steady=([0-9.]+)`)
}
