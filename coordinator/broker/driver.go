package broker

import (
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// Driver is one leadership that a single-threaded caller steps by hand, in a
// time of its own: the same term that Run serves, without its goroutines and its
// timer. Equal calls lead to equal answers and proposals, so that a history can
// be replayed. It is not safe for concurrent use.
type Driver struct{ term *term }

// Outside is what a driven leadership takes from its caller instead of from the
// machine.
type Outside struct {
	Now  func() int64        // monotonic milliseconds
	Draw func(n int64) int64 // uniform in [0, n)
}

// Pending is one call whose answer may have to wait for something. Asked for
// it, it says whether the answer is there; then it must not be asked again.
type Pending[T any] func() (answer T, there bool, err error)

// Drive builds the queue from the store, as a new leader does.
func Drive(cfg Config, o Outside) (*Driver, error) {
	t := newTerm(cfg, o.Now, o.Draw)
	if err := t.build(); err != nil {
		return nil, err
	}
	t.feed()
	return &Driver{term: t}, nil
}

// Feed takes in what was applied, as Run does after each batch. An error means
// what it means to Run: a snapshot replaced the state, build again.
func (d *Driver) Feed() error {
	d.term.feed()
	_, _, err := d.term.peekErr()
	return err
}

// Alarm is when Ring has something to do, by Outside.Now.
func (d *Driver) Alarm() int64 { return d.term.armedAt }

// Ring does what has become due.
func (d *Driver) Ring() { d.term.ring() }

// Woken reports whether a parked sync was answered since it was asked last.
// Otherwise asking them finds only those whose hold is over.
func (d *Driver) Woken() bool {
	woken := d.term.woken
	d.term.woken = false
	return woken
}

// End ends the leadership: every call that waits is answered with NO_LEADER.
func (d *Driver) End() { d.term.end() }

// Stats is Broker.Stats.
func (d *Driver) Stats() Stats { return d.term.stats() }

// Explain is Broker.Explain.
func (d *Driver) Explain(job *state.Job) protocol.Explain { return d.term.explain(job) }

// Write is Broker.Write.
func (d *Driver) Write(c *command.Command) Pending[command.Result] {
	wait := d.term.beginWrite(c)
	return func() (command.Result, bool, error) {
		results, there, err := d.term.poll(wait)
		if !there || err != nil {
			return command.Result{}, there, err
		}
		return results[0], true, nil
	}
}

// Register is Broker.Register.
func (d *Driver) Register(req protocol.RegisterRequest) Pending[protocol.RegisterResponse] {
	r, wait, err := d.term.beginRegister(&req)
	return func() (protocol.RegisterResponse, bool, error) {
		if err != nil {
			return protocol.RegisterResponse{}, true, err
		}
		for wait != nil {
			results, there, e := d.term.poll(wait)
			if !there {
				return protocol.RegisterResponse{}, false, nil
			}
			if e == nil {
				wait, e = r.next(results)
			}
			if e != nil {
				r.end()
				return protocol.RegisterResponse{}, true, e
			}
		}
		r.end()
		return r.response(), true, nil
	}
}

// Sync is Broker.Sync. Its caller leaves by calling gone, and then never asks again.
func (d *Driver) Sync(req protocol.SyncRequest) (ask Pending[protocol.SyncResponse], gone func()) {
	s := d.term.sync(&req)
	ask = func() (protocol.SyncResponse, bool, error) {
		r, there := s.poll()
		if !there {
			return protocol.SyncResponse{}, false, nil
		}
		resp, err := s.response(r)
		return resp, true, err
	}
	gone = func() {
		if s.waiter != nil {
			d.term.leave(s.waiter)
		}
	}
	return ask, gone
}

// poll is park without waiting.
func (s *answering) poll() (reply, bool) {
	if s.waiter == nil {
		return s.reply, true
	}
	t := s.term
	switch {
	case len(s.waiter.ch) > 0:
		return *<-s.waiter.ch, true
	case t.over():
		return reply{err: errNoLeader()}, true
	case t.now()-s.start < s.hold.Milliseconds():
		return reply{}, false
	}
	t.leave(s.waiter)
	if len(s.waiter.ch) > 0 {
		return *<-s.waiter.ch, true
	}
	return reply{stops: s.waiter.stops}, true
}

// Report is Broker.Report.
func (d *Driver) Report(req protocol.ReportRequest) Pending[protocol.ReportResponse] {
	rc, resp, err := d.term.beginReport(&req)
	return func() (protocol.ReportResponse, bool, error) {
		var results []command.Result
		if err == nil && rc.ch != nil {
			var there bool
			if results, there, err = d.term.poll(rc.ch); !there {
				return protocol.ReportResponse{}, false, nil
			}
		}
		if err != nil {
			return protocol.ReportResponse{}, true, err
		}
		d.term.completeReport(rc, &resp, results)
		return resp, true, nil
	}
}

// poll is wait without waiting.
func (t *term) poll(wait <-chan answer) (results []command.Result, there bool, err error) {
	select {
	case a := <-wait:
		return a.results, true, a.err
	default:
	}
	if t.over() {
		return nil, true, errTermOver()
	}
	return nil, false, nil
}

// over reports whether the term has ended.
func (t *term) over() bool {
	select {
	case <-t.ended:
		return true
	default:
		return false
	}
}
