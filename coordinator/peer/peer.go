// Package peer is how coordinators speak to each other: one port, TLS 1.3 in
// both directions where it is configured, and a handshake that names who
// speaks and who must answer. Behind it are raft's connections, calls by name,
// and connections over which API requests are relayed. It knows no raft. See
// DESIGN.md.
package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/protocol/tlsconf"
)

// Kind is the first byte of a connection: what it carries after the handshake.
type Kind byte

// The kinds.
const (
	KindRaft Kind = 'R' // raft's own protocol
	KindRPC  Kind = 'C' // calls by name, HTTP/1.1
	KindAPI  Kind = 'A' // relayed API requests, HTTP/1.1
)

// String returns the name for logs.
func (k Kind) String() string {
	switch k {
	case KindRaft:
		return "raft"
	case KindRPC:
		return "rpc"
	case KindAPI:
		return "api"
	default:
		return fmt.Sprintf("kind %d", byte(k))
	}
}

const (
	// handshakeTimeout bounds dialing, TLS and the handshake together. It stands
	// above a connection whose first packet was lost twice (3 s) and below what a
	// caller with a deadline of its own would wait.
	handshakeTimeout = 4 * time.Second

	// stallTimeout ends a transfer over which no byte moved: longer than an fsync
	// on a disk in trouble, which ends its own process after 5 s.
	stallTimeout = 10 * time.Second

	// maxHandshakes bounds the connections that have not said who they are. A
	// coordinator has a handful of peers with a few connections each.
	maxHandshakes = 128

	// idleClient is how long an unused connection is kept for the next call;
	// idleServer is longer, so that the side that sends is the side that closes.
	idleClient = 90 * time.Second
	idleServer = 2 * time.Minute

	// maxIdle is the unused connections kept to each peer: batches, a read check
	// and a transfer side by side.
	maxIdle = 16

	// maxHeader holds a request's method and query; 8 times what we send.
	maxHeader = 32 << 10

	// keepAlive finds hosts that vanished without a word.
	keepAlive = 15 * time.Second
)

// Config is what Listen needs.
type Config struct {
	Listen    string // host:port
	Advertise string // what peers dial, host:port; the bound address when empty

	// TLS is the certificate and whom to believe; nil speaks plain TCP.
	TLS *tlsconf.Peer

	// Self is who this node is now. It is asked for each connection, because the
	// cluster becomes known later than the port.
	Self func() Identity

	// Rewrite maps a host to the one that is dialed instead; nil maps none.
	Rewrite func(host string) string

	Log zerolog.Logger

	limits limits // zero: the constants above
}

// limits are the durations that tests shorten.
type limits struct{ handshake, stall time.Duration }

// Port is the peer port of one coordinator. Listen binds it, Serve accepts,
// Close ends everything that it started.
type Port struct {
	cfg    Config
	host   string
	ln     net.Listener
	raft   *queue
	api    *queue
	rpc    *queue
	server *http.Server
	client *http.Transport
	base   context.Context // ends with Close
	stop   context.CancelFunc
	slots  chan struct{} // one for each handshake in progress
	work   sync.WaitGroup

	mu       sync.Mutex
	methods  map[string]method
	serving  bool
	closed   bool
	greeting map[net.Conn]struct{} // connections in their handshake
}

type method struct {
	handle Handler
	open   bool
}

// Listen binds the address. Nothing is accepted before Serve.
func Listen(cfg Config) (*Port, error) {
	if cfg.Self == nil {
		return nil, errors.New("cannot listen for peers: Self is not set")
	}
	ln, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers on %s: %w: set peer.listen to a free address of this machine", cfg.Listen, err)
	}
	host, err := advertised(ln, cfg.Advertise)
	if err != nil {
		return nil, errors.Join(err, ln.Close())
	}
	if cfg.limits == (limits{}) {
		cfg.limits = limits{handshake: handshakeTimeout, stall: stallTimeout}
	}
	cfg.Log = cfg.Log.With().Str("component", "peer").Logger()
	p := &Port{
		cfg: cfg, host: host, ln: ln,
		raft: newQueue(host), api: newQueue(host), rpc: newQueue(host),
		slots: make(chan struct{}, maxHandshakes), methods: make(map[string]method), greeting: make(map[net.Conn]struct{}),
	}
	p.base, p.stop = context.WithCancel(context.Background())
	p.server, p.client = p.newServer(), p.newClient()
	return p, nil
}

