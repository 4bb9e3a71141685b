package consensus

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	autopilot "github.com/hashicorp/raft-autopilot"

	"windlass/coordinator/peer"
)

const (
	// maxBehind entries is how far a server may be behind and still count as
	// keeping up. An entry is a batch; this is some tenths of a second of them.
	maxBehind = 256

	// contactLimit is for how long a server may not have heard of its leader.
	contactLimit = 2 * time.Second

	// pilotUpdate and pilotReconcile are autopilot's own rounds, in questions of
	// ours: it cannot know more in between.
	pilotUpdate    = 1
	pilotReconcile = 2
)

func newPilot(m *membership) *autopilot.Autopilot {
	poll := m.node.cfg.Membership.Poll
	return autopilot.New(pilotRaft{Raft: m.node.raft, node: m.node}, pilot{m},
		autopilot.WithLogger(newBridge(m.log)),
		autopilot.WithPromoter(&promoter{m: m}),
		autopilot.WithUpdateInterval(pilotUpdate*poll),
		autopilot.WithReconcileInterval(pilotReconcile*poll))
}

// promoter is autopilot's own, for servers that have the payloads too. A voter
// counts towards the majority that keeps each of them, so one that has none
// would take the place of one that had them (DESIGN 3.11).
type promoter struct {
	autopilot.StablePromoter
	m *membership
}

// CalculatePromotionsAndDemotions implements autopilot.Promoter.
func (p *promoter) CalculatePromotionsAndDemotions(c *autopilot.Config, s *autopilot.State) autopilot.RaftChanges {
	changes := p.StablePromoter.CalculatePromotionsAndDemotions(c, s)
	changes.Promotions = p.m.complete(changes.Promotions)
	return changes
}

// complete returns those of the servers that have kept up for long enough whose
// payloads are complete up to the moment at which they first had.
func (m *membership) complete(stable []raft.ServerID) []raft.ServerID {
	applied := m.node.track.index()
	servers := m.node.configuration().Servers
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []raft.ServerID
	marks := make(map[raft.ServerID]uint64)
	for _, s := range servers {
		addr, err := serverAddress(s)
		if err != nil || !slices.Contains(stable, s.ID) {
			continue
		}
		mark, again := m.marks[s.ID]
		if !again {
			mark = applied
		}
		marks[s.ID] = mark
		if seen, ok := m.seen[addr]; ok && (seen.Copies == nil || seen.Copies.Index >= mark) {
			out = append(out, s.ID)
		}
	}
	m.marks = marks
	return out
}

// pilot tells autopilot what this node knows about the others.
type pilot struct{ m *membership }

// AutopilotConfig implements autopilot.ApplicationIntegration.
func (p pilot) AutopilotConfig() *autopilot.Config {
	cfg := p.m.node.cfg
	return &autopilot.Config{
		CleanupDeadServers:      true,
		LastContactThreshold:    contactLimit,
		MaxTrailingLogs:         maxBehind,
		MinQuorum:               uint(cfg.Expect),
		ServerStabilizationTime: cfg.Membership.Stable,
	}
}

// NotifyState implements autopilot.ApplicationIntegration.
func (p pilot) NotifyState(*autopilot.State) {}

// KnownServers implements autopilot.ApplicationIntegration: those of the
// configuration. A server is dead only when it was silent for long enough
// under the eyes of this leadership: a new leader gives everybody a full term.
func (p pilot) KnownServers() map[raft.ServerID]*autopilot.Server {
	out := make(map[raft.ServerID]*autopilot.Server)
	n := p.m.node
	p.m.mu.Lock()
	led := p.m.led
	p.m.mu.Unlock()
	for _, s := range n.configuration().Servers {
		known := &autopilot.Server{
			ID: s.ID, Name: string(s.ID), Address: s.Address, NodeStatus: autopilot.NodeAlive, RaftVersion: int(raft.ProtocolVersionMax),
			NodeType: autopilot.NodeVoter, IsLeader: string(s.ID) == n.server,
		}
		if addr, err := serverAddress(s); err == nil && !known.IsLeader {
			if p.m.dead(addr, led) {
				known.NodeStatus = autopilot.NodeFailed
			}
		}
		out[s.ID] = known
	}
	return out
}

