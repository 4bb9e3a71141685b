package main

import (
	"windlass/coordinator/command"
)

// act does one action of the plan.
func (w *world) act(a action) {
	if a.fault() {
		w.count.Faults[a.Kind]++
	}
	if a.fault() || a.Kind == doEndpoint {
		w.disturb(w.now + a.B)
	}
	w.say("%s a=%d b=%d c=%d", a.Kind, a.A, a.B, a.C)
	switch a.Kind {
	case doSubmit:
		w.client.submit(a.A)
	case doAgain:
		w.client.again(a.A, a.B == 1)
	case doCancel:
		w.client.cancel(a.A)
	case doRetry:
		w.client.retry(a.A)
	case doEndpoint:
		w.client.shape(a.A, a.B)
	case doHold:
		w.client.hold(a.A, a.B)
	case doPurge:
		w.client.purge(a.A)
	case doClose:
		w.client.closeEndpoint(a.A, a.B)
	case doRead:
		w.client.read(a.A)
	case doVault:
		w.vault.bad = w.now + a.B
	case doCheck:
		w.client.insist(&command.Command{Op: &command.Command_Checkpoint{Checkpoint: &command.Checkpoint{}}})
	case doRefuse:
		w.log.refuse = w.now + a.B
	case doMaybe:
		w.log.maybe = w.now + a.B
	case doStall:
		w.log.stall, w.log.slow = w.now+a.B, a.C
	case doNet:
		w.net.bad, w.net.percent = w.now+a.B, int(a.C)
		w.net.calm = w.net.bad + 15*second // what is late arrives later
	case doDepose, doKill, doFreeze:
		w.failover(a)
	case doForget:
		w.nodes[a.A].forgets = w.now + a.B
	case doRestart, doUpgrade, doLag, doSnapshot, doInstall, doClock:
		w.strike(w.nodes[a.A], a)
	default:
		w.strikeAgent(w.agents[a.A], a)
	}
}

// failover takes the leadership away.
func (w *world) failover(a action) {
	old := w.leader
	if old == nil {
		return
	}
	w.abandon(old)
	switch a.Kind {
	case doKill:
		old.kill()
		w.in(a.B, func() { old.revive(false) })
	case doFreeze:
		old.frozen = w.now + a.B
		life := old.life
		// It wakes up, goes on for a moment as if nothing had happened, then learns.
		w.at(old.frozen+w.draws.log.Int64N(500), func() { old.learn(life) })
	default:
		life := old.life
		w.in(a.B, func() { old.learn(life) })
	}
	next := w.other(old)
	w.disturb(w.now + a.B)
	w.elect(next, 200+w.draws.log.Int64N(2*second))
}

// learn tells a node that it leads no more.
func (n *node) learn(life int) {
	if n.life == life && n.term != nil && n.epoch != n.world.epoch {
		n.world.disturb(n.world.now)
		n.world.say("replica %d learns that it leads no more", n.no)
		n.resign()
	}
}

func (n *node) revive(empty bool) {
	if n.down {
		n.world.disturb(n.world.now)
		n.start(empty)
	}
}

// strike does something to a replica.
func (w *world) strike(n *node, a action) {
	switch a.Kind {
	case doUpgrade:
		w.upgrade(n, a)
	case doRestart:
		if n == w.leader || n.down || w.downs() > 0 {
			return // a majority has to stay
		}
		n.kill()
		w.in(a.B, func() { n.revive(a.C == 1) })
	case doLag:
		if n != w.leader {
			n.lag = w.now + a.B
			w.at(n.lag, n.follow)
		}
	case doSnapshot:
		if !n.down {
			n.write()
		}
	case doInstall:
		w.install(n)
	case doClock:
		w.jump(n, a)
	}
}

// upgrade restarts a replica in the newest version; a leader gives way before.
func (w *world) upgrade(n *node, a action) {
	switch {
	case n.supports == command.FeatureMax:
	case n == w.leader:
		w.failover(action{Kind: doDepose})
		w.in(5*second, func() { w.upgrade(n, a) })
	case n.down || w.downs() > 0:
		w.in(5*second, func() { w.upgrade(n, a) })
	default:
		n.kill()
		w.in(a.B, func() {
			n.supports = command.FeatureMax
			n.revive(false)
		})
	}
}

// downs is how many replicas are away.
func (w *world) downs() int {
	down := 0
	for _, n := range w.nodes {
		if n.down {
			down++
		}
	}
	return down
}

// install gives a follower the newest snapshot of another replica.
func (w *world) install(n *node) {
	if n.down || n == w.leader || n.frozen > w.now {
		return
	}
	var newest *snapshot
	for _, o := range w.nodes {
		if s := o.snapshot; o != n && s != nil && s.view.Index() > n.applied && (newest == nil || s.view.Index() > newest.view.Index()) {
			newest = s
		}
	}
	if newest == nil {
		return
	}
	n.snapshot = newest
	n.restore(newest)
	if n.term != nil {
		n.feed()
	}
}

// jump sets one wall clock; never a majority's.
func (w *world) jump(n *node, a action) {
	for _, o := range w.nodes {
		if o.offset < -2*second || o.offset > 2*second {
			return
		}
	}
	before := n.offset
	n.offset += a.C
	w.in(a.B, func() { n.offset = before })
}

func (w *world) strikeAgent(g *agent, a action) {
	until := w.now + a.B
	if g.down {
		return
	}
	g.calm = max(g.calm, until)
	switch a.Kind {
	case doCut:
		g.cut = until
	case doPause:
		g.paused = until
	case doCrash:
		g.crash(a.C == 1)
		life := g.life
		w.in(a.B, func() {
			if g.life == life {
				g.boot()
			}
		})
	case doDrain:
		g.draining = true
		g.renew()
		w.in(a.B, func() {
			if g.draining && !g.down {
				g.calm = max(g.calm, w.now)
				g.crash(false)
				g.boot()
			}
		})
	}
}

// heal repairs everything at once.
func (w *world) heal() {
	w.healed = true
	w.disturb(w.now)
	w.log.refuse, w.log.maybe, w.log.stall, w.net.bad, w.vault.bad = 0, 0, 0, 0, 0
	w.net.calm = max(w.net.calm, w.now)
	for _, n := range w.nodes {
		n.lag, n.offset = 0, 0
		if n.frozen > w.now {
			n.frozen = w.now
		}
		life := n.life
		w.in(w.draws.log.Int64N(500), func() { n.learn(life) })
		if n.down {
			n.start(false)
		}
		n.follow()
		n.stepped()
	}
	for _, a := range w.agents {
		a.calm = max(a.calm, w.now)
		a.cut = 0
		if a.paused > w.now {
			a.paused = w.now
		}
		switch {
		case a.down:
			a.boot()
		case a.draining:
			a.crash(false)
			a.boot()
		}
	}
	// Again later: an older change may still be on its way.
	for _, later := range []int64{0, minute, 5 * minute} {
		w.in(later, func() {
			for n := range int64(w.plan.Endpoints) {
				w.client.shape(n, 0)
				w.client.pauseEndpoint(n, false)
			}
			w.client.resumeAll()
		})
	}
}
