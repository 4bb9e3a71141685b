package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// steadyNodes is the smallest cluster whose leader can change.
	steadyNodes = 3

	// steadyTick is how finely the offered rate is spread over a second, and
	// steadyTurn how often it follows the machine.
	steadyTick = 5 * time.Millisecond
	steadyTurn = time.Second

	// steadyFirst and steadyLeast are jobs per second: where the rate begins, and
	// what is offered also to a machine that others keep busy.
	steadyFirst = 500
	steadyLeast = 50

	// steadyStep bounds the change of the rate in one turn.
	steadyStep = 0.25

	// steadyWarm is left out: the rate has to find the machine's.
	steadyWarm = 15 * time.Second

	// steadyPause is between two tries of a client that is refused.
	steadyPause = 100 * time.Millisecond

	// steadyLines bounds the reasons that are printed.
	steadyLines = 20
)

// runSteady keeps the machine as busy as it was told and counts how often
// leadership moves meanwhile.
func runSteady(ctx context.Context, o options) error {
	o.nodes, o.level = max(o.nodes, steadyNodes), "info"
	s, err := startServer(ctx, o)
	if err != nil {
		return err
	}
	var once sync.Once
	stop := func() { once.Do(s.stop) }
	defer stop()
	st := &steady{s: s, o: o, ticks: make(chan struct{}, openClients)}
	st.rate.Store(steadyFirst)
	st.addr.Store(&s.addr)
	work, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	for range openClients {
		wg.Go(func() { st.client(work) })
	}
	wg.Go(func() { st.offer(work) })
	wg.Go(func() { st.keepFleet(work) })
	if err := st.hold(ctx, steadyWarm, nil); err != nil {
		return err
	}
	st.acks.clear()
	before, err := st.read()
	if err != nil {
		return err
	}
	refused, began := st.refused.Load(), time.Now()
	var busy []float64
	if err := st.hold(ctx, o.seconds, &busy); err != nil {
		return err
	}
	ended := time.Now()
	after, err := st.read()
	if err != nil {
		return err
	}
	refused = st.refused.Load() - refused
	cancel()
	wg.Wait()
	stop() // from here on nobody writes the logs
	rows := append(st.rows(before, after, busy, refused), st.reasons(began, ended)...)
	return print(o.out, fmt.Sprintf("steady, %d coordinators, %s at %d%% of the machine's processors", o.nodes, o.seconds, o.cpu), rows...)
}

// steady is a load whose rate follows the machine.
type steady struct {
	s       *server
	o       options
	ticks   chan struct{}
	rate    atomic.Int64 // jobs offered per second
	addr    atomic.Pointer[string]
	acks    samples
	refused atomic.Int64
	fleets  atomic.Int64 // that were started
}

// offer hands out the ticks of the rate; those that no client takes are lost.
func (st *steady) offer(ctx context.Context) {
	tick := time.NewTicker(steadyTick)
	defer tick.Stop()
	due := 0.0
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		due += float64(st.rate.Load()) * steadyTick.Seconds()
		for ; due >= 1; due-- {
			select {
			case st.ticks <- struct{}{}:
			default:
			}
		}
	}
}

// client submits one job for each tick, to whoever leads.
func (st *steady) client(ctx context.Context) {
	body := submitBody()
	var c *conn
	defer func() {
		if c != nil {
			c.close()
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return
		case <-st.ticks:
		}
		var err error
		if c == nil {
			c, err = dial(*st.addr.Load(), benchKey)
		}
		var took int64
		if err == nil {
			took, err = submit(c, body)
		}
		if err == nil {
			st.acks.add(took)
			continue
		}
		st.refused.Add(1)
		if c != nil {
			c.close()
			c = nil
		}
		nap(ctx, steadyPause)
	}
}

// keepFleet runs agents at the coordinator that leads, and new ones when it is
// another one.
func (st *steady) keepFleet(ctx context.Context) {
	for ctx.Err() == nil {
		at := *st.addr.Load()
		f, err := startFleet(ctx, at, st.o.agents, st.o.slots, unlimited)
		if err != nil {
			nap(ctx, steadyPause)
			continue
		}
		st.fleets.Add(1)
		for ctx.Err() == nil && *st.addr.Load() == at {
			if _, err := f.ask(false); err != nil {
				break
			}
			nap(ctx, steadyTurn)
		}
		f.stop()
	}
}

// hold follows the machine for a while. busy gets the share of each turn.
func (st *steady) hold(ctx context.Context, d time.Duration, busy *[]float64) error {
	last, err := processors()
	if err != nil {
		return err
	}
	want := float64(st.o.cpu) / 100
	for end := time.Now().Add(d); time.Now().Before(end); {
		nap(ctx, steadyTurn)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		now, err := processors()
		if err != nil {
			return err
		}
		share := (now.busy - last.busy) / max(now.all-last.all, 1e-9)
		last = now
		if busy != nil {
			*busy = append(*busy, share)
		}
		step := min(max((want-share)/want/2, -steadyStep), steadyStep)
		st.rate.Store(max(steadyLeast, int64(float64(st.rate.Load())*(1+step))))
		st.follow()
	}
	return nil
}