func advertised(ln net.Listener, advertise string) (string, error) {
	if advertise != "" {
		host, port, err := net.SplitHostPort(advertise)
		if err != nil || host == "" || port == "" || port == "0" {
			return "", fmt.Errorf("cannot advertise %q to peers: set peer.advertise to host:port as other coordinators reach this one", advertise)
		}
		return advertise, nil
	}
	if tcp, ok := ln.Addr().(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return "", fmt.Errorf("cannot advertise %s to peers: it names no machine: set peer.advertise to the address that other coordinators reach this one at", tcp)
	}
	return ln.Addr().String(), nil
}

// Host is what peers dial, host:port.
func (p *Port) Host() string { return p.host }

// Raft delivers accepted raft connections.
func (p *Port) Raft() net.Listener { return p.raft }

// API delivers accepted connections that carry relayed API requests.
func (p *Port) API() net.Listener { return p.api }

// Handle registers a method ("member/status") for coordinators of the same
// cluster that know whom they call. Before Serve.
func (p *Port) Handle(name string, h Handler) { p.register(name, method{handle: h}) }

// HandleOpen registers a method that also answers a caller of another or no
// cluster, and one that does not know who listens here: what is needed to join
// and to form a cluster. Before Serve.
func (p *Port) HandleOpen(name string, h Handler) { p.register(name, method{handle: h, open: true}) }

func (p *Port) register(name string, m method) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, twice := p.methods[name]; twice || p.serving {
		panic("peer: method " + name + " registered twice or after Serve")
	}
	p.methods[name] = m
}

// Serve accepts connections until Close, and then returns nil.
func (p *Port) Serve() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.serving = true
	p.work.Add(1)
	p.mu.Unlock()
	defer p.work.Done()
	p.work.Go(func() { _ = p.server.Serve(p.rpc) }) // ends when the queue or the server is closed
	for {
		conn, err := p.ln.Accept()
		if err == nil {
			p.accept(conn)
			continue
		}
		if p.base.Err() != nil {
			return nil
		}
		if ne, ok := err.(net.Error); !ok || !ne.Timeout() && !temporary(err) {
			return fmt.Errorf("cannot accept peers: %w", err)
		}
		p.cfg.Log.Warn().Err(err).Msg("peer connection could not be accepted")
		select { // out of file descriptors, most likely: others are about to close
		case <-p.base.Done():
		case <-time.After(acceptPause):
		}
	}
}

// acceptPause keeps a listener that cannot accept from turning the core.
const acceptPause = 50 * time.Millisecond

// Close ends every connection that this port accepted and every call that it
// sends, and waits for all of their goroutines.
func (p *Port) Close() error {
	p.mu.Lock()
	again := p.closed
	p.closed = true
	for conn := range p.greeting {
		_ = conn.Close()
	}
	p.mu.Unlock()
	if again {
		return nil
	}
	p.stop()
	err := p.ln.Close()
	for _, q := range []*queue{p.raft, p.api, p.rpc} {
		_ = q.Close()
	}
	_ = p.server.Close() // its error is that of the queue, which is closed
	p.work.Wait()
	p.client.CloseIdleConnections()
	if err != nil {
		return fmt.Errorf("cannot close peer port: %w", err)
	}
	return nil
}

// begin makes Close wait for work.Done; false when it is too late.
func (p *Port) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.work.Add(1)
	return true
}

// wrap puts TLS on an accepted connection.
func (p *Port) wrap(conn net.Conn) net.Conn {
	if p.cfg.TLS == nil {
		return conn
	}
	return tls.Server(conn, p.cfg.TLS.Server())
}
