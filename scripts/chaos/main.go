// Command chaos breaks real coordinators and real agents on purpose, records
// everything that clients, handlers and coordinators did, and checks the whole
// record against the promises. It needs bin/windlass-chaos (make chaos builds
// it). See DESIGN.md.
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
	"time"

	"windlass/scripts/chaos/check"
	"windlass/scripts/chaos/record"
	"windlass/scripts/chaos/wire"
)

// scenario is one bed with its faults.
type scenario struct {
	name         string
	coordinators int
	quick        bool // part of make verify
	run          func(context.Context, *bed) error
}

func scenarios() []scenario {
	return []scenario{
		{"cluster", 3, true, cluster},
		{"coordinator-kill", 1, true, coordinatorKill},
		{"agent-kill", 1, true, agentKill},
		{"runtime-kill", 1, true, runtimeKill},
		{"reply-lost", 1, true, replyLost},
		{"clients-leave", 1, true, clientsLeave},
		{"disk-full", 1, false, diskFull},
		{"disk-full-one", 3, false, diskFullOne},
		{"disk-full-snapshot", 3, false, diskFullSnapshot},
		{"strict-order", 1, true, strictOrder},
		{"power-loss", 3, false, powerLoss},
		{"overload", 3, false, overload},
		{"reconnect-storm", 3, false, storm},
		{"backup-restore", 3, false, backup},
		{"agent-paused", 1, false, agentPaused},
		{"assignment-delayed", 1, false, assignmentDelayed},
		{"bad-runtimes", 1, false, badRuntimes},
		{"webhook-leader-kill", 3, true, webhookLeaderKill},
		{"five", 5, false, cluster},
	}
}

// scenarioLimit bounds one scenario; the slowest waits for several lease terms.
const scenarioLimit = 30 * time.Minute

// options are the command line.
type options struct {
	set, only, episodes, binary, net string
	seed                             uint64
	keep                             bool
	rounds                           int
	soak                             time.Duration
}

func main() {
	if os.Getenv(handlerEnv) != "" {
		os.Exit(handler(os.Stdin, os.Stdout))
	}
	var o options
	flag.StringVar(&o.set, "set", "quick", "quick: what make verify runs; all: everything")
	flag.StringVar(&o.only, "only", "", "run only these scenarios (comma list)")
	flag.StringVar(&o.episodes, "episodes", "", "run only these faults of the scenario cluster (comma list)")
	flag.Uint64Var(&o.seed, "seed", uint64(time.Now().UnixNano()), "seed of the random moments")
	flag.StringVar(&o.binary, "binary", "bin/windlass-chaos", "the program to break, built with the tag chaos")
	flag.StringVar(&o.net, "net", netAuto, "the network between coordinators: namespaces (of the kernel, broken by nftables; needs root), proxy, or auto: what this machine can do")
	flag.BoolVar(&o.keep, "keep", false, "keep the folders of scenarios that passed as well")
	flag.DurationVar(&o.soak, "soak", 0, "repeat everything, each round with the next seed and another order, for so long")
	recheck := flag.String("recheck", "", "check the history in this folder again, and run nothing")
	flag.Parse()
	if *recheck != "" {
		exit(recheckFolder(*recheck))
	}
	where, code, why := wire.Enclose()
	if where == wire.Ended {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	w, err := o.world(where, why)
	if err == nil {
		err = run(ctx, w, o)
	}
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// The choices of -net.
const (
	netAuto   = "auto"
	netKernel = "namespaces"
	netProxy  = "proxy"
)

// world looks what this machine can do, and says it.
func (o options) world(where wire.Enclosure, why error) (*world, error) {
	unable := wire.Usable(where, why)
	w := &world{kernel: o.net == netKernel || o.net == netAuto && unable == nil}
	switch {
	case o.net != netAuto && o.net != netKernel && o.net != netProxy:
		return nil, fmt.Errorf("-net is %q: set it to %s, %s or %s", o.net, netAuto, netKernel, netProxy)
	case w.kernel && unable != nil:
		return nil, fmt.Errorf("-net is %s, which this machine cannot do: %w", o.net, unable)
	case w.kernel:
		fmt.Println("network: namespaces and nftables, peers speak TLS; a proxy for delays and repetitions")
	case unable != nil:
		fmt.Println("network: proxies on loopback, because", unable)
	default:
		fmt.Println("network: proxies on loopback")
	}
	if where == wire.Without {
		fmt.Println("processes: not enclosed, a killed run leaves some behind:", why)
	}
	var err error
	if w.binary, err = filepath.Abs(o.binary); err != nil {
		return nil, err
	}
	if _, err := os.Stat(w.binary); err != nil {
		return nil, fmt.Errorf("cannot find the program to break: %w; make chaos builds it", err)
	}
	return w, nil
}

// result is one scenario that ran.
type result struct {
	name    string
	took    time.Duration
	report  *check.Report
	history *record.History
	wrong   error
}

// run runs the chosen scenarios once, or again and again until the time of a
// soak is over, which ends after the scenario that runs then.
func run(ctx context.Context, w *world, o options) error {
	var t tally
	for until := time.Now().Add(o.soak); ; o.seed++ {
		round(ctx, w, o, until, &t)
		err := t.print()
		if o.soak == 0 || !time.Now().Before(until) || ctx.Err() != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

// round runs the chosen scenarios once.
func round(ctx context.Context, w *world, o options, until time.Time, t *tally) {
	fmt.Printf("seed %d\n", o.seed)
	list := scenarios()
	if o.soak > 0 {
		r := rand.New(rand.NewPCG(o.seed, 2))
		r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	for _, s := range list {
		chosen := s.quick || o.set == "all" || o.soak > 0
		if o.only != "" {
			chosen = listed(o.only, s.name)
		}
		if !chosen {
			continue
		}
		r := one(ctx, w, s, o)
		t.add(r)
		fmt.Printf("%-20s %6.1fs  %s\n", r.name, r.took.Seconds(), verdict(r.wrong))
		if ctx.Err() != nil || o.soak > 0 && !time.Now().Before(until) {
			return
		}
	}
}

func listed(list, name string) bool { return strings.Contains(","+list+",", ","+name+",") }

// plan is what a scenario is told by the command line.
type planKey struct{}

func one(ctx context.Context, w *world, s scenario, o options) result {
	start := time.Now()
	b, err := newBed(w, rand.New(rand.NewPCG(o.seed, 1)), s.coordinators)
	if err != nil {
		return result{name: s.name, wrong: err}
	}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, planKey{}, o), scenarioLimit)
	defer cancel()
	err = s.run(ctx, b)
	b.end()
	r := result{name: s.name, took: time.Since(start)}
	var judged error
	if r.report, r.history, judged = judge(b.dir); judged == nil {
		judged = r.report.Err()
	}
	if r.wrong = errors.Join(err, judged); r.wrong != nil {
		r.wrong = fmt.Errorf("%w\n%s\nthe folder is kept; check its history again with: go run ./scripts/chaos -recheck %s", r.wrong, b.tail(), b.dir)
		return r
	}
	if o.keep {
		fmt.Println("kept", b.dir)
	} else {
		r.wrong = b.remove()
	}
	return r
}

func verdict(err error) string {
	if err == nil {
		return "ok"
	}
	return "FAILED: " + err.Error()
}

// recheckFolder checks a stored history.
func recheckFolder(dir string) error {
	r, h, err := judge(dir)
	if err != nil {
		return err
	}
	var t tally
	t.add(result{name: filepath.Base(dir), report: r, history: h, wrong: r.Err()})
	return errors.Join(t.print(), r.Err())
}
