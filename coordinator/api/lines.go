package api

import (
	"bufio"
	"context"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

const (
	// linesPeriod is how soon it is noticed that the leader is another one: what
	// waits for an answer of the one before asks again.
	linesPeriod = 100 * time.Millisecond
	// lineIdle is how long an unused connection is kept: less than the leader
	// keeps it, so that it is this side that closes.
	lineIdle = idleTime / 2
	// maxIdleLines is how many are kept; more come and go with their requests.
	maxIdleLines = 256
	// dialTime bounds a connection to the leader: one round trip and TLS.
	dialTime = 2 * time.Second
)

// lines are this node's connections to the leader's API.
type lines struct {
	s       *Server
	readers sync.Pool // of *bufio.Reader

	mu   sync.Mutex
	over bool    // the server stops
	idle []*line // the newest last
	busy map[*line]struct{}
}

// line is one of them. It belongs to one request at a time.
type line struct {
	net.Conn
	to    string // the leader's address
	since time.Time
	used  bool
	first [1]byte
}

func newLines(s *Server) *lines {
	l := &lines{s: s, busy: make(map[*line]struct{})}
	l.readers.New = func() any { return bufio.NewReaderSize(nil, prefetch) }
	return l
}

// run closes what leads nowhere any more, until ctx ends.
func (l *lines) run(ctx context.Context) {
	tick := time.NewTicker(linesPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			l.sweep()
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.over = true
	for _, ln := range l.idle {
		ln.Close()
	}
	l.idle = nil
	for ln := range l.busy {
		ln.Close()
	}
}

func (l *lines) sweep() {
	l.mu.Lock()
	waiting := len(l.idle)+len(l.busy) > 0
	l.mu.Unlock()
	if !waiting {
		return
	}
	leader, known := l.s.deps.Cluster.Leader()
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	kept := l.idle[:0]
	for _, ln := range l.idle {
		if known && ln.to != leader || now.Sub(ln.since) > lineIdle {
			ln.Close()
		} else {
			kept = append(kept, ln)
		}
	}
	clear(l.idle[len(kept):])
	l.idle = kept
	for ln := range l.busy {
		if known && ln.to != leader {
			ln.Close() // its reader finds out and asks the new one
		}
	}
}

// take returns a connection; fresh asks for a new one.
func (l *lines) take(ctx context.Context, leader Leader, fresh bool) (*line, error) {
	l.mu.Lock()
	for i := len(l.idle) - 1; i >= 0 && !fresh; i-- {
		if ln := l.idle[i]; ln.to == leader.Address {
			l.idle = append(l.idle[:i], l.idle[i+1:]...)
			l.busy[ln] = struct{}{}
			l.mu.Unlock()
			return ln, nil
		}
	}
	l.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	conn, err := l.dial(ctx, leader)
	if err != nil {
		return nil, err
	}
	ln := &line{Conn: conn, to: leader.Address}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over { // nobody would close it
		ln.Close()
		return nil, net.ErrClosed
	}
	l.busy[ln] = struct{}{}
	return ln, nil
}

// dial connects to the leader. This node may have become it: then it answers
// itself, over a pipe.
func (l *lines) dial(ctx context.Context, leader Leader) (net.Conn, error) {
	if !leader.Here {
		return l.s.deps.Cluster.Dial(ctx, leader)
	}
	near, far := net.Pipe()
	if !l.s.enter(func() { l.s.handBack(relaying{far}) }) {
		return nil, net.ErrClosed
	}
	return near, nil
}

// put gives a connection back, or closes it.
func (l *lines) put(ln *line, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.busy, ln)
	if !again || len(l.idle) == maxIdleLines || l.s.base.Err() != nil {
		ln.Close()
		return
	}
	ln.used, ln.since = true, time.Now()
	l.idle = append(l.idle, ln)
}

// exchange sends one request and reads its answer. sent says that it may have
// arrived. A connection that broke while nobody used it is replaced.
func (l *lines) exchange(ctx context.Context, leader Leader, out *outgoing, waited time.Duration) (r reply, sent bool, err error) {
	for fresh := false; ; fresh = true {
		ln, err := l.take(ctx, leader, fresh)
		if err != nil {
			return reply{}, false, err
		}
		silent, again, err := l.use(ctx, ln, out, waited, &r)
		l.put(ln, again)
		if err == nil {
			return r, true, nil
		}
		if !silent || !ln.used || ctx.Err() != nil {
			return reply{}, true, err
		}
	}
}

// use runs one request over a connection. silent says that not a byte came back,
// again that the connection may be used again.
func (l *lines) use(ctx context.Context, ln *line, out *outgoing, waited time.Duration, r *reply) (silent, again bool, err error) {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	if err := ln.send(out, waited); err != nil {
		return true, false, err
	}
	// The wait for the first byte may be long, and needs no buffer.
	if _, err := ln.Read(ln.first[:]); err != nil {
		return true, false, err
	}
	br := l.readers.Get().(*bufio.Reader)
	defer l.readers.Put(br)
	br.Reset(&prefixed{Conn: ln.Conn, rest: ln.first[:]})
	resp := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(resp)
	if err := resp.ReadLimitBody(br, maxRelayed); err != nil {
		return false, false, err
	}
	*r = received(resp)
	return false, stop() && !resp.ConnectionClose() && br.Buffered() == 0, nil
}

// send writes the request in one piece.
func (ln *line) send(out *outgoing, waited time.Duration) error {
	b := make([]byte, 0, len(out.head)+len(protocol.HeaderRelay)+len(out.body)+firstLine)
	b = append(b, out.head...)
	b = append(append(b, protocol.HeaderRelay...), ": "...)
	b = append(strconv.AppendInt(b, waited.Milliseconds(), 10), "\r\n\r\n"...)
	b = append(b, out.body...)
	if err := ln.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	_, err := ln.Write(b)
	return err
}

// received copies an answer out of the library's memory.
func received(resp *fasthttp.Response) reply {
	r := reply{status: resp.StatusCode(), body: append([]byte(nil), resp.Body()...), kind: string(resp.Header.ContentType())}
	for _, name := range answerHeaders() {
		if v := resp.Header.Peek(name); len(v) > 0 {
			r.header = append(r.header, [2]string{name, string(v)})
		}
	}
	return r
}
