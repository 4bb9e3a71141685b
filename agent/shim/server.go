package shim

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent/host"
	"windlass/inference"
	"windlass/protocol"
)

// Times of a shim.
const (
	// tickPeriod paces telemetry, reaping and the orphan clock; the kernel's own
	// figures have no better resolution that would matter.
	tickPeriod = time.Second
	// stopGrace is what a runtime gets to unload when nobody said otherwise.
	stopGrace = inference.DefaultStopGrace
	// partGrace is how long the last messages may take to leave at the end.
	partGrace = 5 * time.Second
	// failureLines is how many log lines explain a failure.
	failureLines = 20
)

// server is one shim: an instance, its runs, and the agents that are connected.
type server struct {
	dir   string
	spec  Spec
	log   zerolog.Logger
	meter *host.Meter
	stop  chan time.Duration // grace of a stop that an agent asked for

	mu     sync.Mutex
	state  State
	inst   inference.Instance // nil until ready; never called under mu, because it sends events under its own
	info   inference.Info
	pids   []int
	start  *Record // log of the start
	events []inference.Event
	runs   map[string]*shimRun
	conns  map[*conn]struct{}
	ending bool // no further runs
	spent  bool // the instance must not be used again
	// retired says that the instance lost a slot for good. It is set before the
	// run that cost the slot has ended.
	retired bool
	ended   *message
	told    bool      // an agent has it
	alone   time.Time // since when no agent is connected; zero while one is
	wg      sync.WaitGroup
}

func newServer(dir string, spec Spec, state State, log zerolog.Logger) *server {
	return &server{
		dir: dir, spec: spec, state: state, log: log, meter: host.NewMeter(host.Root),
		stop: make(chan time.Duration, 1), start: &Record{},
		runs: make(map[string]*shimRun), conns: make(map[*conn]struct{}), alone: time.Now(),
	}
}

// serve is the life of the shim.
func (s *server) serve(ctx context.Context, ln net.Listener, rt inference.Runtime) error {
	ctx, cancel := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { s.accept(ln) })
	orphaned := make(chan struct{})
	loops.Go(func() { s.tick(ctx, orphaned) })

	failure := s.live(ctx, rt, orphaned)
	left := Kill(os.Getpid(), func(m string) bool { return m == s.spec.Mark })
	if len(left) > 0 {
		s.log.Error().Ints("pids", left).Msg("processes of the runtime cannot be killed")
	}
	s.part(failure)
	cancel()
	err := ln.Close()
	loops.Wait()
	return err
}

// live starts the instance, waits for a reason to end, and ends it.
func (s *server) live(ctx context.Context, rt inference.Runtime, orphaned <-chan struct{}) *inference.Failure {
	inst, grace, err := s.open(ctx, rt, orphaned)
	if err != nil {
		return s.startFailure(err)
	}
	if inst == nil {
		return nil
	}
	if grace == 0 {
		select {
		case <-ctx.Done():
			grace = stopGrace
		case <-orphaned:
			grace = stopGrace
		case grace = <-s.stop:
		case <-inst.Done():
		}
	}
	s.close(inst, grace)
	if err := inst.Err(); err != nil {
		return s.explain(failureOf(err))
	}
	return nil
}

// open starts the instance; a stop in the meantime ends the start.
func (s *server) open(ctx context.Context, rt inference.Runtime, orphaned <-chan struct{}) (inference.Instance, time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type started struct {
		inst inference.Instance
		err  error
	}
	result := make(chan started, 1)
	go func() {
		inst, err := rt.Start(ctx, s.spec.Instance, s.startEvent)
		result <- started{inst, err}
	}()
	var grace time.Duration
	select {
	case r := <-result:
		if r.err == nil {
			s.ready(r.inst)
		}
		return r.inst, 0, r.err
	case <-ctx.Done():
	case <-orphaned:
	case grace = <-s.stop:
	}
	cancel()
	r := <-result
	if r.err != nil {
		return nil, 0, nil // ended as told
	}
	return r.inst, max(grace, 1), nil
}

