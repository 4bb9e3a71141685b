package api

import (
	"context"
	"errors"
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

// stream is one reader's event stream. Its events are of this node while it
// leads or the job has ended, and the leader's otherwise; when leadership moves,
// the stream goes on from the next leader, behind the last id that was sent.
type stream struct {
	s    *Server
	conn net.Conn
	job  protocol.JobID
	id   string         // of the request
	key  protocol.KeyID // of the caller
	base string         // of URLs, without /v2
	rate string         // header lines
	head []byte         // of the request to a leader
	seen board.Revision // of the newest id that the reader has
}

// streamJob is GET /v2/jobs/{id}/status/stream: server-sent events until the job
// has ended.
func (s *Server) streamJob(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	st := &stream{s: s, id: c.id, key: c.who.Key, base: c.baseURL()}
	for _, h := range c.label {
		st.rate += "\r\n" + h[0] + ": " + h[1]
	}
	st.seen, _ = c.lastEvent()
	row, err := c.job(ctx)
	var src *source
	if errors.Is(err, errElsewhere) && !c.relayed {
		// Whether there is such a job is known before the stream begins.
		st.head = c.outgoing(streamPath(c.args[0])).head
		var r reply
		if src, r, err = st.begin(ctx, false); err == nil && src == nil {
			c.write(r)
			return nil
		}
	}
	switch {
	case errors.Is(err, errHere):
		return unavailable("This coordinator has just become the leader")
	case err != nil:
		return err
	case row != nil:
		st.job = row.ID
	default:
		st.job, _ = protocol.ParseJobID(c.args[0]) // the leader knows it
	}
	if row != nil && row.Status.Terminal() && st.seen.Compare(s.deps.Board.Revision(row)) >= 0 {
		// Tells a browser's EventSource to stop: it has the terminal frame.
		c.ctx.Response.SetStatusCode(fasthttp.StatusNoContent)
		return nil
	}
	if !s.openStream() {
		st.drop(src)
		return unavailable("This coordinator serves as many event streams as it can")
	}
	if st.head == nil {
		st.head = c.outgoing(streamPath(c.args[0])).head
	}
	c.held = true
	s.metrics.observe(c.route, fasthttp.StatusOK, 0)
	c.takeOver(func(conn net.Conn) {
		st.conn = conn
		started := s.enter(func() {
			defer s.closeStream()
			defer s.conns.close(conn)
			defer func() {
				if p := recover(); p != nil {
					_ = s.panicked(st.id, p) // it is logged; the stream just ends
				}
			}()
			st.run(src)
		})
		if !started {
			st.drop(src)
			s.closeStream()
			s.conns.close(conn)
		}
	})
	return nil
}

func streamPath(job string) string { return "/v2/jobs/" + job + "/status/stream" }

// drop closes a leader's stream that nobody will read.
func (st *stream) drop(src *source) {
	if src != nil {
		st.s.lines.put(src.line, false)
	}
}

// run writes events until the job has ended, the reader is too slow or gone, no
// leader is found, or the server stops. src is a leader's stream that is open.
func (st *stream) run(src *source) {
	if write(st.conn, []byte(streamHeader+st.id+st.rate+"\r\n\r\nretry: 2000\n\n")) != nil {
		st.drop(src)
		return
	}
	for st.s.base.Err() == nil {
		if src == nil {
			if !st.here() {
				return
			}
		} else if !st.pass(src) {
			return
		}
		ctx, cancel := context.WithTimeout(st.s.base, relayTime)
		var err error
		src, _, err = st.begin(ctx, true)
		if errors.Is(err, errHere) {
			err = st.s.barrier(ctx)
		} else if err == nil && src == nil {
			err = errEnded
		}
		cancel()
		if err != nil {
			return // the reader comes back by itself, with the last id
		}
	}
}

// errEnded says that the leader has nothing more to stream: the job has ended,
// and the reader has its last frame.
var errEnded = errors.New("the stream has ended")

// here writes the events that this node knows; lost means that it is not the
// leader any more.
func (st *stream) here() (lost bool) {
	row, err := st.s.find(st.s.base, st.s.deps.Store.View(), st.job)
	if row == nil || err != nil {
		return false
	}
	f := &follower{s: st.s, job: row.ID, base: st.base, key: st.key}
	if !st.seen.IsZero() && st.seen.Compare(st.s.deps.Board.Revision(row)) <= 0 {
		f.resume(row, st.seen)
	}
	lost = f.run(st.conn)
	if !f.last.IsZero() {
		st.seen = f.last
	}
	return lost
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
// the server stops; lost means that this node does not lead any more.
func (f *follower) run(conn net.Conn) (lost bool) {
	sub := f.s.deps.Board.Subscribe(f.job)
	defer sub.Close()
	comment := time.NewTicker(commentEvery)
	defer comment.Stop()
	pace := time.NewTimer(0)
	defer pace.Stop()
	lead, leads := f.s.deps.Cluster.Leads()
	for {
		var out []byte
		select {
		case <-sub.C():
		case <-pace.C:
		case <-comment.C:
			out = protocol.AppendComment(out, "still here")
		case <-lead.Lost:
			return true
		case <-f.s.base.Done():
			return false
		}
		if row := f.s.deps.Store.Job(f.job); !leads && row != nil && !ended(row) {
			return true // it ran again before this began
		}
		if !f.s.opens(f.key) {
			return false // it was revoked meanwhile, or its time is over
		}
		out, wait, done := f.step(out, time.Now())
		if len(out) > 0 && write(conn, out) != nil || done {
			return false
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
