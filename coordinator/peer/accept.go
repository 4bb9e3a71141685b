package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// conn is a connection after its handshake.
type conn struct {
	net.Conn
	other Identity      // who said to be there
	to    string        // whom the caller meant; "" on a dialed connection
	stall time.Duration // bounds each write; 0 leaves deadlines to the user
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	if c.stall > 0 {
		if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(b)
}

// accept begins a handshake in a goroutine of its own, or closes the
// connection when too many strangers are waiting.
func (p *Port) accept(c net.Conn) {
	select {
	case p.slots <- struct{}{}:
	default:
		p.cfg.Log.Warn().Stringer("from", c.RemoteAddr()).Msg("peer connection closed: too many that have not said who they are")
		_ = c.Close()
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		_ = c.Close()
		return
	}
	p.greeting[c] = struct{}{}
	p.work.Go(func() {
		conn, h, err := p.greet(c)
		if err != nil {
			p.complain(c, h, err)
			if conn != nil {
				linger(conn)
			}
			_ = c.Close()
		}
		p.mu.Lock()
		delete(p.greeting, c)
		p.mu.Unlock()
		<-p.slots
		if err == nil && !p.queueOf(h.kind).put(conn) {
			_ = conn.Close()
		}
	})
}

func (p *Port) queueOf(k Kind) *queue {
	switch k {
	case KindRaft:
		return p.raft
	case KindAPI:
		return p.api
	default:
		return p.rpc
	}
}

// complain logs a connection that was not taken. A port scan is no news; a
// peer that must be repaired is.
func (p *Port) complain(c net.Conn, h hello, err error) {
	if p.base.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		return
	}
	p.cfg.Log.Warn().Stringer("from", c.RemoteAddr()).Str("server", clip(h.from)).Str("error", err.Error()).Msg("peer connection refused")
}

// clip bounds what a stranger can write to our log.
func clip(s string) string { return fmt.Sprintf("%.64q", s) }

// tlsRecord is the first byte of a TLS connection.
const tlsRecord = 0x16

// greet runs the server's side of TLS and the handshake. A connection beside an
// error is one that was answered.
func (p *Port) greet(raw net.Conn) (net.Conn, hello, error) {
	if err := raw.SetDeadline(time.Now().Add(p.cfg.limits.handshake)); err != nil {
		return nil, hello{}, err
	}
	c := p.wrap(raw)
	if t, ok := c.(*tls.Conn); ok {
		if err := t.HandshakeContext(p.base); err != nil {
			return nil, hello{}, fmt.Errorf("cannot agree on TLS: %w", err)
		}
	}
	h, err := readHello(c)
	var a answer
	switch {
	case h.kind == tlsRecord:
		a = answer{status: StatusMalformed, reason: "it speaks TLS and this coordinator does not: set peer.tls on all coordinators or on none"}
	case errors.Is(err, errVersion):
		a = answer{status: StatusVersion, self: p.cfg.Self(), reason: fmt.Sprintf("%v, here it is %d: run versions that are neighbours", err, version)}
	case errors.Is(err, errMalformed):
		a = answer{status: StatusMalformed, reason: err.Error()}
	case err != nil:
		return nil, h, err
	case p.queueOf(h.kind).over():
		a = answer{status: StatusClosing, self: p.cfg.Self(), reason: "it is stopping"}
	default:
		a = judge(h, p.cfg.Self())
	}
	if _, err := c.Write(a.encode()); err != nil {
		return nil, h, err
	}
	if a.status != StatusOK {
		return c, h, &Refused{Status: a.status, Other: Identity{h.from, h.cluster}, Reason: a.reason}
	}
	if err := raw.SetDeadline(time.Time{}); err != nil {
		return nil, h, err
	}
	out := &conn{Conn: c, other: Identity{h.from, h.cluster}, to: h.to}
	if h.kind == KindRPC {
		out.stall = p.cfg.limits.stall
	}
	return out, h, nil
}

// lingerLimit is what a refused caller may still have on its way; a reset
// because of unread bytes would take our answer from it.
const lingerLimit = 64 << 10

// linger ends our direction and waits, within the handshake's deadline, until
// the caller has read the answer and closed.
func linger(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_, _ = io.CopyN(io.Discard, c, lingerLimit)
}

// temporary reports an error of accept after which the next one may work.
func temporary(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.ENOBUFS) ||
		errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.ECONNABORTED)
}

// queue is a listener that is fed with connections of one kind.
type queue struct {
	addr  hostAddr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newQueue(host string) *queue {
	return &queue{addr: hostAddr(host), conns: make(chan net.Conn), done: make(chan struct{})}
}

// hostAddr is a net.Addr of a name that is not resolved.
type hostAddr string

// Network implements net.Addr.
func (hostAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a hostAddr) String() string { return string(a) }

// put hands the connection to whoever accepts; false when nobody will.
func (q *queue) put(c net.Conn) bool {
	if q.over() {
		return false
	}
	select {
	case q.conns <- c:
		return true
	case <-q.done:
		return false
	}
}

func (q *queue) over() bool {
	select {
	case <-q.done:
		return true
	default:
		return false
	}
}

// Accept implements net.Listener.
func (q *queue) Accept() (net.Conn, error) {
	select {
	case c := <-q.conns:
		return c, nil
	case <-q.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. New connections of the kind are refused.
func (q *queue) Close() error {
	q.once.Do(func() { close(q.done) })
	return nil
}

// Addr implements net.Listener: what peers dial.
func (q *queue) Addr() net.Addr { return q.addr }
