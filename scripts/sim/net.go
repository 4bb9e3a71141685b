package main

import (
	"errors"
	"slices"

	"windlass/coordinator/broker"
	"windlass/protocol"
)

// errLost is what a caller knows when nobody answered.
var errLost = errors.New("nobody answered")

// network carries calls between agents or clients and nodes.
type network struct {
	world   *world
	bad     int64 // until then
	percent int   // of messages that are lost, repeated or late while it is bad
	calm    int64 // the last moment at which it was bad
}

// call is one request with at most one answer.
type call struct {
	from  *agent // nil: a client
	life  int
	node  *node
	over  bool
	until int64 // nobody takes it in later; 0: whenever it comes
	got   func(any, error)

	holds []protocol.HeldAttempt // of a registration: kept from others meanwhile
}

// op hands a request to a leadership.
type op func(*broker.Driver) (poll func() (any, bool, error), gone func())

// answerOr hides what an answer is. Most questions find none, and cost nothing.
func answerOr[T any](ask broker.Pending[T]) func() (any, bool, error) {
	return func() (any, bool, error) {
		r, there, err := ask()
		if !there || err != nil {
			return nil, there, err
		}
		return r, true, nil
	}
}

func (n *network) delay() int64 {
	w := n.world
	d := w.draws.net.Int64N(w.plan.Latency + 1)
	if n.bad > w.now && w.draws.net.IntN(100) < n.percent {
		d += w.draws.net.Int64N(15 * second)
	}
	return d
}

func (n *network) loses(c *call) bool {
	w := n.world
	if c.from != nil && c.from.cut > w.now {
		return true
	}
	return n.bad > w.now && w.draws.net.IntN(100) < n.percent
}

// send makes a call. got is called once, unless the caller's life ends: with the
// answer, or with an error, errLost after limit.
func (n *network) send(from *agent, to *node, limit int64, do op, got func(any, error)) *call {
	w := n.world
	w.count.Calls++
	c := &call{from: from, node: to, got: got}
	if from != nil {
		c.life = from.life
	}
	copies := 1
	if from != nil && n.bad > w.now && w.draws.net.IntN(100) < n.percent {
		copies = 2 // a client's try is one connection, which repeats nothing
	}
	for range copies {
		if !n.loses(c) {
			w.in(n.delay(), func() { n.arrive(c, do) })
		}
	}
	w.in(limit, func() { n.give(c, nil, errLost) })
	return c
}

func (n *network) arrive(c *call, do op) {
	w, node := n.world, c.node
	switch {
	case c.from != nil && c.from.cut > w.now:
	case node.down || c.until != 0 && c.until < w.now:
		n.reset(c)
	case node.frozen > w.now:
		w.at(node.frozen, func() { n.arrive(c, do) })
	case node.term == nil:
		n.reply(node, c, nil, noLeader())
	default:
		poll, gone := do(node.term)
		list := &node.calls
		if gone != nil {
			list = &node.syncs
		}
		*list = append(*list, &served{call: c, poll: poll, gone: gone})
		fresh := (*list)[len(*list)-1:]
		if node.poll(&fresh); len(fresh) == 0 {
			*list = (*list)[:len(*list)-1]
		}
		node.stepped()
	}
}

// reply sends an answer back.
func (n *network) reply(_ *node, c *call, v any, err error) {
	if !n.loses(c) {
		n.world.in(n.delay(), func() {
			if c.from == nil || c.from.cut <= n.world.now {
				n.give(c, v, err)
			}
		})
	}
}

// reset is what a caller sees of a process that ended.
func (n *network) reset(c *call) { n.reply(c.node, c, nil, errLost) }

// give hands an answer to its caller, if it still waits.
func (n *network) give(c *call, v any, err error) {
	w := n.world
	switch a := c.from; {
	case c.over:
		return
	case a != nil && (a.life != c.life || a.down):
		n.hangUp(c)
		return
	case a != nil && a.paused > w.now:
		w.at(a.paused, func() { n.give(c, v, err) })
		return
	}
	n.hangUp(c)
	c.got(v, err)
}

// hangUp ends a call for its caller. The other end often notices, not always.
func (n *network) hangUp(c *call) {
	if c.over {
		return
	}
	c.over = true
	w, node := n.world, c.node
	if !slices.ContainsFunc(node.syncs, func(s *served) bool { return s.call == c }) || w.draws.net.IntN(3) == 0 {
		return
	}
	w.in(n.delay(), func() {
		for i := 0; i < len(node.syncs); i++ {
			if s := node.syncs[i]; s.call == c {
				node.syncs = slices.Delete(node.syncs, i, i+1)
				i--
				s.gone()
			}
		}
		node.stepped()
	})
}
