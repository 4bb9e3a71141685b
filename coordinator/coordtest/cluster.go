package coordtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator"
	"windlass/coordinator/auth"
	"windlass/coordinator/consensus"
	"windlass/protocol"
	"windlass/protocol/client"
)

const (
	// settle bounds what a test waits for; only a failure takes as long.
	settle = 90 * time.Second

	// patient is raft's timeout in tests: three coordinators share the processors
	// of one machine with other tests, and must not elect because they waited.
	patient = time.Second
)

// Peers are several coordinators of one cluster, each with its own directory and
// with loopback sockets, as on hosts of their own.
type Peers struct {
	// Nodes are they, by their number.
	Nodes []*Node
	// Client asks whichever answers.
	Client *client.Client

	t testing.TB
}

// Node is one of them.
type Node struct {
	// URL is the base URL of its API, without /v2.
	URL string
	// Client asks this node alone, once.
	Client *client.Client

	t     testing.TB
	cfg   coordinator.Config
	ahead time.Duration // of the wall clock, before the machine's

	mu   sync.Mutex
	co   *coordinator.Coordinator // nil while it does not run
	api  *wire
	stop func() error
}

// StartPeers runs n coordinators until the test ends and returns once one leads
// and all follow it.
func StartPeers(t testing.TB, n int) *Peers {
	t.Helper()
	return StartPeersWith(t, n, func(*coordinator.Config) {})
}

// StartPeersWith is StartPeers with a change to every configuration.
func StartPeersWith(t testing.TB, n int, change func(*coordinator.Config)) *Peers {
	t.Helper()
	p := &Peers{t: t}
	hosts := freeHosts(t, 2*n)
	var urls []string
	for i := range n {
		cfg := coordinator.DefaultConfig()
		cfg.Data = filepath.Join(t.TempDir(), "data")
		cfg.HTTP.Listen, cfg.Peer.Listen = hosts[i], hosts[n+i]
		cfg.Join, cfg.Expect = hosts[n:], n
		change(&cfg)
		node := &Node{t: t, cfg: cfg, URL: "http://" + hosts[i]}
		node.Client = newClient(t, 1, node.URL)
		p.Nodes, urls = append(p.Nodes, node), append(urls, node.URL)
		node.Start()
		t.Cleanup(func() {
			if err := node.end(); err != nil {
				t.Error(err)
			}
		})
	}
	p.Client = newClient(t, 0, urls...)
	p.Leader()
	for _, node := range p.Nodes {
		p.Await("a coordinator follows", func(ctx context.Context) bool { return node.Client.Health(ctx) == nil })
	}
	return p
}

// URLs are the base URLs of all nodes.
func (p *Peers) URLs() []string {
	var urls []string
	for _, n := range p.Nodes {
		urls = append(urls, n.URL)
	}
	return urls
}

func newClient(t testing.TB, tries int, urls ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: urls, Key: Key, Tries: tries, HTTP: &http.Client{Transport: client.NewTransport()}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// freeHosts finds loopback addresses that nobody listens on. They are looked for
// together, so that they differ.
func freeHosts(t testing.TB, n int) []string {
	t.Helper()
	var hosts []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		hosts = append(hosts, ln.Addr().String())
	}
	return hosts
}

// Leader returns the node that serves as leader, once there is one.
func (p *Peers) Leader() *Node {
	p.t.Helper()
	var leader *Node
	p.Await("a coordinator leads", func(context.Context) bool {
		for _, n := range p.Nodes {
			if n.leads() {
				leader = n
			}
		}
		return leader != nil
	})
	return leader
}

// Followers returns the nodes that run and do not lead.
func (p *Peers) Followers() []*Node {
	p.t.Helper()
	leader := p.Leader()
	var out []*Node
	for _, n := range p.Nodes {
		if n != leader && n.running() != nil {
			out = append(out, n)
		}
	}
	return out
}

// Await asks until cond holds.
func (p *Peers) Await(what string, cond func(ctx context.Context) bool) {
	p.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), settle, errors.New("it did not happen in time"))
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond(ctx) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			p.t.Fatalf("waited in vain: %s: %v", what, context.Cause(ctx))
		}
	}
}

