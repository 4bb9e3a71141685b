package api

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// A held request is one that waits for something to happen: an agent's sync, a
// status with wait=. While it waits it must cost little, because there are tens
// of thousands. fasthttp keeps a read buffer and a request for every handler
// that has not returned, so a request that is not answered soon leaves its
// handler: the connection is taken over ("hijacked"), everything of the library
// goes back to its pools, and one small goroutine with the connection remains.
// After the answer the connection goes back to the library.

const (
	// holdAfter is how long a request waits in its handler. Under load a sync is
	// answered within it and costs nothing extra.
	holdAfter = 100 * time.Millisecond
	// maxWaiting is how many requests may wait in their handlers at a time; more,
	// as when all agents come back at once, leave at once, so that the memory of
	// the library follows this number and not that of the agents.
	maxWaiting = 256
	// maxHeld bounds the requests that left their handlers, because the library
	// counts only the connections that it serves itself.
	maxHeld = maxConns
	// replyTime bounds the sending of one answer or frame to a slow reader; one
	// that is streamed gets more by its size, at slowestReader bytes a second.
	replyTime     = 10 * time.Second
	slowestReader = 256 << 10
	// handOver bounds the time between leaving the handler and getting the
	// connection; it passes only when the connection broke in between.
	handOver = 3 * time.Second
	// lingerTime and lingerBytes bound how long an over-long body is read and
	// thrown away, so that the client sees the answer and not a reset.
	lingerTime  = 2 * time.Second
	lingerBytes = 64 << 20
)

// held is the meeting point of a waiting goroutine and its connection.
type held struct {
	left   atomic.Bool   // true once either side has decided how to answer
	gone   atomic.Bool   // nobody takes the connection any more
	answer chan reply    // from the goroutine to the handler
	conn   chan net.Conn // from the library to the goroutine; capacity 1
}

// give hands the connection to the goroutine.
func (h *held) give(s *Server, conn net.Conn) {
	h.conn <- conn
	if h.gone.Load() {
		h.abandon(s)
	}
}

// abandon closes the connection, now or when it comes.
func (h *held) abandon(s *Server) {
	h.gone.Store(true)
	select {
	case conn := <-h.conn:
		s.conns.close(conn)
	default:
	}
}

// hold runs fn, which may wait long, and answers with what it returns. fn runs
// beside the handler and must not touch the request. Its context ends with the
// server.
func (c *call) hold(fn func(ctx context.Context) reply) error {
	h := &held{answer: make(chan reply, 1), conn: make(chan net.Conn, 1)}
	// What the goroutine keeps must be as little as possible: not the call.
	label := c.label
	c.label = nil // the answer has it
	s, id, route, last, start := c.s, c.id, c.route, c.ctx.Request.Header.ConnectionClose() || c.unread(), time.Now()
	if s.held.Add(1) > maxHeld {
		s.held.Add(-1)
		return unavailable("This coordinator holds as many waiting requests as it can")
	}
	c.held = true
	started := s.enter(func() {
		r := s.guardHeld(route.operation, id, fn)
		r.header = append(r.header, label...)
		s.held.Add(-1)
		s.metrics.observe(route, r.status, time.Since(start))
		if h.left.CompareAndSwap(false, true) {
			h.answer <- r
			return
		}
		s.finish(h, r, id, last)
	})
	if !started {
		s.held.Add(-1)
		c.held = false
		return unavailable("This coordinator is shutting down")
	}
	patience := holdAfter
	if s.waiting.Add(1) > maxWaiting {
		patience = 0
	}
	defer s.waiting.Add(-1)
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case r := <-h.answer:
		c.write(r)
		c.close = last
	case <-timer.C:
		if !h.left.CompareAndSwap(false, true) {
			c.write(<-h.answer)
			c.close = last
			return nil
		}
		c.takeOver(func(conn net.Conn) { h.give(s, conn) })
	}
	return nil
}

