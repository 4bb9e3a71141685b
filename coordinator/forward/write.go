package forward

import (
	"context"

	"google.golang.org/protobuf/proto"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

const (
	// maxCalls is how many calls carry writes at a time: two fill the log's own
	// pipeline of two entries, two more are on their way there and back. What
	// comes meanwhile shares the next one, so that calls grow with the load.
	maxCalls = 4

	// maxCommands and maxBytes close a call. They are those of a log entry.
	maxCommands = 512
	maxBytes    = 1 << 20
)

// write is one command on its way to a leader.
type write struct {
	to   peer.Address
	cmd  *command.Command
	size int
	done chan answer // holds one
}

// answer is what became of a write at a leader.
type answer struct {
	result command.Result
	err    error
}

// Write puts a command into the log through whoever leads, and returns when it
// is committed. It is tried again, as it is, when leadership moves: every command
// has its ids and is a compare-and-set. Errors: *protocol.Error NO_LEADER with
// details.outcome "none", which certainly did not happen; others and the
// context's may have.
func (f *Forwarder) Write(ctx context.Context, c *command.Command) (command.Result, error) {
	seek := f.Seek()
	var unsure *peer.Address // where a try may have had its effect
	for {
		to, here, err := seek.Turn(ctx, unsure != nil)
		if err != nil {
			return command.Result{}, outcome(err, unsure != nil)
		}
		var res command.Result
		if here {
			res, err = f.cfg.Write(ctx, c)
		} else {
			res, err = f.send(ctx, to, c)
		}
		if err == nil {
			return settle(c, res, unsure, to)
		}
		again, none := moved(err)
		if !again {
			return command.Result{}, err
		}
		if !none {
			unsure = &to
		}
	}
}

// outcome completes the error that ended the tries.
func outcome(err error, unsure bool) error {
	if !unsure {
		return err
	}
	return protocol.NewError(protocol.CodeNoLeader, "The write may have happened: the coordinator that took it was lost").
		With("outcome", outcomeUnknown)
}

// settle reads a result in the light of an earlier try that may have had its
// effect at unsure.
func settle(c *command.Command, res command.Result, unsure *peer.Address, at peer.Address) (command.Result, error) {
	switch {
	case unsure == nil || res.Code == "":
		return res, nil
	case *unsure == at:
		// The first try may still be under way there and succeed after this one
		// was refused: only a later leader's refusal is the end of it.
		return command.Result{}, outcome(nil, true)
	case c.GetDeleteEndpoint() != nil && res.Code == protocol.CodeEndpointNotFound:
		return command.Result{Index: res.Index, Replayed: true}, nil
	}
	return res, nil
}

// send hands a command to the leader and waits for its answer.
func (f *Forwarder) send(ctx context.Context, to peer.Address, c *command.Command) (command.Result, error) {
	w := &write{to: to, cmd: c, size: proto.Size(c), done: make(chan answer, 1)}
	if !f.enqueue(w) {
		return command.Result{}, protocol.NewError(protocol.CodeUnavailable, "This coordinator is stopping").With("outcome", outcomeNone)
	}
	select {
	case a := <-w.done:
		return a.result, a.err
	case <-ctx.Done():
		return command.Result{}, context.Cause(ctx)
	}
}

func (f *Forwarder) enqueue(w *write) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base == nil {
		return false
	}
	f.queue = append(f.queue, w)
	if f.calls < maxCalls {
		f.calls++
		return f.start(f.carry)
	}
	return true
}

// carry makes calls as long as something waits.
func (f *Forwarder) carry(ctx context.Context) {
	for {
		batch := f.take()
		if batch == nil {
			return
		}
		f.exchange(ctx, batch)
	}
}

// take returns the writes of the next call: in order, to one leader. With nothing
// to do it gives the worker's place back.
func (f *Forwarder) take() []*write {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.queue) == 0 {
		f.calls--
		return nil
	}
	n, size := 0, 0
	for n < len(f.queue) && n < maxCommands {
		w := f.queue[n]
		if n > 0 && (w.to != f.queue[0].to || size+w.size > maxBytes) {
			break
		}
		size += w.size
		n++
	}
	batch := f.queue[:n:n]
	if f.queue = f.queue[n:]; len(f.queue) == 0 {
		f.queue = nil
	}
	return batch
}

// exchange is one call: everybody of the batch is answered.
func (f *Forwarder) exchange(ctx context.Context, batch []*write) {
	req := request{commands: make([]*command.Command, len(batch))}
	for i, w := range batch {
		req.commands[i] = w.cmd
	}
	var resp response
	err := f.call(ctx, batch[0].to, methodWrite, &req, &resp)
	if err == nil && len(resp.answers) != len(batch) {
		err = &peer.Unreachable{To: batch[0].to, Sent: true, Err: errShort}
	}
	for i, w := range batch {
		if err != nil {
			w.done <- answer{err: err}
			continue
		}
		w.done <- resp.answers[i]
	}
}
