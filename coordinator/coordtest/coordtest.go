// Package coordtest runs a whole coordinator in memory for the tests of other
// packages: the real API, broker, state machine and raft, without a disk for
// the log and without a socket. A restart keeps the log, as a crash would. It
// runs in real time: the HTTP library keeps two goroutines of its own asleep for
// ever, which no synctest bubble accepts. Tests of time drive the parts below
// the API in a bubble instead.
package coordtest

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/rs/zerolog"

	"windlass/coordinator"
	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/consensus"
	"windlass/protocol/client"
)

// Key is the API key of every cluster that Start makes.
const Key = "coordtest-key-0123456789"

// URL is the base URL, without /v2. Only the cluster's own HTTP client reaches
// it.
const URL = "http://coordinator.test"

// Cluster is a running coordinator.
type Cluster struct {
	// HTTP reaches the API, whatever the host of the URL.
	HTTP *http.Client
	// Client speaks to it with Key.
	Client *client.Client

	t      testing.TB
	memory *consensus.Memory
	blobs  blob.Store
	link   *link
	stop   func()
}

// Start runs a coordinator until the test ends and returns once it leads and
// serves.
func Start(t testing.TB) *Cluster {
	t.Helper()
	blobs, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c := &Cluster{t: t, memory: consensus.NewMemory(), blobs: blobs, link: newLink()}
	transport := &http.Transport{DialContext: c.link.dial, DisableCompression: true}
	c.HTTP = &http.Client{Transport: transport}
	c.Client, err = client.New(client.Config{Addrs: []string{URL}, Key: Key, HTTP: c.HTTP})
	if err != nil {
		t.Fatal(err)
	}
	c.run()
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		c.stop()
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Restart stops the coordinator and starts it again with the same log: held
// requests end, soft state is lost, a new leadership begins.
func (c *Cluster) Restart() {
	c.t.Helper()
	c.stop()
	c.run()
}

func (c *Cluster) run() {
	c.t.Helper()
	keys, err := auth.NewKeys(Key)
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := coordinator.DefaultConfig()
	co, err := coordinator.NewWith(cfg, coordinator.Options{
		Listener: c.link.listen(), Keys: keys, Memory: c.memory, Blobs: c.blobs, Version: "test",
	}, zerolog.New(zerolog.NewTestWriter(c.t)).Level(zerolog.WarnLevel))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- co.Run(ctx) }()
	c.stop = func() {
		cancel()
		if err := <-done; err != nil {
			c.t.Error(err)
		}
	}
	select {
	case <-co.Ready():
	case err := <-done:
		done <- err
		c.t.Fatalf("coordinator ended before it served: %v", err)
	}
}

// link is a listener whose connections are pipes, so that tests take no ports;
// a new one takes over at a restart, and the address stays.
type link struct {
	current chan *pipes // capacity 1: the listener that accepts
}

type pipes struct {
	conns  chan net.Conn
	closed context.Context
	close  context.CancelFunc
}

func newLink() *link { return &link{current: make(chan *pipes, 1)} }

func (l *link) listen() net.Listener {
	select {
	case <-l.current:
	default:
	}
	p := &pipes{conns: make(chan net.Conn)}
	p.closed, p.close = context.WithCancel(context.Background())
	l.current <- p
	return p
}

func (l *link) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	p := <-l.current
	l.current <- p
	near, far := net.Pipe()
	select {
	case p.conns <- far:
		return near, nil
	case <-p.closed.Done():
		return nil, &net.OpError{Op: "dial", Net: "pipe", Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Accept implements net.Listener.
func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (p *pipes) Close() error {
	p.close()
	return nil
}

// Addr implements net.Listener.
func (p *pipes) Addr() net.Addr { return address{} }

type address struct{}

// Network implements net.Addr.
func (address) Network() string { return "pipe" }

// String implements net.Addr.
func (address) String() string { return "coordinator.test" }
