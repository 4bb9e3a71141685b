package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

const (
	methodRemove   = "member/remove"
	methodTransfer = "member/transfer"

	// changePause is between two tries of a change of which nobody knows the
	// leader yet: a fraction of an election.
	changePause = 100 * time.Millisecond

	// changeTries is how often a change is decided anew when another one came in
	// between.
	changeTries = 5
)

// latest is the newest configuration and the index to change it at.
func (n *Node) latest() (raft.Configuration, uint64) {
	f := n.raft.GetConfiguration()
	return f.Configuration(), f.Index()
}

// change applies one change to the configuration that it was decided for, and
// decides again when another change came first. decide returns nil when there
// is nothing to do.
func (n *Node) change(decide func(raft.Configuration, uint64) (raft.IndexFuture, error)) error {
	var err error
	for range changeTries {
		conf, index := n.latest()
		idle := false
		err = n.ask(func() error {
			f, err := decide(conf, index)
			if idle = f == nil; idle {
				return err
			}
			return f.Error()
		})
		if idle {
			return err
		}
		if err == nil || !strings.HasPrefix(err.Error(), "configuration changed since") {
			break
		}
	}
	if err != nil {
		return proposalError(err, false)
	}
	return nil
}

// keepAddress makes the configuration name the address that this leader has
// now: it may have moved, or come from a version without ids in addresses.
func (n *Node) keepAddress() error {
	return n.change(func(conf raft.Configuration, index uint64) (raft.IndexFuture, error) {
		for _, s := range conf.Servers {
			if string(s.ID) == n.server && s.Address != n.trans.LocalAddr() {
				return n.raft.AddVoter(s.ID, n.trans.LocalAddr(), index, 0), nil
			}
		}
		return nil, nil
	})
}

// joinRequest asks a member to take the caller in.
type joinRequest struct {
	Server  string `json:"server"`
	Host    string `json:"host"`
	Cluster string `json:"cluster"`
	Relayed bool   `json:"relayed,omitempty"` // comes from a member that does not lead
}

// join makes the cluster's id durable here, then asks any of its members. The
// id comes first, because the leader's raft connects as soon as it has taken us
// in.
func (m *membership) join(ctx context.Context, answers []hello, members []peer.Address) error {
	i := slices.IndexFunc(answers, func(a hello) bool { return a.address() == members[0] })
	m.forming.Lock()
	id := m.node.home.identity()
	if id.ClusterID != answers[i].Cluster || id.Former != "" {
		id.ClusterID, id.Former = answers[i].Cluster, ""
		if err := m.node.home.save(id); err != nil {
			m.forming.Unlock()
			return err
		}
	}
	m.forming.Unlock()
	var err error
	for _, to := range members {
		if err = m.askToJoin(ctx, to); err == nil {
			m.log.Info().Str("cluster", id.ClusterID).Str("by", to.String()).Msg("this coordinator was taken into its cluster")
			return nil
		}
	}
	return err
}

func (m *membership) askToJoin(ctx context.Context, to peer.Address) error {
	ctx, cancel := context.WithTimeout(ctx, rpcTimeout)
	defer cancel()
	req := joinRequest{Server: m.node.server, Host: m.port.Host(), Cluster: m.node.home.identity().ClusterID}
	if err := m.port.Call(ctx, to, methodJoin, req, nil); err != nil {
		return fmt.Errorf("cannot join through %s: %w", to, err)
	}
	return nil
}

func (m *membership) handleJoin(ctx context.Context, r *peer.Request) (any, error) {
	var req joinRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	n := m.node
	switch id := n.home.identity(); {
	case !n.formed() || req.Cluster != id.ClusterID:
		return nil, protocol.NewError(protocol.CodeConflict, "this coordinator is not in cluster "+req.Cluster)
	case !req.Relayed && req.Server != r.From.Server:
		return nil, protocol.NewError(protocol.CodeValidation, "a coordinator can ask only for itself")
	case !n.IsLeader() && req.Relayed:
		return nil, errNotLeader()
	case n.IsLeader():
		return struct{}{}, m.takeIn(ctx, peer.Address{Server: req.Server, Host: req.Host})
	}
	leader, ok := n.LeaderPeer()
	if !ok {
		return nil, errNotLeader()
	}
	req.Relayed = true
	return struct{}{}, relayed(m.port.Call(ctx, leader, methodJoin, req, nil))
}

