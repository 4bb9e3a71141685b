package consensus

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"
	"github.com/rs/zerolog"

	"windlass/coordinator/peer"
)

const (
	// askTimeout bounds one question to another server. It answers from memory,
	// so this is only how long a silent one is waited for.
	askTimeout = 2 * time.Second

	// missedPolls is how many questions may stay open before a server counts as
	// unreachable.
	missedPolls = 3

	// emptyInterval is how often an empty node looks for its cluster, and
	// repeatWait how often it says in the log that it still waits.
	emptyInterval = 250 * time.Millisecond
	repeatWait    = 10 * time.Second
)

// membership keeps this node in its cluster: it asks the others how they are,
// joins or forms a cluster while the node is empty, and lets autopilot change
// the configuration while the node leads.
type membership struct {
	node  *Node
	port  Port // nil: alone, or connected by a test
	log   zerolog.Logger
	pilot *autopilot.Autopilot
	asks  sync.WaitGroup
	gone  chan struct{} // closed when this node was removed

	forming sync.Mutex // held while the identity's cluster is decided

	mu     sync.Mutex
	seen   map[peer.Address]sighting
	asking map[peer.Address]bool    // a question is open
	led    time.Time                // since when this node leads; zero: it does not
	marks  map[raft.ServerID]uint64 // what a server must have before it is made a voter
	known  bool                     // a leader has confirmed that this node is a member
	said   string                   // why an empty node waits, as it was logged last
	saidAt time.Time
	since  time.Time // when it began to wait
}

func newMembership(n *Node) *membership {
	m := &membership{
		node: n, port: n.cfg.Port, log: n.cfg.Log, gone: make(chan struct{}),
		seen: make(map[peer.Address]sighting), asking: make(map[peer.Address]bool),
	}
	if m.port == nil {
		return m
	}
	m.pilot = newPilot(m)
	m.port.HandleOpen(methodHello, m.handleHello)
	m.port.HandleOpen(methodForm, m.handleForm)
	m.port.HandleOpen(methodJoin, m.handleJoin)
	m.port.Handle(methodRemove, m.handleRemove)
	m.port.Handle(methodTransfer, m.handleTransfer)
	return m
}

