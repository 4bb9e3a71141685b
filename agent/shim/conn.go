package shim

import (
	"net"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// writeLimit is how long an agent may leave its socket full; it gets everything
// again when it connects anew.
const writeLimit = 30 * time.Second

// conn is one connected agent. Nothing is queued for it: it has cursors into
// the state of the server, so a slow agent costs no memory and a new one sees
// all from the start.
type conn struct {
	nc    net.Conn
	wakes chan struct{}
	done  chan struct{} // closed when the reader ended

	// Only the writer uses the rest.
	hello   bool
	events  int
	ready   bool
	retired bool
	cursors map[string]Cursor
	results map[string]bool
}

func (c *conn) poke() {
	select {
	case c.wakes <- struct{}{}:
	default:
	}
}

// accept serves connections until the listener closes, then ends them.
func (s *server) accept(ln net.Listener) {
	for {
		nc, err := ln.Accept()
		if err != nil {
			break
		}
		c := &conn{
			nc: nc, wakes: make(chan struct{}, 1), done: make(chan struct{}),
			cursors: make(map[string]Cursor), results: make(map[string]bool),
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.alone = time.Time{}
		s.mu.Unlock()
		c.poke()
		go s.read(c)
		go s.write(c)
	}
}

// read obeys one agent until its connection ends.
func (s *server) read(c *conn) {
	defer close(c.done)
	r := newReader(c.nc)
	for {
		m, err := r.next()
		if err != nil {
			return
		}
		switch m.Type {
		case msgInvoke:
			s.invoke(m)
		case msgCancel:
			s.cancelRun(m.Run, m.Reason)
		case msgPause:
			s.pauseRun(m.Run)
		case msgRenumber:
			s.renumber(m.Run, m.Attempt)
		case msgStop:
			s.requestStop(max(time.Duration(m.GraceMs)*time.Millisecond, 1))
		default: // of a newer agent
		}
	}
}

func (s *server) cancelRun(id string, why reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[id]; r != nil {
		r.cancel(why.cause())
	}
}

// pauseRun asks a job to stop at a checkpoint; the instance may take its time.
func (s *server) pauseRun(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.runs[id]
	if p, ok := s.inst.(inference.Pauser); ok && r != nil && !r.ended && s.info.Checkpoint {
		job := r.job.ID
		s.wg.Go(func() { p.Pause(job) })
	}
}

func (s *server) renumber(id string, attempt uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.runs[id]; r != nil && !r.ended {
		r.job.Attempt = attempt
	}
}

// write sends until the connection ends.
func (s *server) write(c *conn) {
	defer func() {
		_ = c.nc.Close()
		<-c.done
		s.mu.Lock()
		delete(s.conns, c)
		if len(s.conns) == 0 {
			s.alone = time.Now()
		}
		s.mu.Unlock()
	}()
	for {
		select {
		case <-c.done:
			return
		case <-c.wakes:
		}
		for {
			batch, last := s.collect(c)
			if len(batch) == 0 {
				break
			}
			if !c.send(batch) {
				return
			}
			if last {
				s.tellEnd()
				return
			}
			s.sent(batch)
		}
	}
}

func (c *conn) send(batch []message) bool {
	var buf []byte
	for _, m := range batch {
		b, err := encode(m)
		if err != nil {
			return false
		}
		buf = append(buf, b...)
	}
	if err := c.nc.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return false
	}
	_, err := c.nc.Write(buf)
	return err == nil
}

// collect returns what the connection has not seen; last says that nothing
// follows.
func (s *server) collect(c *conn) (batch []message, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.hello {
		c.hello = true
		m := message{Type: msgHello, Version: Version}
		for _, r := range s.runs {
			if id, err := protocol.ParseJobID(r.job.ID); err == nil {
				m.Runs = append(m.Runs, runningJob{Run: r.id, Job: id, Attempt: r.job.Attempt})
			}
		}
		batch = append(batch, m)
	}
	for ; c.events < len(s.events); c.events++ {
		batch = append(batch, message{Type: msgEvent, Event: &s.events[c.events]})
	}
	// Told before the result that frees its slot, so that the agent's pool never
	// sees a free slot of a retired instance.
	if s.retired && !c.retired {
		c.retired = true
		batch = append(batch, message{Type: msgRetired})
	}
	if s.inst != nil && !c.ready {
		c.ready = true
		info := s.info
		batch = append(batch, message{Type: msgReady, Info: &info, PIDs: s.pids})
	}
	now := time.Now()
	for _, r := range s.runs {
		batch = s.collectRun(c, r, batch, now)
	}
	if len(batch) == 0 && s.ended != nil {
		return []message{*s.ended}, true
	}
	return batch, false
}

func (s *server) collectRun(c *conn, r *shimRun, batch []message, now time.Time) []message {
	u, cur, ok := r.record.Since(c.cursors[r.id], maxUpdate, now)
	if ok {
		c.cursors[r.id] = cur
		return append(batch, message{Type: msgUpdate, Run: r.id, Update: &u})
	}
	if r.ended && !c.results[r.id] {
		c.results[r.id] = true
		return append(batch, message{
			Type: msgResult, Run: r.id, Attempt: r.job.Attempt, Released: r.released, Crashed: r.crashed,
		})
	}
	return batch
}

// sent forgets the runs whose result an agent was told: from here on the
// journal alone has it.
func (s *server) sent(batch []message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range batch {
		if m.Type == msgResult {
			delete(s.runs, m.Run)
		}
	}
}

// tellEnd notes that an agent has the last message.
func (s *server) tellEnd() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
}

// part sends the last message and waits until the agents have it. One that has
// not connected yet, because the runtime ended as soon as it was started, gets
// it too: nobody else knows why that was.
func (s *server) part(f *inference.Failure) {
	s.mu.Lock()
	s.ended = &message{Type: msgExit, Failure: f}
	s.mu.Unlock()
	s.wake()
	for deadline := time.Now().Add(partGrace); !s.parted(deadline); {
		time.Sleep(sweepPause)
	}
}

// parted reports whether nobody waits for the last message any more.
func (s *server) parted(deadline time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if len(s.conns) == 0 {
		return s.told || now.Sub(s.alone) >= partGrace
	}
	if now.Before(deadline) {
		return false
	}
	for c := range s.conns {
		_ = c.nc.Close()
	}
	return true
}
