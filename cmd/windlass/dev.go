package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"windlass/agent"
	"windlass/coordinator/auth"
	"windlass/inference/builtin"
	"windlass/inference/command"
	"windlass/protocol/client"
)

const (
	// The default address; when it is taken, the next of devPorts ports is tried.
	devHost  = "127.0.0.1"
	devPort  = 7400
	devPorts = 100
	// devOrphan is how long shims outlive a dev that was killed.
	devOrphan = 60 * time.Second
	// devGrace lets a job that is about to end do so before Ctrl-C gives it back.
	devGrace = 500 * time.Millisecond
	// devReady bounds the start: log replay of a kept data directory included.
	devReady = time.Minute
	// devSlots is the least number of jobs at once, so that waiting jobs do not
	// keep a small machine from showing others.
	devSlots = 8
)

type devOptions struct {
	http         string
	data         string
	key          string
	level        string
	coordinators int
}

func (a *app) devCommand() *cobra.Command {
	var opts devOptions
	cmd := &cobra.Command{
		Use: "dev", Short: "Run everything on this machine, with sample endpoints", Args: args(),
		Long: `Run a coordinator, an agent and sample endpoints in one process, until Ctrl-C.

Without --data everything is gone at the end. The default address moves to the next free port; an
address given with --http that is taken is an error.

With --coordinators 3 they form a cluster as three hosts would: any of them answers, and every write is on two
disks before it is acknowledged. The first serves at the address above, the others at the next free ports.`,
		Example: `  windlass dev
  windlass dev --coordinators 3
  windlass dev --data ./data --http 127.0.0.1:8080`,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.dev(cmd.Context(), opts) },
	}
	f := cmd.Flags()
	f.StringVar(&opts.http, "http", "", fmt.Sprintf("address to serve on (default %s:%d or the next free port)", devHost, devPort))
	f.StringVar(&opts.data, "data", "", "directory to keep data in (default a temporary one, removed at the end)")
	f.StringVar(&opts.key, "api-key", "", fmt.Sprintf("the only key accepted, at least %d characters (default a new one)", auth.MinKeyLength))
	f.IntVar(&opts.coordinators, "coordinators", 1, "how many coordinators to run")
	f.StringVar(&opts.level, "log-level", "warn", "debug, info, warn or error")
	return cmd
}

// devServer is coordinators and an agent in one process; they meet over the
// HTTP API as on different hosts.
type devServer struct {
	app          *app
	log          zerolog.Logger
	data         string
	temporary    bool
	key          string
	urls         []string
	client       *client.Client
	coordinators []*part
	agent        *part
	drain        func(context.Context) error
}

func (a *app) dev(ctx context.Context, opts devOptions) (err error) {
	log, err := a.newLogger(opts.level, "")
	if err != nil {
		return err
	}
	a.raiseProcs()
	d := &devServer{app: a, log: log, key: opts.key, data: opts.data}
	if d.key == "" {
		d.key = "wl_dev_" + rand.Text()
	}
	keys, err := auth.NewKeys(d.key)
	if err != nil {
		return usagef("--api-key: %v", err)
	}
	if opts.coordinators < 1 || opts.coordinators > maxDevCoordinators {
		return usagef("--coordinators: must be between 1 and %d", maxDevCoordinators)
	}
	listeners, err := devListenAll(opts.http, opts.coordinators)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.makeData(); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	// The first part that ends takes the others with it.
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	if err := d.startCoordinators(fail, listeners, keys); err != nil {
		return errors.Join(err, closeAll(listeners))
	}
	return d.serve(ctx, fail)
}

// serve brings up the rest and returns nil when ctx ends.
func (d *devServer) serve(ctx context.Context, fail context.CancelCauseFunc) error {
	starting, cancel := context.WithTimeoutCause(ctx, devReady, errors.New("not ready in time"))
	defer cancel()
	err := d.ready(starting)
	if err == nil {
		err = d.startAgent(starting, fail)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("cannot start: %w", err)
	}
	if err == nil {
		err = d.greet()
	}
	if err != nil && ctx.Err() == nil {
		return err
	}
	<-ctx.Done()
	return nil // a part that failed says so when it is stopped
}

