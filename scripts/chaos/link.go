package main

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
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

// link stands on the way that one coordinator dials another on. Both
// directions can be cut, slowed or reset on their own.
type link struct {
	target string
	ln     net.Listener
	wg     sync.WaitGroup

	mu            sync.Mutex
	there, back   way // towards the target, and from it
	conns         map[net.Conn]struct{}
	refuse, ended bool
}

func newLink(target string) (*link, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l := &link{target: target, ln: ln, conns: make(map[net.Conn]struct{})}
	l.wg.Go(l.accept)
	return l, nil
}

// connect makes the links of one coordinator, and tells it to use them.
func (b *bed) connect(from *node) error {
	var table strings.Builder
	for _, to := range b.others(from) {
		l, err := newLink(to.peer)
		if err != nil {
			return err
		}
		b.links[from.name+">"+to.name] = l
		table.WriteString(to.peer + " " + l.ln.Addr().String() + "\n")
	}
	if err := from.configure(""); err != nil {
		return err
	}
	return os.WriteFile(from.faults+"/peers", []byte(table.String()), 0o600)
}

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
	l.mu.Lock()
	refuse := l.refuse
	l.mu.Unlock()
	if refuse {
		_ = in.(*net.TCPConn).SetLinger(0)
		return
	}
	out, err := net.Dial("tcp", l.target)
	if err != nil {
		_ = in.(*net.TCPConn).SetLinger(0) // as the target refused us
		return
	}
	defer out.Close()
	if !l.hold(in, out) {
		return
	}
	defer l.drop(in, out)
	var both sync.WaitGroup
	both.Go(func() { l.pump(out, in, func() way { return l.there }) })
	both.Go(func() { l.pump(in, out, func() way { return l.back }) })
	both.Wait()
}

func (l *link) hold(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		l.conns[c] = struct{}{}
	}
	return !l.ended
}

func (l *link) drop(conns ...net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range conns {
		delete(l.conns, c)
	}
}

// cutLook is how often a cut direction looks whether it is whole again.
const cutLook = 5 * time.Millisecond

// pump carries bytes one way. What was cut off arrives when the way is whole
// again, as TCP would deliver it; the end of a connection does too.
func (l *link) pump(dst, src net.Conn, of func() way) {
	defer dst.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := src.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if !l.pass(of) {
			return
		}
		if n > 0 {
			if _, werr := dst.Write(buf[:n]); werr != nil {
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
func (l *link) pass(of func() way) bool {
	slept := false
	for {
		l.mu.Lock()
		w, ended := of(), l.ended
		l.mu.Unlock()
		switch {
		case ended:
			return false
		case w.cut:
			time.Sleep(cutLook)
			continue
		case !slept && (w.delay > 0 || w.loss > 0):
			slept = true
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

// set changes both directions.
func (l *link) set(there, back func(*way)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if there != nil {
		there(&l.there)
	}
	if back != nil {
		back(&l.back)
	}
}

// heal makes it whole.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.there, l.back, l.refuse = way{}, way{}, false
}

// reset ends every connection without a goodbye.
func (l *link) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	}
}

func (l *link) close() {
	_ = l.ln.Close()
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	l.reset()
	l.wg.Wait()
}

// packets changes what happens to everything that from sends to to: on the
// connections that it dialed, and in the answers on those of the other.
func (b *bed) packets(from, to *node, change func(*way)) {
	b.links[from.name+">"+to.name].set(change, nil)
	b.links[to.name+">"+from.name].set(nil, change)
}

func cut(w *way) { w.cut = true }

// cutBetween cuts two coordinators off from each other.
func (b *bed) cutBetween(a, c *node) {
	b.packets(a, c, cut)
	b.packets(c, a, cut)
}

// isolate cuts one coordinator off from all others.
func (b *bed) isolate(n *node) {
	for _, o := range b.others(n) {
		b.cutBetween(n, o)
	}
}

// healLinks makes every way whole.
func (b *bed) healLinks() {
	for _, l := range b.links {
		l.heal()
	}
}
