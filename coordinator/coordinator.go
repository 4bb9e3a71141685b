// Package coordinator wires one coordinator together: the raft node with the
// job table behind it, the leader's broker, the soft state, payloads and the
// HTTP API. The parts are in the packages below; DESIGN.md says in what order
// they start and stop, and why.
package coordinator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/api"
	"windlass/coordinator/archive"
	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/board"
	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/coordinator/consensus"
	"windlass/coordinator/forward"
	"windlass/coordinator/fsm"
	"windlass/coordinator/peer"
	"windlass/coordinator/state"
	"windlass/coordinator/webhook"
	"windlass/protocol"
)

// stopTimeout bounds a graceful stop: held requests end at once, a body that is
// being sent gets a moment, leadership is handed on within two elections, and a
// service manager waits longer than this.
const stopTimeout = 15 * time.Second

// exitGrace is what a caller has to write its last line after a storage error.
// Its own clean-up may hang on the same disk, and a leader that hangs keeps the
// others from electing.
const exitGrace = 3 * time.Second

// Options are what a caller in the same process hands over instead of having
// it opened from the configuration. The zero value opens everything.
type Options struct {
	Listener net.Listener             // instead of http.listen
	Keys     *auth.Keys               // instead of bootstrapKeyFile
	Memory   *consensus.Memory        // instead of data and peer.listen
	Blobs    blob.Store               // instead of blob.dir
	WallMs   func() int64             // the wall clock in unix ms; the machine's
	Rewrite  func(host string) string // another host to dial for a peer; nil: the peer itself
	Version  string                   // shown by the API
	Recent   func() []string          // newest lines of the log, for cluster debug; nil: none
	Timeouts consensus.Timeouts       // of elections; the zero value is right outside of tests
}

// Coordinator is one coordinator. New opens it and binds its addresses, Run
// serves, and returns when everything has stopped.
type Coordinator struct {
	cfg     Config
	log     zerolog.Logger
	wallMs  func() int64
	store   *state.Store
	keys    *auth.Keys
	blobs   *blobs
	copies  atomic.Pointer[func() *consensus.Copies] // nil until the store is open
	archive *archive.Archive
	ln      net.Listener
	port    *peer.Port     // nil in memory
	peers   sync.WaitGroup // serves port until it is closed
	node    *consensus.Node
	board   *board.Board
	broker  *broker.Broker
	forward *forward.Forwarder
	webhook *webhook.Sender
	place   *place
	states  *checkpoints
	admin   *operator
	certs   *certificates
	api     *api.Server
	limits  *limits
	fatal   chan error     // a storage error; nothing may be acknowledged after it
	release []func() error // in reverse order of opening
}

// New opens a coordinator from its configuration. Nothing is served before Run.
func New(cfg Config, log zerolog.Logger) (*Coordinator, error) {
	return NewWith(cfg, Options{}, log)
}

// NewWith opens a coordinator with some of its parts given.
func NewWith(cfg Config, opts Options, log zerolog.Logger) (*Coordinator, error) {
	if err := cfg.validateWith(opts); err != nil {
		return nil, fmt.Errorf("cannot use coordinator configuration:\n%w", err)
	}
	c := &Coordinator{
		cfg: cfg, log: log.With().Str("component", "coordinator").Logger(),
		wallMs: opts.WallMs, store: state.New(), fatal: make(chan error, 1),
	}
	c.place, c.admin = &place{c: c}, newOperator(c, opts.Version, opts.Recent)
	c.certs = newCertificates()
	c.states = newCheckpoints(c.store.TakeCheckpoint,
		func() []consensus.Member { return c.node.Members() }, func(err error) { c.node.Halt(err) }, c.log)
	if c.wallMs == nil {
		c.wallMs = func() int64 { return time.Now().UnixMilli() }
	}
	if err := c.open(opts, log); err != nil {
		return nil, errors.Join(err, c.releaseAll())
	}
	return c, nil
}

// validateWith is Validate without the fields that opts stands in for.
func (c Config) validateWith(opts Options) error {
	if opts.Keys != nil {
		c.BootstrapKeyFile = "(given)"
	}
	if opts.Memory != nil {
		c.Data = "(memory)"
	}
	return c.Validate()
}

