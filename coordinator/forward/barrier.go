package forward

import (
	"context"

	"windlass/coordinator/peer"
	"windlass/protocol"
)

// check is one round of asking the leader, for all who wait for it.
type check struct {
	done  chan struct{}
	here  bool   // this node led at that moment, and has applied everything
	index uint64 // else: what the reader must have applied
	err   error
}

// Barrier returns when this node has applied everything that was acknowledged
// anywhere before the call: a read that follows is linearizable. Readers that
// come together share one round; one that came during a round waits for the
// next, because the round may have asked before it. Errors: *protocol.Error
// NO_LEADER or UNAVAILABLE, or the context's.
func (f *Forwarder) Barrier(ctx context.Context) error {
	if f.cfg.Cluster.IsLeader() {
		err := f.cfg.Cluster.VerifyLeader(ctx)
		if again, _ := moved(err); err == nil || !again {
			return err
		}
	}
	c := f.join()
	if c == nil {
		return protocol.NewError(protocol.CodeUnavailable, "This coordinator is stopping")
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if c.err != nil || c.here {
		return c.err
	}
	return f.cfg.Cluster.WaitApplied(ctx, c.index)
}

// join returns the round that begins next.
func (f *Forwarder) join() *check {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.base == nil {
		return nil
	}
	if f.next == nil {
		f.next = &check{done: make(chan struct{})}
		if !f.rounds {
			f.rounds = f.start(f.ask)
		}
	}
	return f.next
}

// ask makes rounds as long as somebody waits.
func (f *Forwarder) ask(ctx context.Context) {
	for {
		f.mu.Lock()
		c := f.next
		f.next = nil
		f.rounds = c != nil
		f.mu.Unlock()
		if c == nil {
			return
		}
		f.round(ctx, c)
		close(c.done)
	}
}

// round asks whoever leads.
func (f *Forwarder) round(ctx context.Context, c *check) {
	seek := f.Seek()
	for {
		var to peer.Address
		if to, c.here, c.err = seek.Turn(ctx, false); c.err != nil {
			return
		}
		if c.here {
			c.err = f.cfg.Cluster.VerifyLeader(ctx)
		} else {
			var i index
			c.err = f.call(ctx, to, methodReadIndex, nil, &i)
			c.index = uint64(i)
		}
		if c.err == nil {
			return
		}
		if again, _ := moved(c.err); !again {
			return
		}
	}
}