// dead reports whether a server has not answered for Membership.Dead of a
// leadership and of its own membership.
func (m *membership) dead(addr peer.Address, led time.Time) bool {
	m.mu.Lock()
	s, asked := m.seen[addr]
	m.mu.Unlock()
	last := led
	for _, t := range []time.Time{s.since, s.at} {
		if t.After(last) {
			last = t
		}
	}
	return asked && time.Since(last) > m.node.cfg.Membership.Dead
}

// FetchServerStats implements autopilot.ApplicationIntegration from the answers
// that are there. The distance between the logs is that of the moment of the
// question, or every server would be behind under load.
func (p pilot) FetchServerStats(_ context.Context, servers map[raft.ServerID]*autopilot.Server) map[raft.ServerID]*autopilot.ServerStats {
	out := make(map[raft.ServerID]*autopilot.ServerStats)
	n := p.m.node
	last := n.raft.LastIndex()
	for id, s := range servers {
		if string(id) == n.server {
			out[id] = &autopilot.ServerStats{LastTerm: n.lastTerm(), LastIndex: last}
			continue
		}
		addr, err := serverAddress(raft.Server{ID: id, Address: s.Address})
		if err != nil {
			continue
		}
		seen, ok := p.m.sighting(addr)
		if !ok || !seen.reachable || seen.ContactMs < 0 {
			// Without a word here autopilot goes by what it heard last.
			out[id] = &autopilot.ServerStats{LastContact: n.cfg.Membership.Dead}
			continue
		}
		out[id] = &autopilot.ServerStats{
			LastContact: time.Duration(seen.ContactMs) * time.Millisecond,
			LastTerm:    seen.LastTerm,
			LastIndex:   last - min(seen.lag, last),
		}
	}
	return out
}

// RemoveFailedServer implements autopilot.ApplicationIntegration. It must not
// block; a removal that fails is decided again in the next round.
func (p pilot) RemoveFailedServer(s *autopilot.Server) {
	p.m.asks.Go(func() {
		if err := p.m.node.removeServer(string(s.ID)); err != nil {
			p.m.log.Warn().Err(err).Str("server", string(s.ID)).Msg("dead coordinator could not be removed yet")
			return
		}
		p.m.log.Warn().Str("server", string(s.ID)).Dur("silent", p.m.node.cfg.Membership.Dead).Msg("dead coordinator removed from the cluster")
	})
}

// pilotRaft makes every change of autopilot a compare-and-set on the
// configuration that the change was decided for.
type pilotRaft struct {
	*raft.Raft
	node *Node
}

// AddVoter implements autopilot.Raft: the server must still be a member.
func (p pilotRaft) AddVoter(id raft.ServerID, _ raft.ServerAddress, _ uint64, timeout time.Duration) raft.IndexFuture {
	conf, index := p.node.latest()
	for _, s := range conf.Servers {
		if s.ID == id {
			return p.Raft.AddVoter(id, s.Address, index, timeout)
		}
	}
	return refusedChange{fmt.Errorf("cannot promote %s: it is not a member any more", id)}
}

// RemoveServer implements autopilot.Raft.
func (p pilotRaft) RemoveServer(id raft.ServerID, _ uint64, timeout time.Duration) raft.IndexFuture {
	_, index := p.node.latest()
	return p.Raft.RemoveServer(id, index, timeout)
}

// refusedChange is a change that was not tried.
type refusedChange struct{ err error }

// Error implements raft.Future.
func (f refusedChange) Error() error { return f.err }

// Index implements raft.IndexFuture.
func (f refusedChange) Index() uint64 { return 0 }