// PutEndpoint makes an endpoint that any agent may run.
func (p *Peers) PutEndpoint(id string) {
	p.t.Helper()
	doc := protocol.Endpoint{Kind: "Endpoint", ID: id, Runtime: protocol.RuntimeSpec{Kind: "builtin"}}
	if _, err := p.Client.ApplyEndpoint(context.Background(), doc); err != nil {
		p.t.Fatal(err)
	}
}

func (n *Node) running() *coordinator.Coordinator {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.co
}

func (n *Node) leads() bool {
	co := n.running()
	if co == nil {
		return false
	}
	select {
	case <-co.Ready():
		return true
	default:
		return false
	}
}

// Start runs the node, with what its directory holds.
func (n *Node) Start() {
	n.t.Helper()
	keys, err := auth.NewKeys(Key)
	if err != nil {
		n.t.Fatal(err)
	}
	ln, err := net.Listen("tcp", n.cfg.HTTP.Listen)
	if err != nil {
		n.t.Fatal(err)
	}
	api := &wire{Listener: ln, t: n.t, conns: make(map[net.Conn]struct{})}
	log := zerolog.New(zerolog.NewTestWriter(n.t)).Level(zerolog.WarnLevel)
	co, err := coordinator.NewWith(n.cfg, coordinator.Options{
		Listener: api, Keys: keys, Version: "test",
		Timeouts: consensus.Timeouts{Heartbeat: patient, Election: 2 * patient, Lease: patient},
		WallMs:   func() int64 { return time.Now().Add(n.ahead).UnixMilli() },
	}, log)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- co.Run(ctx) }()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.co, n.api = co, api
	n.stop = func() error {
		cancel()
		return <-done
	}
}

// Sleep stops all nodes and starts them again when d has passed by their clocks.
func (p *Peers) Sleep(d time.Duration) {
	p.t.Helper()
	for _, n := range p.Nodes {
		n.Stop()
		n.ahead += d
	}
	for _, n := range p.Nodes {
		n.Start()
	}
	p.Leader()
}

// Stop ends the node in order, as SIGTERM does.
func (n *Node) Stop() {
	n.t.Helper()
	if err := n.end(); err != nil {
		n.t.Error(err)
	}
}

// Kill ends the node without a word, as SIGKILL does: every connection breaks at
// once, nothing is handed on, nobody is answered. Its directory is free when
// it returns.
func (n *Node) Kill() {
	n.t.Helper()
	co := n.running()
	if co == nil {
		n.t.Fatal("the node does not run")
	}
	n.api.cut()
	if err := co.Sever(); err != nil {
		n.t.Error(err)
	}
	n.Stop()
}

func (n *Node) end() error {
	n.mu.Lock()
	stop := n.stop
	n.co, n.stop = nil, nil
	n.mu.Unlock()
	if stop == nil {
		return nil
	}
	if err := stop(); err != nil {
		return fmt.Errorf("coordinator at %s: %w", n.URL, err)
	}
	return nil
}

// wire is a listener whose connections can all be cut.
type wire struct {
	net.Listener
	t testing.TB

	mu    sync.Mutex
	over  bool
	conns map[net.Conn]struct{}
}

// Accept implements net.Listener.
func (w *wire) Accept() (net.Conn, error) {
	c, err := w.Listener.Accept()
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		c.Close()
	}
	w.conns[c] = struct{}{}
	return &wired{Conn: c, w: w}, nil
}

// Close implements net.Listener; closing it again is no error.
func (w *wire) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return nil
	}
	w.over = true
	return w.Listener.Close()
}

// cut ends the listener and every connection that it accepted.
func (w *wire) cut() {
	w.t.Helper()
	if err := w.Close(); err != nil {
		w.t.Error(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for c := range w.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset, as a process leaves behind
		}
		_ = c.Close()
	}
}

type wired struct {
	net.Conn
	w *wire
}

// Close implements net.Conn.
func (c *wired) Close() error {
	c.w.mu.Lock()
	delete(c.w.conns, c.Conn)
	c.w.mu.Unlock()
	return c.Conn.Close()
}