// guardHeld runs fn and turns a panic into an answer.
func (s *Server) guardHeld(operation, id string, fn func(context.Context) reply) (r reply) {
	defer func() {
		if p := recover(); p != nil {
			r = s.errorReply(operation, id, s.panicked(id, p))
		}
	}()
	return fn(s.base)
}

// finish answers a request that left its handler and serves the connection's
// next ones.
func (s *Server) finish(h *held, r reply, id string, last bool) {
	timer := time.NewTimer(handOver)
	defer timer.Stop()
	select {
	case conn := <-h.conn:
		last = last || s.base.Err() != nil
		if err := send(conn, r, id, last); err != nil || last {
			s.conns.close(conn)
			return
		}
		s.handBack(conn)
	case <-timer.C:
		h.abandon(s)
		r.drop()
	}
}

// send writes one answer to a connection that is not the library's any more.
func send(conn net.Conn, r reply, id string, last bool) error {
	resp := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(resp)
	resp.Header.SetNoDefaultContentType(true)
	r.fill(resp, id)
	if last {
		resp.SetConnectionClose()
	}
	patience := replyTime + time.Duration(r.size/slowestReader)*time.Second
	if err := conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		r.drop()
		return err
	}
	w := bufio.NewWriterSize(conn, min(len(r.body)+firstLine, firstRead))
	if err := resp.Write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// firstLine is room for the status line and the few header lines of an answer.
const firstLine = 512

// takeOver ends the library's part in a request without an answer; fn gets the
// connection soon after the handler returned.
func (c *call) takeOver(fn func(conn net.Conn)) {
	c.ctx.HijackSetNoResponse(true)
	c.ctx.Hijack(func(hijacked net.Conn) { fn(own(hijacked)) })
}

// own returns the plain connection behind a hijacked one, without the library's
// buffers. Bytes that those hold already come first.
func own(hijacked net.Conn) net.Conn {
	plain := hijacked
	if u, ok := hijacked.(interface{ UnsafeConn() net.Conn }); ok {
		plain = u.UnsafeConn()
	}
	if h, ok := plain.(*handed); ok {
		plain = h.Conn
	}
	if p, ok := plain.(*prefixed); ok && len(p.rest) == 0 {
		plain = p.Conn
	}
	// A deadline in the past lets a read return what is buffered and nothing else.
	_ = plain.SetReadDeadline(time.Unix(1, 0))
	var rest []byte
	buf := make([]byte, 512)
	for len(rest) < headerBuffer {
		n, err := hijacked.Read(buf)
		rest = append(rest, buf[:n]...)
		if err != nil {
			break
		}
	}
	_ = plain.SetReadDeadline(time.Time{})
	if len(rest) == 0 {
		return plain
	}
	return &prefixed{Conn: plain, rest: rest}
}

// prefixed reads some bytes before those of its connection.
type prefixed struct {
	net.Conn
	rest []byte
}

func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.rest) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

// linger answers a request whose body was not read: it sends the answer, then
// reads on for a moment before it closes.
func (c *call) linger() {
	resp := &c.ctx.Response
	r := reply{status: resp.StatusCode(), body: append([]byte(nil), resp.Body()...), kind: string(resp.Header.ContentType())}
	for _, name := range []string{fasthttp.HeaderRetryAfter, fasthttp.HeaderAllow, fasthttp.HeaderWWWAuthenticate, protocol.HeaderRate, protocol.HeaderRatePolicy} {
		if v := resp.Header.Peek(name); len(v) > 0 {
			r.header = append(r.header, [2]string{name, string(v)})
		}
	}
	s, id := c.s, c.id
	c.takeOver(func(conn net.Conn) {
		drain := func() {
			defer s.conns.close(conn)
			if err := send(conn, r, id, true); err != nil {
				return
			}
			if half, ok := conn.(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
			_ = conn.SetReadDeadline(time.Now().Add(lingerTime))
			_, _ = io.CopyN(io.Discard, conn, lingerBytes)
		}
		if !s.enter(drain) {
			s.conns.close(conn)
		}
	})
}