func (c *Coordinator) open(opts Options, log zerolog.Logger) error {
	var err error
	if c.keys = opts.Keys; c.keys == nil {
		if c.keys, err = auth.LoadKeys(c.cfg.BootstrapKeyFile); err != nil {
			return fmt.Errorf("cannot load bootstrapKeyFile: %w", err)
		}
	}
	if c.ln = opts.Listener; c.ln == nil {
		if c.ln, err = net.Listen("tcp", c.cfg.HTTP.Listen); err != nil {
			return fmt.Errorf("cannot listen on %s: %w: set http.listen to a free address of this machine", c.cfg.HTTP.Listen, err)
		}
	}
	c.release = append(c.release, func() error { return ignoreClosed(c.ln.Close()) })
	if err = c.secure(log); err != nil {
		return err
	}
	if err := c.openNode(opts, log); err != nil {
		return err
	}
	if err := c.openBlobs(opts); err != nil {
		return err
	}
	nowMs := c.node.Clock().NowMs
	if c.archive, err = c.openArchive(nowMs); err != nil {
		return err
	}
	c.board = board.New(board.Config{Job: c.store.Job, NowMs: nowMs, Term: c.place.term.Load})
	c.broker = broker.New(broker.Config{
		Store: c.store, Proposer: c.node.Proposer(), NowMs: nowMs, Board: c.board, Feature: c.feature,
		Log: log.With().Str("component", "broker").Logger(),
	})
	c.forward = forward.New(forward.Config{Cluster: c.node, Call: c.call, Write: c.broker.Write})
	c.limits = &limits{c: c, own: auth.NewLimiter(c.cfg.Limits.Status, c.cfg.Limits.Submit)}
	if c.port != nil {
		c.forward.Register(c.port.Handle)
		c.limits.serve(c.port)
	}
	if err := c.openWebhooks(opts.Version, log); err != nil {
		return err
	}
	c.api, err = api.New(api.Deps{
		Store: c.store, Board: c.board, Blobs: c.blobs.store, MissingBlobs: c.blobs.missing, Archive: c.archive, Keys: c.keys,
		Limits: c.limits, Failures: auth.NewFailures(c.cfg.Limits.Failures),
		Webhooks: c.webhook, Cluster: c.place, Operator: c.admin, Broker: c.leaderBroker,
		Write: c.forward.Write, Admit: func(cmd *command.Submit) command.Result { return fsm.Admit(c.store.View(), cmd) }, Barrier: c.forward.Barrier, Applied: c.node.WaitApplied,
		Member: c.member, NowMs: nowMs, PublicURL: func() string { return c.cfg.HTTP.PublicURL },
		UpgradeURL: c.cfg.Limits.UpgradeURL,
		QueueLimit: uint32(c.cfg.Limits.Queue), Version: opts.Version, Log: log,
		Collectors: append(runtimeMetrics(), newLogMetrics(c.node.Stats), newBlobMetrics(c.blobs), newArchiveMetrics(c.archive, c.store), newWebhookMetrics(c.webhook, c.store), c.certs),
	})
	if err != nil {
		return fmt.Errorf("cannot make API server: %w", err)
	}
	return nil
}

func (c *Coordinator) openNode(opts Options, log zerolog.Logger) error {
	cfg := consensus.Config{
		Memory: opts.Memory, Join: c.cfg.Join, Timeouts: opts.Timeouts,
		Describe: func() consensus.Description {
			return consensus.Description{HTTP: c.publicURL(), Version: opts.Version, Features: features(), Checkpoint: c.states.current(), Copies: c.told()}
		},
		Feature: c.feature,
		Expect:  c.cfg.Expect, FSM: fsm.New(c.store), Verify: fsm.Verify, Fence: fsm.Fence, WallMs: c.wallMs,
		Fatal: func(err error) {
			c.fatal <- err
			time.AfterFunc(exitGrace, func() { os.Exit(1) })
		},
		Log: log.With().Str("component", "consensus").Logger(),
	}
	var err error
	if cfg.Memory == nil {
		if cfg.Directory, err = consensus.OpenDirectory(c.cfg.dir()); err != nil {
			return err
		}
		secure, err := c.peerTLS(log)
		if err == nil {
			c.port, err = peer.Listen(peer.Config{Listen: c.cfg.Peer.Listen, Advertise: c.cfg.Peer.Advertise, TLS: secure, Self: cfg.Directory.Self, Rewrite: opts.Rewrite, Log: log})
		}
		if err != nil {
			return errors.Join(err, cfg.Directory.Close())
		}
		c.release = append(c.release, func() error {
			err := c.port.Close()
			c.peers.Wait()
			return err
		})
		cfg.Port = c.port
	}
	if c.node, err = consensus.Open(cfg); err != nil {
		return err
	}
	c.release = append(c.release, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		return c.node.Close(ctx)
	})
	return nil
}

