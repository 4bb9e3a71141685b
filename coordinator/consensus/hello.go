package consensus

import (
	"context"
	"strconv"
	"time"

	"windlass/coordinator/peer"
)

// hello is what a server answers to whoever asks: enough to join it, to form a
// cluster with it, and to judge how well it keeps up.
type hello struct {
	Server  string `json:"server"`
	Host    string `json:"host"`
	Cluster string `json:"cluster,omitempty"`
	Formed  bool   `json:"formed"` // has raft state
	Expect  int    `json:"expect"`

	// Caller is the address under which the caller is in the configuration that
	// this server knows; "" when it is not.
	Caller string `json:"caller,omitempty"`

	Led       bool   `json:"led"` // knows a leader, itself perhaps
	Leads     bool   `json:"leads"`
	ContactMs int64  `json:"contactMs"` // since it heard of a leader; 0 when it leads, -1 never
	Term      uint64 `json:"term"`
	LastTerm  uint64 `json:"lastTerm"` // of its newest entry
	LastIndex uint64 `json:"lastIndex"`
	Applied   uint64 `json:"applied"`
	WallMs    int64  `json:"wallMs"`
	Description
}

func (h hello) address() peer.Address { return peer.Address{Server: h.Server, Host: h.Host} }

// helloRequest is the question.
type helloRequest struct {
	Server string `json:"server"`
}

// hello describes this node to caller, a server id or "".
func (n *Node) hello(caller string) hello {
	id := n.home.identity()
	_, led := n.LeaderPeer()
	h := hello{
		Server: n.server, Host: n.self().Host, Cluster: id.ClusterID, Formed: n.formed(), Expect: n.cfg.Expect,
		Led: led, Leads: n.IsLeader(), Term: n.raft.CurrentTerm(), LastIndex: n.raft.LastIndex(), Applied: n.track.index(),
		LastTerm: n.lastTerm(), WallMs: n.cfg.WallMs(), Description: n.cfg.Describe(),
	}
	if contact := n.contact(); contact < 0 {
		h.ContactMs = -1
	} else {
		h.ContactMs = contact.Milliseconds()
	}
	for _, s := range n.configuration().Servers {
		if string(s.ID) == caller {
			h.Caller = string(s.Address)
		}
	}
	return h
}

// tell logs that a server fell silent, or answers again.
func (m *membership) tell(to peer.Address, s sighting, err error) {
	switch {
	case err != nil && s.reachable:
		m.log.Warn().Err(err).Str("server", to.String()).Msg("another coordinator does not answer")
	case err == nil && !s.reachable && !s.at.IsZero():
		m.log.Info().Str("server", to.String()).Dur("silent", time.Since(s.at)).Msg("another coordinator answers again")
	}
}

// contact is the time since this node heard of its leader: 0 when it leads,
// negative when it never did.
func (n *Node) contact() time.Duration {
	if n.IsLeader() {
		return 0
	}
	last := n.raft.LastContact()
	if last.IsZero() {
		return -1
	}
	return time.Since(last)
}

// lastTerm is the term of the newest entry, which raft tells only as text.
func (n *Node) lastTerm() uint64 {
	term, err := strconv.ParseUint(n.raft.Stats()["last_log_term"], 10, 64)
	if err != nil {
		return 0
	}
	return term
}

func (m *membership) handleHello(_ context.Context, r *peer.Request) (any, error) {
	return m.node.hello(r.From.Server), nil
}

// sighting is a server's newest answer.
type sighting struct {
	hello
	since     time.Time // when it was asked first
	at        time.Time // when it was asked what it answered last; zero: never answered
	offsetMs  int64     // of its wall clock against ours
	lag       uint64    // entries that our log was ahead of its
	reachable bool      // the newest question was answered
}

// ask asks one server and remembers the answer, or that there was none.
func (m *membership) ask(ctx context.Context, to peer.Address) (hello, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var h hello
	ours, began, wall := m.node.raft.LastIndex(), time.Now(), m.node.cfg.WallMs()
	err := m.port.Call(ctx, to, methodHello, helloRequest{Server: m.node.server}, &h)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.seen[to]
	if s.since.IsZero() {
		s.since = began
	}
	m.tell(to, s, err)
	s.reachable = err == nil
	if err == nil {
		half := time.Since(began) / 2
		s.hello, s.at, s.lag = h, began, 0
		s.offsetMs = h.WallMs - wall - half.Milliseconds()
		if ours > h.LastIndex {
			s.lag = ours - h.LastIndex
		}
	}
	m.seen[to] = s
	return h, err
}