func (s *server) startEvent(e inference.Event) {
	_ = s.start.Apply(e, time.Now()) // only chunks can fail, and a start has none
	s.mu.Lock()
	// The text is bounded by the record; events beyond its head are not worth sending.
	if len(s.events) < maxStartEvents {
		s.events = append(s.events, e)
	}
	s.mu.Unlock()
	s.wake()
}

// maxStartEvents bounds what an agent is told of a start; a start that says more floods.
const maxStartEvents = 2000

func (s *server) ready(inst inference.Instance) {
	info, pids := inst.Info(), inst.PIDs()
	s.mu.Lock()
	s.inst, s.info, s.pids = inst, info, pids
	s.state.Runtime = info.PID
	state := s.state
	s.mu.Unlock()
	if err := writeJSON(filepath.Join(s.dir, stateFile), state); err != nil {
		s.log.Error().Err(err).Msg("runtime state was not written")
	}
	s.wake()
}

// close ends the runs and the instance; both are gone when it returns.
func (s *server) close(inst inference.Instance, grace time.Duration) {
	s.mu.Lock()
	s.ending = true
	select {
	case <-inst.Done(): // its runs fail by themselves, and that is their result
	default:
		for _, r := range s.runs {
			r.cancel(inference.ErrDrain)
		}
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if err := inst.Stop(ctx); err != nil {
		s.log.Error().Err(err).Msg("runtime did not stop")
	}
	s.wg.Wait()
}

func (s *server) startFailure(err error) *inference.Failure {
	f := failureOf(err)
	if f.Code == "" || f.Code == protocol.CodeRuntimeCrashed {
		f.Code = protocol.CodeRuntimeStart
	}
	lines := s.start.lastLines(failureLines)
	return withLines(f, lines)
}

// explain adds the last lines of the start's log to a failure of the instance.
func (s *server) explain(f *inference.Failure) *inference.Failure {
	return withLines(f, s.start.lastLines(failureLines))
}

func failureOf(err error) *inference.Failure {
	var f *inference.Failure
	if errors.As(err, &f) {
		c := *f
		return &c
	}
	return &inference.Failure{Code: protocol.CodeRuntimeCrashed, Message: err.Error(), Retryable: true, Crashed: true}
}

// withLines keeps the lines that the driver itself chose.
func withLines(f *inference.Failure, lines []string) *inference.Failure {
	if len(lines) == 0 || f.Details["logs"] != nil {
		return f
	}
	c := *f
	c.Details = map[string]any{"logs": lines}
	for k, v := range f.Details {
		c.Details[k] = v
	}
	return &c
}

// tick measures, reaps, and watches for the loss of the agent.
func (s *server) tick(ctx context.Context, orphaned chan<- struct{}) {
	t := time.NewTicker(tickPeriod)
	defer t.Stop()
	r := reaper{}
	told := false
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			r.look()
			s.measure(now)
			if !told && s.orphaned(now) {
				s.log.Warn().Msg("no agent came back in time")
				told = true
				close(orphaned)
			}
		}
	}
}

func (s *server) orphaned(now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.alone.IsZero() && now.Sub(s.alone) >= s.spec.orphanLimit()
}

// measure takes one reading for all runs.
func (s *server) measure(now time.Time) {
	s.mu.Lock()
	inst := s.inst
	var live []*shimRun
	for _, r := range s.runs {
		if !r.ended {
			live = append(live, r)
		}
	}
	s.mu.Unlock()
	if inst == nil || len(live) == 0 {
		return
	}
	s.meter.Sample(inst.PIDs(), now)
	for _, r := range live {
		if u, ok := s.meter.Usage(r.id); ok {
			r.record.SetUsage(u)
		}
	}
	s.wake()
}

// wake tells every connection that there is something to send.
func (s *server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.poke()
	}
}
