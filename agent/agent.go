// Package agent runs jobs on one host: it parks a sync at the coordinators,
// runs what it is assigned through shims, and hands the results in. See DESIGN.md.
package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent/gpu"
	"windlass/agent/host"
	"windlass/agent/shim"
	"windlass/inference"
	"windlass/protocol"
)

// Deps is what an agent needs from the program around it.
type Deps struct {
	Coordinator Coordinator
	Log         zerolog.Logger
	Version     string
	// Executable is our own binary; runtimes that run in a child of it need it.
	Executable string
	// ShimCommand starts a shim when a directory is added: {executable, "shim"}.
	ShimCommand []string
	// ProbeCommand starts the GPU probe: {executable, "gpu-probe"}.
	ProbeCommand []string
	// Orphan is how long shims go on without this agent; 0 is DefaultOrphan.
	Orphan time.Duration
}

// DefaultOrphan is how long a shim outlives its agent (DESIGN 5): long enough
// for an upgrade by hand, short enough that a removed agent does not keep a GPU.
const DefaultOrphan = 15 * time.Minute

// spareInstances is how many warm instances may stay loaded beyond the slots,
// for endpoints that take turns; warm.keep unloads them when they are idle.
const spareInstances = 16

// endGrace is what shims get to stop when an agent that drained ends.
const endGrace = 10 * time.Second

// Agent is one agent process.
type Agent struct {
	cfg  Config
	deps Deps
	log  zerolog.Logger

	// Set by Run before anything else starts, then immutable.
	id       protocol.AgentID
	dirs     dirs
	life     context.Context // of attempts; ends with errDetach
	journal  *journal
	opener   *shim.Opener
	pool     *inference.Pool
	session  *session
	reporter *reporter
	sampler  *host.Sampler
	gpus     gpu.Source
	metrics  *metrics
	table    *table
	handIns  chan struct{} // permits of results in memory
	started  chan struct{} // closed when Run has set all this
	work     sync.WaitGroup
	said     statements

	mu      sync.Mutex
	remotes map[*shim.Remote]struct{}
	sample  *protocol.HostSample
	gpuList []protocol.GPUFact
}

// New checks the configuration; Run does everything else.
func New(cfg Config, deps Deps) (*Agent, error) {
	cfg.Defaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot use agent configuration: %w", err)
	}
	if deps.Coordinator == nil || len(deps.ShimCommand) == 0 {
		return nil, errors.New("cannot make agent: it has no coordinator or no shim command")
	}
	if deps.Orphan <= 0 {
		deps.Orphan = DefaultOrphan
	}
	return &Agent{
		cfg: cfg, deps: deps, log: deps.Log.With().Str("component", "agent").Logger(),
		table: newTable(cfg.Slots), handIns: make(chan struct{}, handInFlight), started: make(chan struct{}),
		remotes: make(map[*shim.Remote]struct{}), metrics: newMetrics(), gpus: gpu.None{},
	}, nil
}

// Run is the agent's life. When ctx ends it leaves at once: jobs go on in their
// shims and the next life of this agent takes them over. Drain before that ends
// them. Run must be called once.
func (a *Agent) Run(ctx context.Context) error {
	life, detach := context.WithCancelCause(context.Background())
	a.life = life
	defer detach(errDetach)
	unlock, err := a.prepare()
	if err != nil {
		return err
	}
	defer unlock()
	ln, adopted, err := a.begin(ctx)
	if err != nil {
		detach(errDetach)
		a.leave()
		return err
	}
	close(a.started)
	a.log.Info().Stringer("agent", a.id).Str("name", a.cfg.Name).Int("slots", a.cfg.Slots).Int("adopted", adopted).Msg("agent started")

	var loops sync.WaitGroup
	loops.Go(func() { a.session.loop(ctx) })
	loops.Go(func() { a.reporter.loop(ctx) })
	loops.Go(func() { a.telemetry(ctx) })
	loops.Go(func() { a.serve(ctx, ln) })
	<-ctx.Done()
	detach(errDetach)
	loops.Wait()
	a.leave()
	a.log.Info().Msg("agent stopped")
	return nil
}

// prepare sets everything that Run needs; the returned function undoes the lock.
func (a *Agent) prepare() (func(), error) {
	d, err := makeDirs(a.cfg.Data)
	if err != nil {
		return nil, err
	}
	lock, err := d.lock()
	if err != nil {
		return nil, err
	}
	unlock := func() { _ = lock.Close() } // closing is all that frees it
	if a.id, err = d.identity(time.Now()); err == nil {
		a.sampler, err = host.NewSampler(host.Root, d.root)
	}
	if err != nil {
		unlock()
		return nil, err
	}
	a.dirs = d
	a.journal = &journal{dir: d.journal, log: a.log}
	a.opener = &shim.Opener{
		Command: a.deps.ShimCommand, Runtimes: d.runtimes, Journal: d.journal,
		MarkPrefix: a.id.String() + ".", Orphan: a.deps.Orphan, Log: a.log,
	}
	a.pool = inference.NewPool(inference.PoolConfig{Open: a.open, MaxInstances: a.cfg.Slots + spareInstances})
	a.session = newSession(a)
	a.reporter = newReporter(a)
	return unlock, nil
}

// begin finds what is there: GPUs, the metrics address, and what outlived the
// last life.
func (a *Agent) begin(ctx context.Context) (net.Listener, int, error) {
	if err := a.startGPU(ctx); err != nil {
		return nil, 0, err
	}
	ln, err := a.listen()
	if err != nil {
		return nil, 0, err
	}
	a.sampleHost()
	adopted, err := a.adopt(ctx)
	if err != nil {
		return nil, 0, errors.Join(err, closeListener(ln))
	}
	return ln, adopted, nil
}

// open starts an instance for the pool.
func (a *Agent) open(ctx context.Context, key inference.Key, spec inference.Spec, sink inference.Sink) (inference.Instance, error) {
	a.log.Info().Str("endpoint", key.Endpoint).Uint64("revision", key.Revision).Str("kind", spec.Runtime.Kind).Msg("runtime starts")
	r, err := a.opener.Open(ctx, spec, sink)
	if err != nil {
		a.metrics.starts.WithLabelValues("failed").Inc()
		a.log.Warn().Err(err).Str("endpoint", key.Endpoint).Msg("runtime did not start")
		return nil, err
	}
	a.metrics.starts.WithLabelValues("ready").Inc()
	a.keep(r)
	return r, nil
}

// keep remembers an instance, to detach from it at the end.
func (a *Agent) keep(r *shim.Remote) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for o := range a.remotes {
		select {
		case <-o.Done():
			delete(a.remotes, o)
		default:
		}
	}
	a.remotes[r] = struct{}{}
}

// leave detaches from the shims and waits for everything of this agent.
func (a *Agent) leave() {
	a.mu.Lock()
	remotes := make([]*shim.Remote, 0, len(a.remotes))
	for r := range a.remotes {
		remotes = append(remotes, r)
	}
	a.mu.Unlock()
	for _, r := range remotes {
		r.Detach()
	}
	a.work.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), endGrace)
	defer cancel()
	if err := a.pool.Close(ctx); err != nil {
		a.log.Error().Err(err).Msg("runtimes did not stop")
	}
	if err := a.gpus.Close(); err != nil {
		a.log.Error().Err(err).Msg("GPU probe did not stop")
	}
}

// ID is the agent's identity, once Started is closed.
func (a *Agent) ID() protocol.AgentID { return a.id }

// Started is closed when what outlived the last life is adopted and the agent
// begins to register.
func (a *Agent) Started() <-chan struct{} { return a.started }