// told is what others hear of this coordinator's payloads.
func (c *Coordinator) told() *consensus.Copies {
	if copies := c.copies.Load(); copies != nil {
		return (*copies)()
	}
	return &consensus.Copies{} // nobody may count on any yet
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Addr is the address of the API listener.
func (c *Coordinator) Addr() net.Addr { return c.ln.Addr() }

// Ready is closed once this coordinator leads and serves jobs.
func (c *Coordinator) Ready() <-chan struct{} { return c.broker.Ready() }

// call asks another coordinator.
func (c *Coordinator) call(ctx context.Context, to peer.Address, method string, in, out any) error {
	return c.port.Call(ctx, to, method, in, out)
}

// leaderBroker is the broker while this coordinator leads.
func (c *Coordinator) leaderBroker() (api.Broker, *protocol.Error) {
	if _, leads := c.place.Leads(); !leads {
		return nil, protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead at the moment").With("outcome", "none")
	}
	return c.broker, nil
}

// Run serves until ctx ends, then stops in order, frees everything that New
// opened, and returns nil. It may be called once. It returns an error when the coordinator cannot go on. After a storage error it returns at
// once and stops nothing: the disk may never answer, nothing is acknowledged
// any more, and the caller must end the process (DESIGN 6). If it has not done
// so within exitGrace, the process is ended for it.
func (c *Coordinator) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var work sync.WaitGroup
	ended := make(chan error, 4)
	if c.port != nil {
		c.peers.Go(func() {
			if err := c.port.Serve(); err != nil {
				ended <- err
			}
		})
	}
	endForward := c.forward.Begin(ctx)
	work.Go(endForward)
	work.Go(func() { c.board.Run(ctx, c.store) })
	work.Go(func() { c.blobs.run(ctx, c) })
	work.Go(func() { c.states.run(ctx) })
	work.Go(func() { ended <- c.followLeadership(ctx) })
	work.Go(func() { ended <- c.serve(c.api.Serve, c.ln) })
	if c.port != nil {
		work.Go(func() { ended <- c.serve(c.api.ServePeers, c.port.API()) })
	}
	c.log.Info().Str("address", c.Addr().String()).Str("data", c.cfg.Data).Msg("coordinator serves")
	var err error
	select {
	case <-ctx.Done():
	case <-c.admin.left:
	case <-c.node.Removed():
		err = errors.New("cannot go on: this coordinator was removed from its cluster: leave it stopped, or start it again to let it join anew")
	case err = <-ended:
	case err = <-c.fatal:
		return c.cannotGoOn(err)
	}
	return errors.Join(err, c.shutdown(cancel, &work))
}

// cannotGoOn says why the process has to end.
func (c *Coordinator) cannotGoOn(err error) error {
	if errors.As(err, new(*consensus.HaltError)) {
		return fmt.Errorf("cannot go on: %w", err)
	}
	return fmt.Errorf("cannot go on after a storage error: %w: nothing acknowledged is lost: free or repair the disk under %s, then start again", err, c.cfg.Data)
}

func (c *Coordinator) serve(serve func(net.Listener) error, ln net.Listener) error {
	if err := serve(ln); err != nil {
		return fmt.Errorf("cannot serve API: %w", err)
	}
	return nil
}

// shutdown stops in the order in which work arrives: requests, then the
// leader's work that they wait for, then the log below it. What has not stopped
// within stopTimeout is named and left to the end of the process.
func (c *Coordinator) shutdown(cancel context.CancelFunc, work *sync.WaitGroup) error {
	ctx, done := context.WithTimeout(context.Background(), stopTimeout)
	defer done()
	err := c.api.Shutdown(ctx)
	cancel()
	late := within(ctx, "the work of the leader and of the blob store", func() error { work.Wait(); return nil })
	if late == nil {
		late = within(ctx, "the log or the peer port", c.releaseAll)
	}
	if err = errors.Join(err, late); err != nil {
		return fmt.Errorf("cannot stop cleanly: %w", err)
	}
	c.log.Info().Msg("coordinator stopped")
	return nil
}

// within waits for stop, or for ctx.
func within(ctx context.Context, what string, stop func() error) error {
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	select {
	case err := <-stopped:
		return err
	case <-ctx.Done():
		return fmt.Errorf("%s did not stop in time: end the process, nothing acknowledged is lost", what)
	}
}

func (c *Coordinator) releaseAll() error {
	var err error
	for i := len(c.release) - 1; i >= 0; i-- {
		err = errors.Join(err, c.release[i]())
	}
	c.release = nil
	return err
}

func (c *Coordinator) member() api.Member {
	return api.Member{Node: c.node.Identity().ServerID, Leader: c.node.IsLeader(), Term: c.node.Stats().Term}
}
