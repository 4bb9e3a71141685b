package shim

import (
	"errors"
	"os"
	"sync"
	"time"

	"windlass/protocol"
)

// Why a run has no result.
var (
	// ErrNotTaken means that the instance ended before it had the job.
	ErrNotTaken = errors.New("the instance ended before it took the job")
	// ErrDetached means that the run goes on without this agent.
	ErrDetached = errors.New("the agent let go of the run")
)

// Run is one invocation as the agent sees it.
type Run struct {
	// Record mirrors what the attempt told.
	Record *Record

	remote  *Remote
	id      string
	job     protocol.JobID
	changed chan struct{} // one token when the record changed
	done    chan struct{}

	mu       sync.Mutex
	numbers  []uint32 // attempt numbers, the newest last
	accepted bool
	reason   reason
	pause    bool    // asked to stop at a checkpoint
	first    message // repeated until accepted
	end      End
	over     bool
	onChange func(started bool)
}

// End is how a run ended. Without Err and Released the journal holds its result
// under Key.
type End struct {
	Key      Key
	Released bool // on drain: no result, the job goes back
	Crashed  bool // the instance must not be used again
	Err      error
}

func newRun(r *Remote, id string, k Key) *Run {
	return &Run{
		Record: &Record{}, remote: r, id: id, job: k.Job, numbers: []uint32{k.Attempt},
		changed: make(chan struct{}, 1), done: make(chan struct{}),
	}
}

// Key is the attempt under its present number.
func (r *Run) Key() Key {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.key()
}

func (r *Run) key() Key { return Key{Job: r.job, Attempt: r.numbers[len(r.numbers)-1]} }

// Watch calls f after every change of the record; f must not block.
func (r *Run) Watch(f func(started bool)) {
	r.mu.Lock()
	r.onChange = f
	r.mu.Unlock()
	f(false)
}

// Done is closed when the run ended.
func (r *Run) Done() <-chan struct{} { return r.done }

// End is valid once Done is closed.
func (r *Run) End() End {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.end
}

// Cancel asks the runtime to end the job; cause is one of the inference package's.
func (r *Run) Cancel(cause error) {
	r.mu.Lock()
	r.reason = reasonOf(cause)
	m := message{Type: msgCancel, Run: r.id, Reason: r.reason}
	r.mu.Unlock()
	r.remote.send(m)
}

// Pausable reports whether the runtime offers a checkpoint to pause at.
func (r *Run) Pausable() bool { return r.remote.Info().Checkpoint }

// Pause asks the runtime to stop the job at a checkpoint. It ends with such a
// result, or as it would have.
func (r *Run) Pause() {
	r.mu.Lock()
	first := !r.pause
	r.pause = true
	r.mu.Unlock()
	if first {
		r.remote.send(message{Type: msgPause, Run: r.id})
	}
}

// Renumber moves the run to a new attempt. A result that was written under the
// old number in the meantime keeps it: see End.Key.
func (r *Run) Renumber(attempt uint32) {
	r.mu.Lock()
	r.numbers = append(r.numbers, attempt)
	m := message{Type: msgRenumber, Run: r.id, Attempt: attempt}
	r.mu.Unlock()
	r.remote.send(m)
}

// resume is what a new connection must hear of this run. A run that the shim
// does not list, and has no result of, never reached it.
func (r *Run) resume(there bool) []message {
	r.mu.Lock()
	defer r.mu.Unlock()
	if there {
		r.accepted = true
	}
	var out []message
	if _, ended := r.written(); !r.accepted && r.first.Type != "" && !ended {
		out = append(out, r.first)
	}
	if len(r.numbers) > 1 {
		out = append(out, message{Type: msgRenumber, Run: r.id, Attempt: r.key().Attempt})
	}
	if r.pause {
		out = append(out, message{Type: msgPause, Run: r.id})
	}
	if r.reason != "" {
		out = append(out, message{Type: msgCancel, Run: r.id, Reason: r.reason})
	}
	return out
}

// written finds the run's result in the journal, under any of its numbers.
func (r *Run) written() (Key, bool) {
	for _, n := range r.numbers {
		k := Key{Job: r.job, Attempt: n}
		if _, err := os.Stat(EntryPath(r.remote.spec.Journal, k)); err == nil {
			return k, true
		}
	}
	return r.key(), false
}

func (r *Run) update(u protocol.AttemptUpdate) {
	r.mu.Lock()
	r.accepted = true
	f := r.onChange
	r.mu.Unlock()
	began := r.Record.Merge(u, time.Now())
	select {
	case r.changed <- struct{}{}:
	default:
	}
	if f != nil {
		f(began)
	}
}

func (r *Run) finish(end End) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over {
		return
	}
	r.over, r.end = true, end
	close(r.done)
}

// settle ends a run whose shim is gone: with its result if that was written,
// else with err.
func (r *Run) settle(err error) {
	r.mu.Lock()
	k, written := r.written()
	accepted := r.accepted
	r.mu.Unlock()
	switch {
	case errors.Is(err, ErrDetached):
	case written:
		err = nil
	case !accepted:
		err = ErrNotTaken
	}
	r.finish(End{Key: k, Err: err, Crashed: err != nil})
}