// relayed makes an unreachable leader an answer for the caller.
func relayed(err error) error {
	var u *peer.Unreachable
	if errors.As(err, &u) {
		return errNotLeader()
	}
	return err
}

func errNotLeader() *protocol.Error {
	return protocol.NewError(protocol.CodeNoLeader, "this coordinator does not lead").With("outcome", outcomeNone)
}

// takeIn adds a server that does not vote until autopilot has seen it keep up,
// or changes the address of one that is there. What had the same address is
// gone: its directory was replaced by the caller's.
func (m *membership) takeIn(ctx context.Context, addr peer.Address) error {
	n := m.node
	if n.cfg.Expect == 1 {
		return protocol.NewError(protocol.CodeConflict, "this cluster was configured for one coordinator: set expect and join on it and restart it, then let others join")
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var h hello
	if err := m.port.Call(ask, addr, methodHello, helloRequest{Server: n.server}, &h); err != nil {
		return protocol.NewError(protocol.CodeConflict, fmt.Sprintf("the leader cannot reach you at %s: set peer.advertise to an address that the other coordinators reach: %v", addr.Host, err))
	}
	if err := n.supportedBy(h.Description); err != nil {
		return err
	}
	for _, s := range n.configuration().Servers {
		if old, err := serverAddress(s); err == nil && old.Host == addr.Host && old.Server != addr.Server {
			if err := n.removeServer(old.Server); err != nil {
				return err
			}
			m.log.Warn().Str("server", old.Server).Str("by", addr.Server).Msg("coordinator replaced by another one at its address")
		}
	}
	return n.change(func(conf raft.Configuration, index uint64) (raft.IndexFuture, error) {
		for _, s := range conf.Servers {
			if string(s.ID) == addr.Server && string(s.Address) == addr.String() {
				return nil, nil
			}
		}
		return n.raft.AddNonvoter(raft.ServerID(addr.Server), raft.ServerAddress(addr.String()), index, 0), nil
	})
}

// supportedBy refuses a server whose version cannot apply what is in the log.
func (n *Node) supportedBy(d Description) error {
	if n.cfg.Feature == nil {
		return nil
	}
	level := max(n.cfg.Feature(), command.FeatureBase)
	if lowest, highest := max(d.Features[0], command.FeatureBase), max(d.Features[1], command.FeatureBase); level < lowest || level > highest {
		return protocol.NewError(protocol.CodeConflict, fmt.Sprintf("the cluster has feature level %d, and your version supports %d to %d: start the version that the other coordinators run",
			level, lowest, highest))
	}
	return nil
}

// Remove takes a server out of the cluster, on whichever node it is called. It
// is refused when those that remain could not commit anything. A leader that is
// to be removed hands leadership on first. The server itself is not stopped.
func (n *Node) Remove(ctx context.Context, server string) error {
	return n.atLeader(ctx, methodRemove, changeRequest{Server: server}, func(ctx context.Context) error {
		return n.members.remove(ctx, server)
	})
}

// Leave takes this node out of its cluster; the caller then closes it. Started
// again it joins anew.
func (n *Node) Leave(ctx context.Context) error { return n.Remove(ctx, n.server) }

// Transfer makes another voter the leader; "" is the one that is furthest.
func (n *Node) Transfer(ctx context.Context, server string) error {
	return n.atLeader(ctx, methodTransfer, changeRequest{Server: server}, func(context.Context) error {
		return n.transfer(server)
	})
}

type changeRequest struct {
	Server string `json:"server"`
}

// atLeader does something here when this node leads, and by a call where the
// leader is otherwise. It goes on while there is none, until ctx ends: what is
// done this way may be done twice.
func (n *Node) atLeader(ctx context.Context, method string, req changeRequest, here func(context.Context) error) error {
	for {
		err := n.tryLeader(ctx, method, req, here)
		var u *peer.Unreachable
		if err == nil || protocol.CodeOf(err) != protocol.CodeNoLeader && !errors.As(err, &u) {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-time.After(changePause):
		}
	}
}

func (n *Node) tryLeader(ctx context.Context, method string, req changeRequest, here func(context.Context) error) error {
	if n.IsLeader() {
		return here(ctx)
	}
	leader, ok := n.LeaderPeer()
	if !ok || n.cfg.Port == nil {
		return errNotLeader()
	}
	return n.cfg.Port.Call(ctx, leader, method, req, nil)
}

func (m *membership) handleRemove(ctx context.Context, r *peer.Request) (any, error) {
	var req changeRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	return struct{}{}, m.remove(ctx, req.Server)
}

func (m *membership) handleTransfer(_ context.Context, r *peer.Request) (any, error) {
	var req changeRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	return struct{}{}, m.node.transfer(req.Server)
}

// remove is Remove on the leader. Removing the leader is handing leadership on
// and telling the caller to ask the next one.
func (m *membership) remove(_ context.Context, server string) error {
	n := m.node
	if server != n.server {
		return n.removeServer(server)
	}
	if err := n.removable(n.configuration(), server); err != nil {
		return err
	}
	if err := n.transfer(""); err != nil {
		return err
	}
	return errNotLeader()
}

// removeServer takes another server out. One that is not there is out.
func (n *Node) removeServer(server string) error {
	return n.change(func(conf raft.Configuration, index uint64) (raft.IndexFuture, error) {
		if !slices.ContainsFunc(conf.Servers, func(s raft.Server) bool { return string(s.ID) == server }) {
			return nil, nil
		}
		if err := n.removable(conf, server); err != nil {
			return nil, err
		}
		return n.raft.RemoveServer(raft.ServerID(server), index, 0), nil
	})
}

// removable refuses what would leave a cluster without a quorum.
func (n *Node) removable(conf raft.Configuration, server string) error {
	voters, alive, votes := 0, 0, false
	for _, s := range conf.Servers {
		switch {
		case s.Suffrage != raft.Voter:
		case string(s.ID) == server:
			votes = true
		default:
			voters++
			if addr, err := serverAddress(s); err == nil && n.member(addr).Reachable {
				alive++
			}
		}
	}
	switch {
	case !votes:
		return nil
	case voters == 0:
		return protocol.NewError(protocol.CodeConflict, "the last voter cannot be removed: stop it instead")
	case alive <= voters/2:
		return protocol.NewError(protocol.CodeConflict, fmt.Sprintf("without %s, %d of the %d voters that remain would answer, which is no majority: start the others first", server, alive, voters)).
			With("voters", voters).With("alive", alive)
	}
	return nil
}

// transfer hands leadership to a voter, on the leader.
func (n *Node) transfer(server string) error {
	switch {
	case !n.IsLeader():
		return errNotLeader()
	case server == n.server:
		return nil
	case server == "":
		return transferError(n.ask(n.handOn))
	}
	for _, s := range n.configuration().Servers {
		if string(s.ID) == server && s.Suffrage == raft.Voter {
			return transferError(n.ask(func() error { return n.raft.LeadershipTransferToServer(s.ID, s.Address).Error() }))
		}
	}
	return protocol.NewError(protocol.CodeNotFound, fmt.Sprintf("%s is no voter of this cluster: see the list of its members", server))
}

// handOn makes any other voter lead. raft's own choice may be one that is down,
// so those that answer are tried, the one that is least behind first.
func (n *Node) handOn() error {
	if n.cfg.Port == nil {
		return n.raft.LeadershipTransfer().Error()
	}
	type heir struct {
		raft.Server
		lag uint64
	}
	var heirs []heir
	for _, s := range n.configuration().Servers {
		addr, err := serverAddress(s)
		if err != nil || s.Suffrage != raft.Voter || addr.Server == n.server {
			continue
		}
		if seen, ok := n.members.sighting(addr); ok && seen.reachable {
			heirs = append(heirs, heir{s, seen.lag})
		}
	}
	slices.SortFunc(heirs, func(a, b heir) int { return cmp.Compare(a.lag, b.lag) })
	err := errors.New("no other voter answers")
	for _, h := range heirs {
		if err = n.raft.LeadershipTransferToServer(h.ID, h.Address).Error(); err == nil || errors.Is(err, raft.ErrNotLeader) {
			return nil
		}
	}
	return err
}

func transferError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader):
		return errNotLeader()
	default:
		return protocol.NewError(protocol.CodeUnavailable, "leadership could not be handed on: "+err.Error())
	}
}
