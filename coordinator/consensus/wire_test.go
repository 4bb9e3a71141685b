package consensus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"

	"windlass/coordinator/peer"
)

// wire is a network in memory, for tests in virtual time: ports by host, and
// directions that are cut.
type wire struct {
	mu    sync.Mutex
	ports map[string]*wirePort
	cuts  map[[2]string]bool // from, to: nothing passes, and nobody is told
	calls map[string]int     // answered, by method

	// before may refuse a call, or do something first; nil: nothing.
	before func(from, to, method string) error
}

func newWire() *wire {
	return &wire{ports: map[string]*wirePort{}, cuts: map[[2]string]bool{}, calls: map[string]int{}}
}

// cut stops what from sends to to.
func (w *wire) cut(from, to string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cuts[[2]string{from, to}] = on
}

// isolate cuts both directions between host and all others.
func (w *wire) isolate(host string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for other := range w.ports {
		w.cuts[[2]string{host, other}], w.cuts[[2]string{other, host}] = on, on
	}
}

func (w *wire) isCut(from, to string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cuts[[2]string{from, to}]
}

// called is how often a method was answered.
func (w *wire) called(method string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.calls[method]
}

// wirePort is a Port.
type wirePort struct {
	wire    *wire
	host    string
	self    func() peer.Identity
	conns   chan net.Conn
	closed  context.Context
	close   context.CancelFunc
	methods map[string]peer.Handler
	open    map[string]bool

	mu     sync.Mutex
	opened []net.Conn
}

func (w *wire) listen(host string, self func() peer.Identity) *wirePort {
	p := &wirePort{wire: w, host: host, self: self, conns: make(chan net.Conn), methods: map[string]peer.Handler{}, open: map[string]bool{}}
	p.closed, p.close = context.WithCancel(context.Background())
	return p
}

// serve makes the port reachable, after its methods are registered.
func (p *wirePort) serve() {
	p.wire.mu.Lock()
	defer p.wire.mu.Unlock()
	p.wire.ports[p.host] = p
}

// end breaks every connection, as the end of a process does.
func (p *wirePort) end() {
	p.close()
	p.wire.mu.Lock()
	if p.wire.ports[p.host] == p {
		delete(p.wire.ports, p.host)
	}
	p.wire.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.opened {
		c.Close()
	}
}

func (p *wirePort) Host() string { return p.host }

func (p *wirePort) Raft() net.Listener { return wireListener{p} }

func (p *wirePort) Handle(method string, h peer.Handler) { p.methods[method] = h }

func (p *wirePort) HandleOpen(method string, h peer.Handler) {
	p.methods[method], p.open[method] = h, true
}

// reach finds who must answer; a cut is silence until ctx ends.
func (p *wirePort) reach(ctx context.Context, to peer.Address) (*wirePort, error) {
	if p.wire.isCut(p.host, to.Host) || p.wire.isCut(to.Host, p.host) {
		<-ctx.Done()
		return nil, &peer.Unreachable{To: to, Err: context.Cause(ctx)}
	}
	p.wire.mu.Lock()
	other := p.wire.ports[to.Host]
	p.wire.mu.Unlock()
	if other == nil {
		return nil, &peer.Unreachable{To: to, Err: errors.New("connection refused")}
	}
	if id := other.self(); to.Server != "" && id.Server != to.Server {
		return nil, &peer.Unreachable{To: to, Err: &peer.Refused{Status: peer.StatusWrongServer, Other: id}}
	}
	return other, nil
}

func (p *wirePort) Dial(ctx context.Context, _ peer.Kind, to peer.Address) (net.Conn, error) {
	other, err := p.reach(ctx, to)
	if err != nil {
		return nil, err
	}
	if c := p.self().Cluster; c == "" || c != other.self().Cluster {
		return nil, &peer.Unreachable{To: to, Err: &peer.Refused{Status: peer.StatusWrongCluster}}
	}
	a, b := net.Pipe()
	near, far := &wireConn{Conn: a, wire: p.wire, from: p.host, to: to.Host}, &wireConn{Conn: b, wire: p.wire, from: to.Host, to: p.host}
	for port, conn := range map[*wirePort]net.Conn{p: near, other: far} {
		port.mu.Lock()
		port.opened = append(port.opened, conn)
		port.mu.Unlock()
	}
	select {
	case other.conns <- far:
		return near, nil
	case <-other.closed.Done():
		return nil, &peer.Unreachable{To: to, Err: net.ErrClosed}
	case <-ctx.Done():
		return nil, &peer.Unreachable{To: to, Err: context.Cause(ctx)}
	}
}

func (p *wirePort) Call(ctx context.Context, to peer.Address, method string, in, out any) error {
	other, err := p.reach(ctx, to)
	if err != nil {
		return err
	}
	from := p.self()
	handle := other.methods[method]
	if handle == nil || !other.open[method] && from.Cluster != other.self().Cluster {
		return &peer.Unreachable{To: to, Err: fmt.Errorf("refused %s", method)}
	}
	p.wire.mu.Lock()
	before := p.wire.before
	p.wire.mu.Unlock()
	if before != nil {
		if err := before(p.host, to.Host, method); err != nil {
			return &peer.Unreachable{To: to, Err: err}
		}
	}
	raw, err := json.Marshal(in)
	if err != nil {
		return err
	}
	answer, err := handle(ctx, &peer.Request{From: from, Body: bytes.NewReader(raw), Size: int64(len(raw))})
	if err != nil {
		return err
	}
	p.wire.mu.Lock()
	p.wire.calls[method]++
	p.wire.mu.Unlock()
	if raw, err = json.Marshal(answer); err != nil || out == nil {
		return err
	}
	return json.Unmarshal(raw, out)
}

// wireConn loses what is written into a cut, and everything after it.
type wireConn struct {
	net.Conn
	wire     *wire
	from, to string
	mu       sync.Mutex
	lost     bool
}

func (c *wireConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	c.lost = c.lost || c.wire.isCut(c.from, c.to)
	lost := c.lost
	c.mu.Unlock()
	if lost {
		return len(b), nil
	}
	return c.Conn.Write(b)
}

type wireListener struct{ p *wirePort }

func (l wireListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.p.conns:
		return c, nil
	case <-l.p.closed.Done():
		return nil, net.ErrClosed
	}
}

func (l wireListener) Close() error {
	l.p.end()
	return nil
}

func (l wireListener) Addr() net.Addr { return streamAddr(l.p.host) }

// serve runs a real port until the test ends.
func serve(t *testing.T, p *peer.Port) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- p.Serve() }()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
