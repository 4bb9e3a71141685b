package api

import (
	"net"
	"sync"

	"github.com/valyala/fasthttp"
)

// silent are the connections that have sent no request yet. Clients open some in
// advance, and the library's own shutdown waits for them as long as for a
// request.
type silent struct {
	mu    sync.Mutex
	over  bool
	conns map[net.Conn]struct{}
}

// note is told when a connection begins, takes a request up, and ends.
func (s *silent) note(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateActive, fasthttp.StateIdle:
		return // the library says so before it has read anything
	case fasthttp.StateNew:
	default:
		s.spoke(conn)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		conn.Close()
		return
	}
	if s.conns == nil {
		s.conns = make(map[net.Conn]struct{})
	}
	s.conns[conn] = struct{}{}
}

// spoke takes a connection out: it has sent its first request.
func (s *silent) spoke(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// end closes them, and those that still come.
func (s *silent) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	for conn := range s.conns {
		conn.Close()
	}
}
