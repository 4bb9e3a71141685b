package bench

import (
	"context"
	"fmt"
	"os"
	"time"
)

// drainLimit bounds the wait for the last results of a measurement.
const drainLimit = 2 * time.Minute

func (o options) tempDir() string {
	if o.dir != "" {
		return o.dir
	}
	return os.TempDir()
}

func runSubmit(ctx context.Context, o options) error {
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	before, err := s.read()
	if err != nil {
		return err
	}
	l := &load{addrs: s.addresses(o.spread)}
	window, cancel := context.WithTimeout(ctx, o.seconds)
	defer cancel()
	if err := l.closed(window, o.clients, 0); err != nil {
		return err
	}
	after, err := s.read()
	if err != nil {
		return err
	}
	n := float64(l.acks.count())
	rows := append([]row{
		{"submits", fmt.Sprintf("%.0f/s", n/o.seconds.Seconds())},
		{"submit p50 / p99", ms(l.acks.quantile(0.5)) + " / " + ms(l.acks.quantile(0.99))},
	}, costs(before, after, n)...)
	machine, err := probes(o)
	if err != nil {
		return err
	}
	return print(o.out, fmt.Sprintf("submit, %d clients", o.clients), append(rows, machine...)...)
}

func runCycle(ctx context.Context, o options) error {
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	f, err := startFleet(ctx, s.addr, o.agents, o.slots, unlimited)
	if err != nil {
		return err
	}
	defer f.stop()
	before, err := s.read()
	if err != nil {
		return err
	}
	idle, err := f.spent()
	if err != nil {
		return err
	}
	l := &load{addrs: s.addresses(o.spread)}
	window, cancel := context.WithTimeout(ctx, o.seconds)
	defer cancel()
	start := time.Now()
	if err := l.closed(window, o.clients, 0); err != nil {
		return err
	}
	inWindow, err := f.ask(false)
	if err != nil {
		return err
	}
	window2 := time.Since(start)
	n := int64(l.acks.count())
	if _, err := f.waitDone(n, drainLimit); err != nil {
		return err
	}
	total := time.Since(start)
	after, err := s.read()
	if err != nil {
		return err
	}
	busy, err := f.spent()
	if err != nil {
		return err
	}
	t, err := f.ask(true)
	if err != nil {
		return err
	}
	rows := append([]row{
		{"jobs done while submitting", fmt.Sprintf("%.0f/s", float64(inWindow.Done)/window2.Seconds())},
		{"jobs done to the last", fmt.Sprintf("%.0f/s (%d jobs)", float64(n)/total.Seconds(), n)},
		{"submit p50 / p99", ms(l.acks.quantile(0.5)) + " / " + ms(l.acks.quantile(0.99))},
		{"submit-to-agent p50 / p99", ms(time.Duration(t.StartP50)) + " / " + ms(time.Duration(t.StartP99))},
	}, costs(before, after, float64(n))...)
	rows = append(rows, row{"CPU per job of the load and the agents", fmt.Sprintf("%.1f us", (busy-idle).Seconds()/float64(n)*1e6)})
	machine, err := probes(o)
	if err != nil {
		return err
	}
	return print(o.out, fmt.Sprintf("cycle, %d coordinators, %d clients, %d agents of %d slots", o.nodes, o.clients, o.agents, o.slots), append(rows, machine...)...)
}

// spent is the processor time so far of the fleet and of this process.
func (f *fleet) spent() (time.Duration, error) {
	t, err := f.ask(false)
	if err != nil {
		return 0, err
	}
	own, err := spent()
	return own + time.Duration(t.CPU), err
}

// latencyAgents wait idle, so that a job meets a parked poll.
const latencyAgents = 16

func runLatency(ctx context.Context, o options) error {
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	f, err := startFleet(ctx, s.addr, latencyAgents, 1, unlimited)
	if err != nil {
		return err
	}
	defer f.stop()
	l := &load{addrs: s.addresses(o.spread)}
	if err := l.open(ctx, o.rate, o.seconds); err != nil {
		return err
	}
	if _, err := f.waitDone(l.sent.Load(), drainLimit); err != nil {
		return err
	}
	t, err := f.ask(true)
	if err != nil {
		return err
	}
	ack, start := l.acks.quantile(0.5), time.Duration(t.StartP50)
	rows := []row{
		{"jobs", fmt.Sprint(l.sent.Load())},
		{"submit p50 / p99", ms(ack) + " / " + ms(l.acks.quantile(0.99))},
		{"submit-to-agent p50 / p99", ms(start) + " / " + ms(time.Duration(t.StartP99))},
		{"submit-to-agent p50 / submit p50", fmt.Sprintf("%.2f", float64(start)/float64(ack))},
	}
	machine, err := probes(o)
	if err != nil {
		return err
	}
	return print(o.out, fmt.Sprintf("latency at %d jobs/s, %d coordinators, %d idle agents", o.rate, o.nodes, latencyAgents), append(rows, machine...)...)
}

// The short queue of a fill, and how much of it one turn runs and replaces.
const (
	shortQueue = 10_000
	fillSample = 4_000
	fillTurns  = 5
)

