package peer

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"windlass/protocol/tlsconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// tester is a port with an identity that a test may change.
type tester struct {
	*Port
	log *lockedBuffer

	mu   sync.Mutex
	self Identity
}

// lockedBuffer is a log that a test waits for.
type lockedBuffer struct {
	mu    sync.Mutex
	b     bytes.Buffer
	wrote sync.Cond
}

func newBuffer() *lockedBuffer {
	l := &lockedBuffer{}
	l.wrote.L = &l.mu
	return l
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.wrote.Broadcast()
	return l.b.Write(p)
}

// await returns when the log holds the words.
func (l *lockedBuffer) await(words string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !strings.Contains(l.b.String(), words) {
		l.wrote.Wait()
	}
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (p *tester) become(id Identity) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.self = id
}

func (p *tester) address() Address {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Address{Server: p.self.Server, Host: p.Host()}
}

// listen binds a port; start serves it after methods were registered.
func listen(t *testing.T, id Identity, tls *tlsconf.Peer) *tester {
	t.Helper()
	p := &tester{self: id, log: newBuffer()}
	port, err := Listen(Config{
		Listen: "127.0.0.1:0", TLS: tls, Log: zerolog.New(p.log),
		Self: func() Identity {
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.self
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.Port = port
	t.Cleanup(func() {
		if err := port.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *tester) start(t *testing.T) *tester {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- p.Serve() }()
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return p
}

// impatient makes the port's durations short; for tests in which they pass.
func (p *tester) impatient() *tester {
	p.cfg.limits = limits{handshake: 100 * time.Millisecond, stall: 100 * time.Millisecond}
	p.server = p.newServer()
	return p
}

func deadline(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// accepted is the next connection of a kind.
func accepted(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

const one = "cluster_one"
