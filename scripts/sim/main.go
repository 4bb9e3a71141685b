// Sim plays the replicated core against itself: the real state machine, queue,
// broker and leases of three replicas, with virtual agents, clients, network and
// log, in one thread and virtual time, everything drawn from a seed. It prints
// the seed and a shrunken list of events when a promise of
// docs/failure-model.md is broken. See DESIGN.md.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"windlass/scripts/chaos/check"
)

const (
	// shrinkTime bounds the search for a shorter list of events.
	shrinkTime = time.Minute
	// shownActions bounds what is printed of a list that could not be shrunk.
	shownActions = 60
	// collectAt and ballast trade memory, of which a run needs little, for speed: the
	// collector waits for some hundred megabytes. Nobody touches the ballast, so that
	// it takes none itself.
	collectAt = 400
	ballast   = 128 << 20
)

func main() {
	seed := flag.Uint64("seed", 1, "of the first run; the next ones count up")
	span := flag.Duration("for", 0, "how long to begin new runs; 0: only the first")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "runs side by side")
	verbose := flag.Bool("v", false, "print the history of the one run in words")
	flag.Parse()
	debug.SetGCPercent(collectAt)
	defer runtime.KeepAlive(make([]byte, ballast))
	if *span == 0 {
		*workers = 1
	}
	if !play(os.Stdout, *seed, *span, *workers, *verbose) {
		os.Exit(1)
	}
}

// failure is a run that broke a promise.
type failure struct {
	seed      uint64
	plan      *plan
	violation *check.Violation
	at        int64 // virtual ms
}

// play runs seeds until the time is over or one fails; false then.
func play(out io.Writer, seed uint64, span time.Duration, workers int, verbose bool) bool {
	var tell io.Writer
	if verbose {
		tell = out
	}
	begin := time.Now()
	var next atomic.Uint64
	next.Store(seed)
	var mu sync.Mutex
	total := counts{Faults: make(map[kind]int)}
	var bad *failure
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				n := next.Add(1) - 1
				p := newPlan(n)
				w, v := run(p, tell)
				mu.Lock()
				total.add(&w.count)
				if v != nil && (bad == nil || n < bad.seed) {
					bad = &failure{n, p, v, w.now}
				}
				stop := bad != nil || time.Since(begin) >= span
				mu.Unlock()
				if span == 0 {
					fmt.Fprintf(out, "seed %d: trace %016x\n", n, w.trace)
				}
				if stop {
					return
				}
			}
		})
	}
	wg.Wait()
	total.print(out, seed, time.Since(begin))
	if bad != nil {
		bad.print(out)
	}
	return bad == nil
}

func (c *counts) print(out io.Writer, seed uint64, took time.Duration) {
	s := processorTime().Seconds()
	hours := float64(c.Ms) / float64(hour)
	fmt.Fprintf(out, "seeds %d to %d: %d runs, %.0f simulated hours in %.0f s, %.0f a minute; %.0f s of processor time, %.0f hours a processor minute\n",
		seed, seed+uint64(c.Runs)-1, c.Runs, hours, took.Seconds(), hours/took.Minutes(), s, hours/s*60)
	fmt.Fprintf(out, "commands: %d in %d entries of the log, %.0f a processor second; applied by replicas: %d times, %.0f a processor second; %d calls\n",
		c.Commands, c.Batches, float64(c.Commands)/s, c.Applied, float64(c.Applied)/s, c.Calls)
	fmt.Fprintf(out, "jobs: %d submits acknowledged, %d leases, %d handlers started, %d results accepted, %d late ones refused\n",
		c.Acknowledged, c.Grants, c.Started, c.Finished, c.Stale)
	fmt.Fprintf(out, "retention: %d jobs archived, %d found there, %d brought back, %d segments dropped; %d pauses, %d jobs purged, %d times the feature level was raised\n",
		c.Archived, c.Found, c.Recalled, c.Dropped, c.Paused, c.Purged, c.Raised)
	fmt.Fprintf(out, "agents: %d assignments came with the answers to reports\n", c.Carried)
	fmt.Fprintf(out, "replicas: %d leaderships, %d snapshots restored, %d digests compared\n", c.Leaders, c.Restores, c.Digests)
	var names []string
	faults := 0
	for k, n := range c.Faults {
		names = append(names, fmt.Sprintf("%s %d", k, n))
		faults += n
	}
	slices.Sort(names)
	fmt.Fprintf(out, "faults: %d %v\n", faults, names)
}

// processorTime is what this process used: a machine that others use too says
// little by its clock.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (f *failure) print(out io.Writer) {
	fmt.Fprintf(out, "\nFAILED seed %d: %s\n", f.seed, f.violation)
	p, v := shrink(f.plan, f.violation, f.at, shrinkTime)
	fmt.Fprintf(out, "shrunken to %d of %d events: %s\n", len(p.Actions), len(f.plan.Actions), v)
	for i, a := range p.Actions {
		if i == shownActions {
			fmt.Fprintf(out, "... and %d more\n", len(p.Actions)-i)
			break
		}
		fmt.Fprintln(out, a)
	}
	fmt.Fprintf(out, "again: go run ./scripts/sim -seed %d -v\n", f.seed)
}