// follow points the clients at the coordinator that leads.
func (st *steady) follow() {
	for _, n := range st.s.nodes {
		if v, err := metric(n.api, "windlass_raft_leader"); err == nil && v == 1 {
			st.addr.Store(&n.api)
			return
		}
	}
}

// processorTime is the machine's since it started, in ticks of the kernel.
type processorTime struct{ busy, all float64 }

// processors reads the first line of /proc/stat: user, nice, system, idle,
// iowait, irq, softirq and steal (proc(5)); what follows is part of these.
func processors() (processorTime, error) {
	const idle, iowait, fields = 3, 4, 8
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return processorTime{}, fmt.Errorf("cannot read the load of the machine, which takes Linux: %w", err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	var t processorTime
	words := strings.Fields(first)
	if len(words) <= fields || words[0] != "cpu" {
		return t, fmt.Errorf("cannot read the load of the machine: /proc/stat begins with %q", first)
	}
	for i, word := range words[1 : fields+1] {
		v, err := strconv.ParseFloat(word, 64)
		if err != nil {
			return t, fmt.Errorf("cannot read the load of the machine: %w", err)
		}
		if t.all += v; i != idle && i != iowait {
			t.busy += v
		}
	}
	return t, nil
}

// reading is what the coordinators counted up to a moment.
type reading struct {
	leaders, term float64 // the largest
	syncs, sync   float64 // and their seconds
	cpu           float64
}

func (st *steady) read() (reading, error) {
	var sum reading
	for _, n := range st.s.nodes {
		values, err := metrics(n.api)
		if err != nil {
			return sum, err
		}
		sum.leaders = max(sum.leaders, values["windlass_raft_leaders_total"])
		sum.term = max(sum.term, values["windlass_raft_term"])
		sum.syncs += values["windlass_log_syncs_total"]
		sum.sync += values["windlass_log_sync_seconds_total"]
		sum.cpu += values["process_cpu_seconds_total"]
	}
	return sum, nil
}

// metrics are a coordinator's figures without labels.
func metrics(addr string) (map[string]float64, error) {
	status, text, err := get(addr, "/metrics")
	if err != nil || status != 200 {
		return nil, fmt.Errorf("cannot read metrics: %d %w", status, err)
	}
	out := make(map[string]float64)
	for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
		name, value, ok := strings.Cut(scan.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); ok && err == nil && !strings.ContainsAny(name, "{#") {
			out[name] = v
		}
	}
	return out, nil
}

func metric(addr, name string) (float64, error) {
	values, err := metrics(addr)
	if err != nil {
		return 0, err
	}
	v, ok := values[name]
	if !ok {
		return 0, errors.New("cannot find " + name)
	}
	return v, nil
}

func (st *steady) rows(before, after reading, busy []float64, refused int64) []row {
	n := st.acks.count()
	rows := []row{
		{"leader changes", fmt.Sprintf("%.0f (%.0f terms)", after.leaders-before.leaders, after.term-before.term)},
		{"processors busy, mean / p5 / p95", shares(busy)},
		{"of it the coordinators", fmt.Sprintf("%.2f cores", (after.cpu-before.cpu)/st.o.seconds.Seconds())},
		{"submits", fmt.Sprintf("%.0f/s, %d refused", float64(n)/st.o.seconds.Seconds(), refused)},
		{"submit p50 / p99 / worst", ms(st.acks.quantile(0.5)) + " / " + ms(st.acks.quantile(0.99)) + " / " + ms(st.acks.quantile(1))},
		{"a sync of the log, mean", fmt.Sprintf("%.2f ms", (after.sync-before.sync)/max(after.syncs-before.syncs, 1)*1000)},
	}
	return rows
}

func shares(busy []float64) string {
	if len(busy) == 0 {
		return "not measured"
	}
	sum := 0.0
	for _, b := range busy {
		sum += b
	}
	slices.Sort(busy)
	return fmt.Sprintf("%.0f%% / %.0f%% / %.0f%%", sum/float64(len(busy))*100, busy[len(busy)*5/100]*100, busy[len(busy)*95/100]*100)
}

// reasons are what the coordinators logged about their leadership meanwhile.
func (st *steady) reasons(from, to time.Time) []row {
	var out []row
	for i, n := range st.s.nodes {
		for line := range bytes.Lines(n.log.Bytes()) {
			var l struct {
				Time    time.Time
				Message string
			}
			if json.Unmarshal(line, &l) != nil || l.Time.Before(from) || l.Time.After(to) || !ofLeadership(l.Message) {
				continue
			}
			out = append(out, row{"  " + l.Time.Format(time.TimeOnly), fmt.Sprintf("coordinator %d: %s", i, l.Message)})
		}
	}
	slices.SortStableFunc(out, func(a, b row) int { return strings.Compare(a.name, b.name) })
	if len(out) > steadyLines {
		out = append(out[:steadyLines], row{"", "..."})
	}
	return out
}

func ofLeadership(message string) bool {
	for _, part := range []string{"failed to contact quorum", "heartbeat timeout reached", "this coordinator leads", "does not lead any more", "stepping down"} {
		if strings.Contains(message, part) {
			return true
		}
	}
	return false
}
