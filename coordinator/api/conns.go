package api

import (
	"net"
	"sync"

	"github.com/valyala/fasthttp"
)

// conns are the connections that were accepted, until they are closed, also
// while they are not the library's. Its own shutdown closes those that wait for
// a further request, and waits for all others as long as their peers like.
type conns struct {
	mu     sync.Mutex
	quiet  bool              // those that have sent no request yet are closed
	closed bool              // all are
	open   map[net.Conn]bool // whether it has sent a request
}

// note is the library's: it is told when a connection begins, takes a request
// up, leaves the library and ends.
func (c *conns) note(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		c.add(conn, false)
	case fasthttp.StateClosed:
		c.drop(conn)
	}
}

// add begins to know a connection.
func (c *conns) add(conn net.Conn, spoke bool) {
	conn = origin(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.quiet && !spoke {
		sever(conn)
		return
	}
	if c.open == nil {
		c.open = make(map[net.Conn]bool)
	}
	c.open[conn] = spoke
}

// spoke notes that a connection has sent its first request. Clients open some in
// advance and do not.
func (c *conns) spoke(conn net.Conn) {
	conn = origin(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, known := c.open[conn]; known {
		c.open[conn] = true
	}
}

// close closes a connection that is not the library's any more.
func (c *conns) close(conn net.Conn) {
	_ = conn.Close() // its peer sees it or is gone
	c.drop(conn)
}

func (c *conns) drop(conn net.Conn) {
	conn = origin(conn)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

// closeQuiet closes those that have sent no request, and those that still come.
func (c *conns) closeQuiet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.quiet = true
	for conn, spoke := range c.open {
		if !spoke {
			sever(conn)
		}
	}
}

// closeAll closes all, in the middle of whatever they do; it returns how many.
func (c *conns) closeAll() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		sever(conn)
	}
	return len(c.open)
}

// sever closes a connection without a word: TLS would wait for room to say
// goodbye in.
func sever(conn net.Conn) {
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		conn = t.NetConn()
	}
	_ = conn.Close()
}

// origin is the connection as it was accepted.
func origin(conn net.Conn) net.Conn {
	for {
		switch c := conn.(type) {
		case *handed:
			conn = c.Conn
		case *prefixed:
			conn = c.Conn
		default:
			return conn
		}
	}
}
