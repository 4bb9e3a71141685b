// Teeth proves that the tests bite. Each file in mutants/ is one bug: a piece of
// source, what it becomes, and the test that must find it. A mutant counts as
// caught only if that test passes without the bug and fails with it; a mutant
// whose text is not in the source any more fails the run. The tree is never
// changed: the go tool reads the mutated files through -overlay. See DESIGN.md.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

func main() {
	only := flag.String("run", "", "only mutants whose names match")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "tests side by side")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ok, err := bite(ctx, os.Stdout, *only, *workers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "teeth:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// bite runs every mutant that matches; false when one was not caught.
func bite(ctx context.Context, out io.Writer, only string, workers int) (bool, error) {
	match, err := regexp.Compile(only)
	if err != nil {
		return false, fmt.Errorf("cannot read -run: %w", err)
	}
	mutants, err := load("scripts/teeth/mutants")
	if err != nil {
		return false, err
	}
	mutants = slices.DeleteFunc(mutants, func(m *mutant) bool { return !match.MatchString(m.name) })
	if len(mutants) == 0 {
		return false, fmt.Errorf("no mutant matches %q", only)
	}
	dir, err := os.MkdirTemp("", "teeth-")
	if err != nil {
		return false, fmt.Errorf("cannot make a folder for mutated files: %w", err)
	}
	defer os.RemoveAll(dir)
	begin := time.Now()
	tests := group(mutants)
	baselines(ctx, tests, workers)
	var mu sync.Mutex
	each(workers, mutants, func(m *mutant) {
		m.judge(ctx, dir)
		mu.Lock()
		defer mu.Unlock()
		m.report(out)
	})
	return verdict(out, mutants, time.Since(begin)), nil
}

// each calls fn for every element on a few goroutines and waits for all.
func each[T any](workers int, list []T, fn func(T)) {
	work := make(chan T)
	var wg sync.WaitGroup
	for range max(workers, 1) {
		wg.Go(func() {
			for x := range work {
				fn(x)
			}
		})
	}
	for _, x := range list {
		work <- x
	}
	close(work)
	wg.Wait()
}

func (m *mutant) report(out io.Writer) {
	verdict := "caught by " + m.test()
	if m.hung {
		verdict += ", which hangs"
	}
	if m.failure != "" {
		verdict = "NOT CAUGHT: " + strings.ReplaceAll(strings.TrimSpace(m.failure), "\n", "\n    ")
	}
	fmt.Fprintf(out, "%-34s %5.1fs  %s\n", m.name, m.took.Seconds(), verdict)
}

func verdict(out io.Writer, mutants []*mutant, took time.Duration) bool {
	caught, missed := 0, []string(nil)
	for _, m := range mutants {
		if m.failure == "" {
			caught++
		} else {
			missed = append(missed, m.name)
		}
	}
	fmt.Fprintf(out, "%d of %d caught, in %.0f s\n", caught, len(mutants), took.Seconds())
	if missed != nil {
		fmt.Fprintf(out, "not caught: %s\n", strings.Join(missed, ", "))
	}
	return missed == nil
}
