package api

import (
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/board"
	"windlass/protocol"
)

const (
	// maxStreams bounds the event streams of one coordinator, at some 10 KiB each.
	maxStreams = 20_000
	// frameGap holds status frames to four a second for each job.
	frameGap = 250 * time.Millisecond
	// commentEvery keeps proxies and clients from taking silence for death.
	commentEvery = 15 * time.Second
)

// streamHeader begins a stream. The connection ends with it: nothing marks the
// end of its body.
const streamHeader = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store, no-transform\r\n" +
	"X-Accel-Buffering: no\r\nConnection: close\r\n" + protocol.HeaderRequestID + ": "

// stream is GET /v2/jobs/{id}/status/stream: server-sent events until the job
// has ended.
func (s *Server) stream(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	row, err := s.job(ctx, c.who.Org, c.args[0])
	if err != nil {
		return err
	}
	seen, known := c.lastEvent()
	now := s.deps.Board.Revision(row)
	if row.Status.Terminal() && known && seen.Compare(now) >= 0 {
		// Tells a browser's EventSource to stop: it has the terminal frame.
		c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
		return nil
	}
	if !s.openStream() {
		return unavailable("This coordinator serves as many event streams as it can")
	}
	f := &follower{s: s, job: row.ID}
	if known && seen.Compare(now) <= 0 {
		f.resume(row, seen)
	}
	id := c.id
	header := streamHeader + id + "\r\n\r\nretry: 2000\n\n"
	c.held = true
	s.metrics.observe(c.route, fasthttp.StatusOK, 0)
	c.takeOver(func(conn net.Conn) {
		started := s.enter(func() {
			defer s.closeStream()
			defer conn.Close()
			defer func() {
				if p := recover(); p != nil {
					_ = s.panicked(id, p) // it is logged; the stream just ends
				}
			}()
			f.run(conn, header)
		})
		if !started {
			s.closeStream()
			conn.Close()
		}
	})
	return nil
}

// lastEvent reads the id of the last event that the client has; false when it
// has none, or one that is not ours.
func (c *call) lastEvent() (board.Revision, bool) {
	id := c.header(protocol.HeaderLastEventID)
	if id == "" {
		id = c.query("lastEventId")
	}
	seen, err := board.ParseRevision(id)
	return seen, err == nil
}

func (s *Server) openStream() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing || s.streams == maxStreams {
		return false
	}
	s.streams++
	return true
}

func (s *Server) closeStream() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams--
}

// run writes events until the job has ended, the reader is too slow or gone, or
// the server stops.
func (f *follower) run(conn net.Conn, header string) {
	sub := f.s.deps.Board.Subscribe(f.job)
	defer sub.Close()
	if write(conn, []byte(header)) != nil {
		return
	}
	comment := time.NewTicker(commentEvery)
	defer comment.Stop()
	pace := time.NewTimer(0)
	defer pace.Stop()
	for {
		var out []byte
		select {
		case <-sub.C():
		case <-pace.C:
		case <-comment.C:
			out = protocol.AppendComment(out, "still here")
		case <-f.s.base.Done():
			return
		}
		out, wait, done := f.step(out, time.Now())
		if len(out) > 0 && write(conn, out) != nil || done {
			return
		}
		if wait > 0 {
			pace.Reset(wait)
		}
	}
}

// write sends one frame to a reader that has replyTime to take it.
func write(conn net.Conn, b []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	_, err := conn.Write(b)
	return err
}