func devListen(addr string) (net.Listener, error) {
	if addr != "" {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("cannot listen: %w; choose another address with --http", err)
		}
		return ln, nil
	}
	return devListenNext()
}

func devListenNext() (net.Listener, error) {
	var last error
	for port := devPort; port < devPort+devPorts; port++ {
		ln, err := net.Listen("tcp", net.JoinHostPort(devHost, strconv.Itoa(port)))
		if err == nil {
			return ln, nil
		}
		if last = err; !errors.Is(err, syscall.EADDRINUSE) {
			break
		}
	}
	return nil, fmt.Errorf("cannot listen: %w; choose an address with --http", last)
}

func (d *devServer) makeData() error {
	if d.data != "" {
		if err := os.MkdirAll(d.data, 0o700); err != nil {
			return fmt.Errorf("cannot make data directory: %w", err)
		}
		return nil
	}
	dir, err := os.MkdirTemp("", "windlass-dev-")
	if err != nil {
		return fmt.Errorf("cannot make data directory: %w; name one with --data", err)
	}
	d.data, d.temporary = dir, true
	return nil
}

// reachable turns "any address of this machine" into one that can be called.
func reachable(addr *net.TCPAddr) string {
	if addr.IP.IsUnspecified() {
		return net.JoinHostPort(devHost, strconv.Itoa(addr.Port))
	}
	return addr.String()
}

// ready waits until the coordinator leads and has the sample endpoints.
func (d *devServer) ready(ctx context.Context) error {
	for d.client.Health(ctx) != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
	for _, e := range builtin.SampleEndpoints() {
		if _, err := d.client.ApplyEndpoint(ctx, e); err != nil {
			return fmt.Errorf("cannot make sample endpoint %s: %w", e.ID, err)
		}
	}
	return nil
}

func (d *devServer) startAgent(ctx context.Context, fail context.CancelCauseFunc) error {
	deps, err := d.app.agentDeps(d.client, d.log)
	if err != nil {
		return err
	}
	deps.Orphan = devOrphan
	ag, err := agent.New(agent.Config{
		Name: "dev", Data: d.data, Coordinators: d.urls, Slots: max(devSlots, runtime.NumCPU()),
		HTTP:     agent.HTTPConfig{Listen: agent.ListenOff},
		Runtimes: agent.RuntimesConfig{Allow: []agent.AllowRule{{Kind: builtin.Kind}, {Kind: command.Kind}}},
	}, deps)
	if err != nil {
		return err
	}
	d.agent = startPart(ag.Run, fail)
	select {
	case <-ag.Started():
		d.drain = ag.Drain
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// close stops everything in the order in which work arrives, and removes what
// was temporary.
func (d *devServer) close() error {
	var err error
	if d.drain != nil {
		ctx, cancel := context.WithTimeout(context.Background(), devGrace)
		err = d.drain(ctx)
		cancel()
	}
	err = errors.Join(err, d.agent.stop())
	if d.client != nil {
		d.client.Close() // idle connections would hold up the coordinator's stop
	}
	err = errors.Join(err, stopParts(d.coordinators))
	if d.temporary {
		err = errors.Join(err, os.RemoveAll(d.data))
	}
	return err
}

func closed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// part is one role that runs until it is stopped or fails.
type part struct {
	cancel context.CancelFunc
	done   chan error
}

// startPart runs a role; its end, for whatever reason, is told to fail.
func startPart(run func(context.Context) error, fail context.CancelCauseFunc) *part {
	ctx, cancel := context.WithCancel(context.Background())
	p := &part{cancel: cancel, done: make(chan error, 1)}
	go func() {
		err := run(ctx)
		fail(err)
		p.done <- err
	}()
	return p
}

func (p *part) stop() error {
	if p == nil {
		return nil
	}
	p.cancel()
	return <-p.done
}
