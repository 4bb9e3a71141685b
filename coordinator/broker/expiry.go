package broker

import (
	"context"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/queue"
	"windlass/protocol"
)

const (
	// overrunGrace is how long past its execution timeout a job may run before
	// the coordinator tells its agent to stop it, and again before it takes the
	// lease away, in milliseconds. The agent's shim enforces the timeout; this is
	// for a shim that does not, so it leaves room for the whole cancel ladder.
	overrunGrace = 60_000
	// retryTerm is how long after a failed expiry it is tried again, in milliseconds.
	retryTerm = 1_000
	// maxExpiries bounds what one tick proposes while the lock is held.
	maxExpiries = 256
)

// leaseHeap orders leases by when they must be looked at. Renewing a lease does
// not move it: it is put off when its turn comes, so that a beat costs nothing here.
type leaseHeap struct{ leases []*lease }

func (h *leaseHeap) push(l *lease) {
	l.pos = len(h.leases)
	h.leases = append(h.leases, l)
	h.up(l.pos)
}

func (h *leaseHeap) remove(l *lease) {
	i, last := l.pos, len(h.leases)-1
	h.swap(i, last)
	h.leases[last] = nil
	h.leases = h.leases[:last]
	if i < last {
		h.fix(h.leases[i])
	}
}

func (h *leaseHeap) fix(l *lease) { h.up(h.down(l.pos)) }

func (h *leaseHeap) swap(i, j int) {
	h.leases[i], h.leases[j] = h.leases[j], h.leases[i]
	h.leases[i].pos, h.leases[j].pos = i, j
}

func (h *leaseHeap) up(i int) {
	for i > 0 && h.leases[i].at < h.leases[(i-1)/2].at {
		h.swap(i, (i-1)/2)
		i = (i - 1) / 2
	}
}

func (h *leaseHeap) down(i int) int {
	for {
		child := 2*i + 1
		if child >= len(h.leases) {
			return i
		}
		if child+1 < len(h.leases) && h.leases[child+1].at < h.leases[child].at {
			child++
		}
		if h.leases[child].at >= h.leases[i].at {
			return i
		}
		h.swap(i, child)
		i = child
	}
}

// limit is when a started attempt has overrun.
func (l *lease) limit() int64 {
	if l.startedAt == never || l.job.ExecutionMs <= 0 {
		return never
	}
	return l.startedAt + l.job.ExecutionMs + overrunGrace
}

// due looks at a lease whose turn came and sets its next turn.
func (t *term) due(l *lease, now int64) {
	limit := l.limit()
	switch {
	case now >= l.deadline && !l.sent:
		t.release(l, command.Release_UNACKED, "the agent did not ask for it")
		l.at = now + retryTerm
	case now >= l.deadline:
		t.release(l, command.Release_LOST, "no sign of the agent")
		l.at = now + retryTerm
	case limit != never && now >= limit+overrunGrace:
		t.release(l, command.Release_LOST, "the agent did not end it at its execution timeout")
		l.at = now + retryTerm
	case now >= limit:
		if l.stop != protocol.StopTimeout {
			l.stop = protocol.StopTimeout
			t.touch(l.agent)
		}
		l.at = min(l.deadline, limit+overrunGrace)
	default:
		l.at = min(l.deadline, limit)
	}
	t.expiry.fix(l)
}

// tick does what has become due.
func (t *term) tick() {
	now := t.now()
	for n := 0; n < maxExpiries && len(t.expiry.leases) > 0 && t.expiry.leases[0].at <= now; n++ {
		t.due(t.expiry.leases[0], now)
	}
	for _, it := range t.queue.Expired(t.cfg.NowMs(), maxExpiries) {
		t.expire(it)
	}
	t.queue.Ripe(t.cfg.NowMs())
	if now >= t.rematchAt {
		t.rematchAt = never
		for _, a := range t.roster {
			for _, r := range a.rejected {
				if r.until > now {
					t.rematchAt = min(t.rematchAt, r.until)
				}
			}
		}
	}
}

// expire proposes the end of a job that waited too long. It left the queue, so
// that nobody is given it meanwhile.
func (t *term) expire(it queue.Item) {
	c := &command.Command{Op: &command.Command_ExpireTtl{ExpireTtl: &command.ExpireTTL{Job: it.Job[:]}}}
	t.propose(c, func(err error) {
		if err == nil || !t.requeue(it.Job) {
			return
		}
		again, _ := t.queue.Get(it.Job)
		again.ExpireMs = t.cfg.NowMs() + retryTerm
		t.queue.Push(again)
	})
}

// arm sets the one timer to the earliest thing that becomes due.
func (t *term) arm() {
	next := t.rematchAt
	now := t.now()
	if len(t.expiry.leases) > 0 {
		next = min(next, t.expiry.leases[0].at)
	}
	if at, ok := t.queue.NextMs(); ok {
		next = min(next, now+max(at-t.cfg.NowMs(), 0))
	}
	if t.stalledTo > now {
		next = min(next, t.stalledTo)
	}
	if next >= t.armedAt {
		return
	}
	t.armedAt = next
	if t.timer != nil {
		t.timer.Reset(time.Duration(max(next-now, 0)) * time.Millisecond)
	}
}

// ring does what the timer is for: it fired, or its time came.
func (t *term) ring() {
	t.lock()
	t.armedAt = never
	t.tick()
	t.match()
	t.unlock()
}

// tickLoop owns the timer until ctx ends.
func (t *term) tickLoop(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.timer.C:
		}
		t.ring()
	}
}
