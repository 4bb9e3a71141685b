// Command chaos breaks a real coordinator and real agents on purpose and checks
// that nothing acknowledged is lost and nothing healthy runs twice. It needs
// bin/windlass (make build). See DESIGN.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// scenario is one fault and what must hold through it.
type scenario struct {
	name string
	run  func(context.Context, *bed) error
}

func scenarios() []scenario {
	return []scenario{
		{"coordinator-kill", coordinatorKill},
		{"agent-kill", agentKill},
		{"runtime-kill", runtimeKill},
		{"agent-paused", agentPaused},
		{"assignment-delayed", assignmentDelayed},
		{"reply-lost", replyLost},
		{"clients-leave", clientsLeave},
		{"disk-full", diskFull},
		{"strict-order", strictOrder},
		{"bad-runtimes", badRuntimes},
	}
}

// scenarioLimit bounds one scenario; the slowest waits for two lease terms.
const scenarioLimit = 4 * time.Minute

func main() {
	if os.Getenv(handlerEnv) != "" {
		os.Exit(handler(os.Stdin, os.Stdout))
	}
	only := flag.String("only", "", "run only these scenarios (comma list)")
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random moments")
	binary := flag.String("binary", "bin/windlass", "the program to break")
	keep := flag.Bool("keep", false, "keep the data directories")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *binary, *only, *seed, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
}

// result is one row of the table.
type result struct {
	name  string
	bed   *bed
	took  time.Duration
	wrong error
}

func run(ctx context.Context, binary, only string, seed uint64, keep bool) error {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("cannot find the program to break: %w; run make build first", err)
	}
	fmt.Printf("seed %d\n", seed)
	var results []result
	for _, s := range scenarios() {
		if only != "" && !strings.Contains(","+only+",", ","+s.name+",") {
			continue
		}
		r := one(ctx, s, binary, seed, keep)
		results = append(results, r)
		fmt.Printf("%-20s %6.1fs  %s\n", r.name, r.took.Seconds(), verdict(r.wrong))
		if ctx.Err() != nil {
			break
		}
	}
	return table(results)
}

func one(ctx context.Context, s scenario, binary string, seed uint64, keep bool) result {
	start := time.Now()
	b, err := newBed(binary, rand.New(rand.NewPCG(seed, 1)))
	if err != nil {
		return result{name: s.name, wrong: err}
	}
	ctx, cancel := context.WithTimeout(ctx, scenarioLimit)
	defer cancel()
	err = s.run(ctx, b)
	b.stop()
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, b.tail())
	}
	if !keep {
		err = errors.Join(err, b.remove())
	} else {
		fmt.Println("kept", b.dir)
	}
	return result{name: s.name, bed: b, took: time.Since(start), wrong: err}
}

func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	return "FAILED: " + err.Error()
}

func table(results []result) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nfault\tinjected\tacknowledged\tlost\trun twice\twrong output\tresult")
	failed := 0
	for _, r := range results {
		var t totals
		if r.bed != nil {
			t = r.bed.totals
		}
		word := "ok"
		if r.wrong != nil {
			word = "FAILED"
			failed++
		}
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%s\n", r.name, t.injected, t.acknowledged, t.lost, t.twice, t.wrongOutput, word)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", failed, len(results))
	}
	fmt.Printf("%d passed, 0 failed\n", len(results))
	return nil
}
