package wire

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// way is what happens to bytes in one direction.
type way struct {
	cut    bool // nothing passes; nobody is told
	delay  time.Duration
	jitter time.Duration
	loss   float64 // part of the chunks that are sent again after retransmit
}

// retransmit is what one lost packet costs a TCP connection on Linux at least.
const retransmit = 200 * time.Millisecond

// link stands on the way that one end dials another on. Both directions can be
// cut or slowed, and connections reset, silenced or doubled.
type link struct {
	target string
	ln     net.Listener
	met    *atomic.Int64 // chunks and connections that met a fault
	wg     sync.WaitGroup

	mu          sync.Mutex
	there, back way // towards the target, and from it
	conns       map[*carried]struct{}
	refuse      bool
	double      bool
	ended       bool
}

// carried is one connection through a link.
type carried struct {
	in, out net.Conn
	silent  bool // guarded by the link
}

func newLink(host, target string, met *atomic.Int64) (*link, error) {
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return nil, err
	}
	l := &link{target: target, ln: ln, met: met, conns: make(map[*carried]struct{})}
	l.wg.Go(l.accept)
	return l, nil
}

func (l *link) addr() string { return l.ln.Addr().String() }

func (l *link) accept() {
	for {
		c, err := l.ln.Accept()
		if err != nil {
			return
		}
		l.wg.Go(func() { l.serve(c) })
	}
}

func (l *link) serve(in net.Conn) {
	defer in.Close()
	if l.refuses() {
		l.met.Add(1)
		abort(in)
		return
	}
	out, err := net.Dial("tcp", l.target)
	if err != nil {
		abort(in) // as the target refused us
		return
	}
	defer out.Close()
	c := &carried{in: in, out: out}
	double, ok := l.hold(c)
	if !ok {
		return
	}
	defer l.drop(c)
	var dst io.Writer = out
	if double {
		l.met.Add(1)
		d := newDouble(l.target)
		defer d.end()
		dst = io.MultiWriter(out, d)
	}
	var both sync.WaitGroup
	both.Go(func() { l.pump(c, dst, out, in, func() way { return l.there }) })
	both.Go(func() { l.pump(c, in, in, out, func() way { return l.back }) })
	both.Wait()
}

func (l *link) refuses() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.refuse || l.ended
}

func (l *link) hold(c *carried) (double, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns[c] = struct{}{}
	return l.double, !l.ended
}

func (l *link) drop(c *carried) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
}

// abort ends a connection without a goodbye.
func abort(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// cutLook is how often a cut direction looks whether it is whole again.
const cutLook = 5 * time.Millisecond

// pump carries bytes one way. What was cut off arrives when the way is whole
// again, as TCP would deliver it; the end of a connection does too.
func (l *link) pump(c *carried, to io.Writer, dst, src net.Conn, of func() way) {
	defer dst.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if !l.pass(c, of) {
			return
		}
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				_ = src.Close()
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = dst.(*net.TCPConn).SetLinger(0)
			}
			return
		}
	}
}

// pass returns when a chunk may go on; false: the link ended.
func (l *link) pass(c *carried, of func() way) bool {
	held, slept := false, false
	for {
		l.mu.Lock()
		w, silent, ended := of(), c.silent, l.ended
		l.mu.Unlock()
		switch {
		case ended:
			return false
		case w.cut || silent:
			if !held {
				held = true
				l.met.Add(1)
			}
			time.Sleep(cutLook)
			continue
		case !slept && (w.delay > 0 || w.loss > 0):
			slept = true
			l.met.Add(1)
			d := w.delay
			if w.jitter > 0 {
				d += time.Duration(rand.Int64N(2*int64(w.jitter))) - w.jitter
			}
			if rand.Float64() < w.loss {
				d += retransmit
			}
			time.Sleep(max(d, 0))
			continue
		}
		return true
	}
}

// change sets what happens from now on.
func (l *link) change(set func(*link)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	set(l)
}

// silence makes the connections of now carry nothing.
func (l *link) silence() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		c.silent = true
	}
}

// heal makes it whole.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.there, l.back, l.refuse, l.double = way{}, way{}, false, false
	for c := range l.conns {
		c.silent = false
	}
}

// reset ends every connection without a goodbye.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		l.met.Add(1)
		abort(c.in)
		abort(c.out)
	}
}

func (l *link) close() {
	_ = l.ln.Close()
	l.change(func(l *link) { l.ended = true })
	l.reset()
	l.wg.Wait()
}
