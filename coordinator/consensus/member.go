package consensus

import (
	"cmp"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
)

// Description is what a node tells the others about itself, besides raft.
type Description struct {
	HTTP       string     `json:"http,omitempty"`    // base URL of its API, without /v2
	Version    string     `json:"version,omitempty"` // of the program
	Features   [2]uint32  `json:"features"`          // lowest and highest feature level that it supports
	Checkpoint Checkpoint `json:"checkpoint"`
	Copies     *Copies    `json:"copies,omitempty"` // nil: it keeps none of its own, or its version does not say
}

// Copies says how complete a node's own payloads are. What no coordinator that
// answers has is Nowhere, and not Missing.
type Copies struct {
	Index   uint64   `json:"index"`             // everything that is named up to this entry is here, but what is nowhere
	Missing int      `json:"missing,omitempty"` // to be fetched, as far as is known
	IdleMs  int64    `json:"idleMs,omitempty"`  // while some are missing: since the newest one came
	Trouble string   `json:"trouble,omitempty"` // why the newest fetch that failed did
	Nowhere int      `json:"nowhere,omitempty"`
	Names   []string `json:"names,omitempty"` // of a few that are nowhere: how their files begin
}

// Checkpoint is the digest of the state at an index; a zero Index is none.
type Checkpoint struct {
	Index  uint64 `json:"index,omitempty"`
	Digest string `json:"digest,omitempty"` // hex
}

// Member is one server of the cluster as this node knows it: its place in the
// newest configuration, and its newest answer. While this node waits for a
// cluster, it is one of the servers that were asked; a join address where
// nobody has answered has a Host alone.
type Member struct {
	Server string // server id
	Host   string // peer address, host:port
	Description

	Self      bool // this node
	Joined    bool // is in the configuration
	Voter     bool
	Leader    bool // as this node knows
	Reachable bool // answered lately; true for this node

	LastContact time.Duration // since its newest answer; negative: none yet
	WallMs      int64         // its wall clock at that time, unix ms
	OffsetMs    int64         // of its wall clock against this node's
	Applied     uint64
	LastIndex   uint64
	Term        uint64
}

// Members are the servers of the cluster and what they said when they were
// asked last, in the order of their ids. The answers are at most about a second
// old; those of silent servers stay, with their age.
func (n *Node) Members() []Member {
	leader, _ := n.LeaderPeer()
	var out []Member
	named := map[string]bool{} // hosts and ids that are in out
	add := func(addr peer.Address, voter, joined bool) {
		m := n.member(addr)
		m.Voter, m.Joined, m.Leader = voter, joined, addr.Server == leader.Server
		named[addr.Server], named[addr.Host] = true, true
		out = append(out, m)
	}
	for _, s := range n.configuration().Servers {
		addr, err := serverAddress(s)
		if err == nil {
			add(addr, s.Suffrage == raft.Voter, true)
		}
	}
	if self := n.self(); !named[self.Server] {
		add(self, false, false)
	}
	for _, a := range n.members.strangers() {
		if !named[a.Server] || a.Server == "" && !named[a.Host] {
			add(a, false, false)
		}
	}
	slices.SortFunc(out, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Server, b.Server), cmp.Compare(a.Host, b.Host))
	})
	return out
}

// member is the newest that is known about addr.
func (n *Node) member(addr peer.Address) Member {
	if addr.Server == n.server {
		h := n.hello("")
		return Member{
			Server: n.server, Host: addr.Host, Description: h.Description, Self: true, Reachable: true,
			WallMs: h.WallMs, Applied: h.Applied, LastIndex: h.LastIndex, Term: h.Term,
		}
	}
	m := Member{Server: addr.Server, Host: addr.Host, LastContact: -1}
	s, ok := n.members.sighting(addr)
	if !ok {
		return m
	}
	m.LastContact = time.Since(s.at)
	m.Reachable = s.reachable && m.LastContact < missedPolls*n.cfg.Membership.Poll
	m.Description, m.WallMs, m.OffsetMs = s.Description, s.WallMs, s.offsetMs
	m.Applied, m.LastIndex, m.Term = s.Applied, s.LastIndex, s.Term
	return m
}

// self is this node's peer address.
func (n *Node) self() peer.Address {
	if n.cfg.Port == nil {
		return peer.Address{Server: n.server, Host: n.server}
	}
	return peer.Address{Server: n.server, Host: n.cfg.Port.Host()}
}

// serverAddress reads a server of raft's configuration. One that was formed by
// a version without server ids in addresses has none in its text.
func serverAddress(s raft.Server) (peer.Address, error) {
	if string(s.Address) == string(s.ID) { // connected in memory
		return peer.Address{Server: string(s.ID), Host: string(s.ID)}, nil
	}
	a, err := peer.ParseAddress(string(s.Address))
	a.Server = string(s.ID)
	return a, err
}