// run is the loop of the node's life in its cluster.
func (m *membership) run(ctx context.Context) {
	if m.port == nil {
		return
	}
	defer m.asks.Wait()
	defer func() { <-m.pilot.Stop() }()
	for {
		interval := m.node.cfg.Membership.Poll
		if m.node.formed() {
			m.poll(ctx)
			m.keep(ctx)
			m.steer(ctx)
		} else {
			interval = min(interval, emptyInterval)
			m.enter(ctx)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// poll asks every server that has no question open; a slow one delays nobody.
func (m *membership) poll(ctx context.Context) {
	for _, to := range m.targets() {
		m.mu.Lock()
		busy := m.asking[to]
		m.asking[to] = true
		m.mu.Unlock()
		if busy {
			continue
		}
		m.asks.Go(func() {
			_, _ = m.ask(ctx, to) // remembered there
			m.mu.Lock()
			delete(m.asking, to)
			m.mu.Unlock()
		})
	}
}

// targets are the other servers of the configuration, and until a leader has
// confirmed that this node is one of them, the join addresses too: a node that
// was removed while it was down knows only old ones.
func (m *membership) targets() []peer.Address {
	var out []peer.Address
	hosts := map[string]bool{}
	for _, s := range m.node.configuration().Servers {
		if addr, err := serverAddress(s); err == nil && addr.Server != m.node.server {
			out = append(out, addr)
			hosts[addr.Host] = true
		}
	}
	m.mu.Lock()
	known := m.known
	m.mu.Unlock()
	if !known {
		for _, host := range m.node.others() {
			if !hosts[host] {
				out = append(out, peer.Address{Host: host})
			}
		}
	}
	m.forget(out)
	return out
}

// forget drops what is known of servers that are not asked any more. What a join
// address answered stays until the server there was asked by its name: in between
// nobody would be known to answer.
func (m *membership) forget(keep []peer.Address) {
	m.mu.Lock()
	defer m.mu.Unlock()
	maps.DeleteFunc(m.seen, func(a peer.Address, _ sighting) bool {
		unasked := func(k peer.Address) bool {
			_, asked := m.seen[k]
			return k.Host == a.Host && !asked
		}
		return !slices.Contains(keep, a) && (a.Server != "" || !slices.ContainsFunc(keep, unasked))
	})
}

// enter takes an empty node one step towards a cluster.
func (m *membership) enter(ctx context.Context) {
	// Read before the questions: an answer that was given before this node was
	// counted on says nothing about who counts on it.
	me := m.node.home.identity()
	answers, silent := m.gather(ctx)
	p := decide(me, m.node.self(), m.node.cfg.Expect, answers, silent)
	var err error
	switch {
	case ctx.Err() != nil:
		return
	case p.drop:
		err = m.drop(me)
	case p.form != nil:
		err = m.form(ctx, p.form)
	case p.join != nil:
		err = m.join(ctx, answers, p.join)
	default:
		m.say(p.wait)
	}
	if err != nil && ctx.Err() == nil {
		m.say(err.Error())
	}
}

// say logs why the node waits: at once when that is new, then now and again. Until
// all have had the time to start there is nothing to warn of.
func (m *membership) say(why string) {
	level := zerolog.WarnLevel
	m.mu.Lock()
	if m.since.IsZero() {
		m.since = time.Now()
	}
	if time.Since(m.since) < repeatWait {
		level = zerolog.InfoLevel
	}
	again := why == m.said && time.Since(m.saidAt) < repeatWait
	if !again {
		m.said, m.saidAt = why, time.Now()
	}
	m.mu.Unlock()
	if !again {
		m.log.WithLevel(level).Str("reason", why).Msg("this coordinator waits for its cluster")
	}
}

// gather asks all join addresses, and the server that formed this node, at the
// same time. silent are those that did not answer.
func (m *membership) gather(ctx context.Context) (answers []hello, silent []string) {
	var to []peer.Address
	for _, host := range m.node.others() {
		to = append(to, peer.Address{Host: host})
	}
	if f := m.node.home.identity().former(); f.Server != "" && f.Server != m.node.server {
		to = append(to, f)
	}
	m.forget(to)
	var mu sync.Mutex
	var asks sync.WaitGroup
	for _, addr := range to {
		asks.Go(func() {
			h, err := m.ask(ctx, addr)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				m.log.Debug().Err(err).Msg("join address does not answer")
				silent = append(silent, addr.Host)
			} else if h.Server != m.node.server && !slices.ContainsFunc(answers, func(a hello) bool { return a.Server == h.Server }) {
				answers = append(answers, h)
			}
		})
	}
	asks.Wait()
	slices.Sort(silent)
	return answers, slices.Compact(silent)
}

// sighting is the newest answer of the server at addr.
func (m *membership) sighting(addr peer.Address) (sighting, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.seen[addr]
	if !ok || s.at.IsZero() {
		s, ok = m.seen[peer.Address{Host: addr.Host}]
		ok = ok && s.Server == addr.Server
	}
	return s, ok && !s.at.IsZero()
}

// strangers are the servers that were asked by address alone, by the id under
// which they answered.
func (m *membership) strangers() []peer.Address {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []peer.Address
	for addr, s := range m.seen {
		if addr.Server == "" {
			out = append(out, peer.Address{Server: s.Server, Host: addr.Host})
		}
	}
	return out
}

// keep follows what the leader says about this node: one that is not in the
// configuration any more asks to be taken in once, at its start; after that it
// was removed on purpose.
func (m *membership) keep(ctx context.Context) {
	if m.node.IsLeader() {
		m.mu.Lock()
		m.known = true
		m.mu.Unlock()
		return
	}
	leader, ok := m.leaderSaid()
	if !ok {
		return
	}
	m.mu.Lock()
	known := m.known
	m.known = known || leader.Caller != ""
	m.mu.Unlock()
	switch {
	case leader.Caller == "" && known:
		m.removed()
	case leader.Caller != m.node.Address(): // not a member, or under an old address
		err := m.askToJoin(ctx, leader.address())
		if err != nil && ctx.Err() == nil {
			m.say(err.Error())
		}
		m.mu.Lock()
		m.known = m.known || err == nil // from here on a removal is on purpose
		m.mu.Unlock()
	}
}

// leaderSaid is the newest answer of the server that leads.
func (m *membership) leaderSaid() (hello, bool) {
	cluster := m.node.home.identity().ClusterID
	m.mu.Lock()
	defer m.mu.Unlock()
	var newest hello
	for _, s := range m.seen {
		if s.reachable && s.Leads && s.Cluster == cluster && s.Term > newest.Term {
			newest = s.hello
		}
	}
	return newest, newest.Server != "" && newest.Term >= m.node.raft.CurrentTerm()
}

// Removed is closed when this node finds out that it was taken out of its
// cluster while it ran. It must be stopped; started again it joins anew.
func (n *Node) Removed() <-chan struct{} { return n.members.gone }

func (m *membership) removed() {
	select {
	case <-m.gone:
	default:
		m.log.Error().Msg("this coordinator was removed from its cluster: stop it; started again, it joins anew")
		close(m.gone)
	}
}

// steer runs autopilot while this node leads, and keeps the address that the
// configuration has for this node.
func (m *membership) steer(ctx context.Context) {
	leads := m.node.IsLeader()
	m.mu.Lock()
	was := !m.led.IsZero()
	if leads && !was {
		m.led, m.marks = time.Now(), nil
	} else if !leads {
		m.led = time.Time{}
	}
	m.mu.Unlock()
	switch {
	case leads && !was:
		m.pilot.Start(ctx)
	case !leads && was:
		<-m.pilot.Stop()
	}
	if leads {
		if err := m.node.keepAddress(); err != nil && ctx.Err() == nil {
			m.log.Warn().Err(err).Msg("peer address could not be made known yet")
		}
	}
}