func runFill(ctx context.Context, o options) error {
	short, long, err := fillCosts(ctx, o)
	if err != nil {
		return err
	}
	perJob, rss, err := fillMemory(ctx, o)
	if err != nil {
		return err
	}
	return print(o.out, "fill",
		row{fmt.Sprintf("server CPU per job behind %d", shortQueue), fmt.Sprintf("%.1f us", short)},
		row{fmt.Sprintf("server CPU per job behind %d", o.depth), fmt.Sprintf("%.1f us", long)},
		row{"ratio", fmt.Sprintf("%.2f", long/short)},
		row{"live heap per queued job", fmt.Sprintf("%.0f B, %.0f B beyond its input", perJob, perJob-inputSize)},
		row{"resident memory", fmt.Sprintf("%.0f MiB", rss/(1<<20))})
}

// fillCosts is the CPU of a job behind the short and behind the long queue of
// one server, in microseconds.
func fillCosts(ctx context.Context, o options) (short, long float64, err error) {
	s, err := startServer(ctx, o)
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	if short, err = behind(ctx, s, shortQueue, o); err != nil {
		return 0, 0, err
	}
	long, err = behind(ctx, s, o.depth, o)
	return short, long, err
}

// fillMemory fills a queue and reads what its jobs keep alive. A low GC target
// makes the collector's last count of live memory a recent one.
func fillMemory(ctx context.Context, o options) (perJob, rss float64, err error) {
	s, err := startServer(ctx, o, "GOGC=5")
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	empty, err := s.read()
	if err != nil {
		return 0, 0, err
	}
	if err := (&load{addrs: s.addresses(o.spread)}).closed(ctx, o.clients, o.depth); err != nil {
		return 0, 0, err
	}
	full, err := s.read()
	return (full.heapLive - empty.heapLive) / float64(o.depth), full.rss, err
}

// behind fills the queue to depth, then submits and runs jobs in turns that keep
// it near there: microseconds of server CPU for one job, submit to result.
func behind(ctx context.Context, s *server, depth int64, o options) (float64, error) {
	now, err := s.read()
	if err != nil {
		return 0, err
	}
	if missing := depth - int64(now.queued); missing > 0 {
		if err := (&load{addrs: s.addresses(o.spread)}).closed(ctx, o.clients, missing); err != nil {
			return 0, err
		}
	}
	var spent, jobs float64
	for range fillTurns {
		cpu, n, err := turn(ctx, s, o)
		if err != nil {
			return 0, err
		}
		spent, jobs = spent+cpu, jobs+n
	}
	return spent / jobs * 1e6, nil
}

// turn runs fillSample waiting jobs and submits as many: CPU seconds and jobs.
func turn(ctx context.Context, s *server, o options) (cpu, jobs float64, err error) {
	f, err := startFleet(ctx, s.addr, o.agents, o.slots, 0)
	if err != nil {
		return 0, 0, err
	}
	defer f.stop()
	before, err := s.read()
	if err != nil {
		return 0, 0, err
	}
	if err := f.allow(fillSample); err != nil {
		return 0, 0, err
	}
	ended, err := f.waitDone(fillSample, drainLimit)
	if err != nil {
		return 0, 0, err
	}
	if err := (&load{addrs: s.addresses(o.spread)}).closed(ctx, o.clients, ended.Done); err != nil {
		return 0, 0, err
	}
	after, err := s.read()
	return after.cpu - before.cpu, float64(ended.Done), err
}

// idleWatch is how long parked polls are watched: less than their hold, so that
// it is the waiting that is measured. Agents without slots send no beats.
const idleWatch = 10 * time.Second

func runIdle(ctx context.Context, o options) error {
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	defer s.stop()
	before, alone, err := watch(ctx, s)
	if err != nil {
		return err
	}
	f, err := startFleet(ctx, s.addr, o.agents, 0, unlimited)
	if err != nil {
		return err
	}
	defer f.stop()
	parked, together, err := watch(ctx, s)
	if err != nil {
		return err
	}
	return print(o.out, fmt.Sprintf("idle, %d parked polls", o.agents),
		row{"resident memory per poll", fmt.Sprintf("%.1f KiB", (parked.rss-before.rss)/float64(o.agents)/1024)},
		row{"of it live heap and stacks", fmt.Sprintf("%.1f KiB", (parked.heapLive+parked.stacks-before.heapLive-before.stacks)/float64(o.agents)/1024)},
		row{"server CPU without and with them", fmt.Sprintf("%.2f%% and %.2f%% of a core", alone*100, together*100)})
}

// watch leaves a server alone for idleWatch; it returns its counters at the end
// and the share of a core that it used meanwhile.
func watch(ctx context.Context, s *server) (counters, float64, error) {
	before, err := s.read()
	if err != nil {
		return before, 0, err
	}
	select {
	case <-ctx.Done():
		return before, 0, ctx.Err()
	case <-time.After(idleWatch):
	}
	after, err := s.read()
	return after, (after.cpu - before.cpu) / idleWatch.Seconds(), err
}
