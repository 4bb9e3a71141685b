package api

import (
	"net"
	"sync"
	"time"
)

// handed is a connection that went back to the library after a held request.
// The library's own shutdown does not know of it and would wait for its peer's
// next request.
type handed struct {
	net.Conn

	mu    sync.Mutex
	ended bool
}

// end lets a read of the next request fail, now and later. A request that is
// being answered is not cut.
func (h *handed) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	_ = h.Conn.SetReadDeadline(time.Unix(1, 0))
}

// SetReadDeadline is the library's: it must not undo end.
func (h *handed) SetReadDeadline(t time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended {
		return nil
	}
	return h.Conn.SetReadDeadline(t)
}

// SetDeadline sets both.
func (h *handed) SetDeadline(t time.Time) error {
	if err := h.SetReadDeadline(t); err != nil {
		return err
	}
	return h.SetWriteDeadline(t)
}

// handBack serves the next requests of a connection that had left the library,
// until it is closed or leaves again. Each time the library gets it as another
// one: while it cleans up after the request that left, by the connection's
// identity, the next may have begun.
func (s *Server) handBack(conn net.Conn) {
	h := &handed{Conn: conn}
	s.mu.Lock()
	closing := s.closing
	if !closing {
		s.handed[h] = struct{}{}
	}
	s.mu.Unlock()
	if closing {
		s.conns.close(conn)
		return
	}
	// Its errors are the peer's; the library has logged them.
	_ = s.fast.ServeConn(h)
	s.mu.Lock()
	delete(s.handed, h)
	s.mu.Unlock()
}
