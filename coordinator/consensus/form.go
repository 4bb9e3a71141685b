package consensus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
	"windlass/protocol"
)

// Methods of the peer port. They are open: an empty node is in no cluster.
const (
	methodHello = "member/hello"
	methodForm  = "member/form"
	methodJoin  = "member/join"
)

// bootstrap forms a cluster of this node alone, once, in a directory that has
// never been part of one, when there is nobody to ask for another.
func (n *Node) bootstrap(conf *raft.Config) error {
	if n.cfg.Expect != 1 || len(n.others()) > 0 {
		return nil
	}
	id := n.home.identity()
	half := id.former().Server == n.server && n.store.empty()
	has, err := raft.HasExistingState(n.logs, n.store, n.snaps)
	if err != nil {
		return fmt.Errorf("cannot read raft state: %w", err)
	}
	if has && !half {
		return nil
	}
	if _, err := n.ownCluster(); err != nil {
		return err
	}
	defer n.store.beginAnew()()
	servers := []raft.Server{{ID: conf.LocalID, Address: n.trans.LocalAddr()}}
	if err := raft.BootstrapCluster(conf, n.logs, n.store, n.snaps, n.trans, raft.Configuration{Servers: servers}); err != nil {
		return fmt.Errorf("cannot form cluster: %w", err)
	}
	return nil
}

// ownCluster is the id of the cluster that this node forms, durable before
// anybody hears of it.
func (n *Node) ownCluster() (Identity, error) {
	id := n.home.identity()
	if id.ClusterID != "" && id.former().Server == n.server {
		return id, nil
	}
	id.ClusterID, id.Former = newID("cluster_"), n.Address()
	return id, n.home.save(id)
}

// former is who forms the cluster; its Server is empty when nobody does.
func (id Identity) former() peer.Address {
	if id.Former == "" {
		return peer.Address{}
	}
	a, err := peer.ParseAddress(id.Former)
	if err != nil {
		return peer.Address{}
	}
	return a
}

// others are the join addresses without this node's own.
func (n *Node) others() []string {
	if n.cfg.Port == nil {
		return nil
	}
	n.mu.Lock()
	hosts := slices.Concat(n.cfg.Join, n.asked)
	n.mu.Unlock()
	return slices.DeleteFunc(hosts, func(host string) bool { return host == n.cfg.Port.Host() })
}

// plan is what an empty node does next; exactly one field is set.
type plan struct {
	wait string         // why, for the log; nothing to do
	join []peer.Address // members of one cluster, any of which can take this node in
	form []peer.Address // the voters of a new cluster, this node among them
	drop bool           // the server that formed this node's cluster gave that up
}

// decide is the form-or-join rule: a cluster is joined where there is one, and
// formed only when nobody is in one and all expected servers are known,
// reachable and empty; then the one with the lowest id forms it, and everybody
// sees the same lowest. silent are the addresses that did not answer.
func decide(me Identity, self peer.Address, expect int, answers []hello, silent []string) plan {
	if f := me.former(); f.Server != "" && f.Server != me.ServerID {
		return followFormer(me, f, answers)
	}
	cluster, join, conflict := existing(answers)
	if conflict != "" {
		return plan{wait: conflict}
	}
	joining := me.ClusterID != "" && me.Former == ""
	switch {
	case cluster != "" && joining && cluster != me.ClusterID:
		return plan{wait: fmt.Sprintf("this coordinator was joining cluster %s, and the join addresses are in %s: remove its data directory to join that one", me.ClusterID, cluster)}
	case cluster != "":
		return plan{join: join}
	case joining:
		return plan{wait: "no member of cluster " + me.ClusterID + " answers, which this coordinator was joining"}
	}
	return decideForm(me, self, expect, answers, silent)
}

// existing finds the cluster that the answers come from, and who is in it. Of
// different ones, the one that has a leader counts: a server that came back
// after its cluster was recovered without it has none.
func existing(answers []hello) (cluster string, members []peer.Address, conflict string) {
	led := slices.ContainsFunc(answers, func(a hello) bool { return a.Formed && a.Led })
	for _, a := range answers {
		switch {
		case !a.Formed || a.Cluster == "" || led && !a.Led && a.Cluster != cluster:
			continue
		case cluster == "":
			cluster = a.Cluster
		case cluster != a.Cluster:
			return "", nil, fmt.Sprintf("the join addresses are in different clusters, %s and %s: set join to the members of one", cluster, a.Cluster)
		}
		members = append(members, a.address())
	}
	return cluster, members, ""
}

// followFormer is for a node that another one counts on: until the former is
// seen to have given up, it may already have formed the cluster with us in it.
func followFormer(me Identity, former peer.Address, answers []hello) plan {
	i := slices.IndexFunc(answers, func(a hello) bool { return a.Server == former.Server })
	switch {
	case i < 0:
		return plan{wait: fmt.Sprintf("%s was forming the cluster and does not answer: start it; if it is lost for good, remove the data directory of this coordinator, which is still empty, and start it again", former)}
	case answers[i].Cluster == me.ClusterID:
		return plan{wait: former.String() + " forms the cluster"}
	default:
		return plan{drop: true}
	}
}

func decideForm(me Identity, self peer.Address, expect int, answers []hello, silent []string) plan {
	servers := []peer.Address{self}
	for _, a := range answers {
		if a.Expect != expect {
			return plan{wait: fmt.Sprintf("expect is %d here and %d on %s: set it to the same number on all", expect, a.Expect, a.address())}
		}
		servers = append(servers, a.address())
	}
	slices.SortFunc(servers, func(a, b peer.Address) int { return cmp.Compare(a.Server, b.Server) })
	switch {
	case len(servers) < expect:
		text := fmt.Sprintf("%d of %d coordinators are here", len(servers), expect)
		if len(silent) > 0 {
			text += "; no answer from " + strings.Join(silent, ", ")
		}
		return plan{wait: text}
	case servers[0].Server != me.ServerID:
		return plan{wait: "all are here, and " + servers[0].String() + " forms the cluster"}
	default:
		return plan{form: servers}
	}
}

// formRequest asks an empty server to be a voter of the cluster that the caller
// is about to form, and of no other.
type formRequest struct {
	Cluster string `json:"cluster"`
	Former  string `json:"former"` // peer address of the caller
}

// form makes the cluster's id durable on all servers, then forms it. Each step
// may be the last one before a crash: the next try repeats all of them.
func (m *membership) form(ctx context.Context, servers []peer.Address) error {
	m.forming.Lock()
	id, err := m.node.ownCluster()
	m.forming.Unlock()
	if err != nil {
		return err
	}
	conf := raft.Configuration{}
	for _, s := range servers {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(s.Server), Address: raft.ServerAddress(s.String())})
		if s.Server == m.node.server {
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		err := m.port.Call(ctx, s, methodForm, formRequest{Cluster: id.ClusterID, Former: m.node.Address()}, nil)
		cancel()
		if err != nil {
			return fmt.Errorf("cannot form cluster with %s: %w", s, err)
		}
	}
	m.forming.Lock()
	defer m.forming.Unlock()
	if m.node.home.identity() != id {
		return errors.New("cannot form cluster: another server forms it")
	}
	defer m.node.store.beginAnew()()
	if err := m.node.raft.BootstrapCluster(conf).Error(); err != nil {
		return fmt.Errorf("cannot form cluster: %w", err)
	}
	m.log.Info().Str("cluster", id.ClusterID).Int("voters", len(servers)).Msg("cluster formed")
	return nil
}

// handleForm lets this node be formed into a cluster. One former at a time:
// another one is accepted only when it is the same server, which has not
// formed what it asked for before, or when this node was the former itself and
// gives way to a lower id.
func (m *membership) handleForm(_ context.Context, r *peer.Request) (any, error) {
	var req formRequest
	if err := r.Decode(&req); err != nil {
		return nil, err
	}
	m.forming.Lock()
	defer m.forming.Unlock()
	id := m.node.home.identity()
	former := id.former().Server
	switch {
	case m.node.formed():
		return nil, protocol.NewError(protocol.CodeConflict, "this coordinator is in a cluster already")
	case id.ClusterID == "", former == r.From.Server, former == id.ServerID && r.From.Server < id.ServerID:
	default:
		return nil, protocol.NewError(protocol.CodeConflict, "this coordinator is being formed into another cluster")
	}
	id.ClusterID, id.Former = req.Cluster, req.Former
	if id.former().Server != r.From.Server {
		return nil, protocol.NewError(protocol.CodeValidation, "former is not the caller")
	}
	return struct{}{}, m.node.home.save(id)
}

// drop forgets a cluster that its former gave up, if that is still the one that
// this node was in when it asked.
func (m *membership) drop(asked Identity) error {
	m.forming.Lock()
	defer m.forming.Unlock()
	id := m.node.home.identity()
	if m.node.formed() || id != asked {
		return nil
	}
	id.ClusterID, id.Former = "", ""
	return m.node.home.save(id)
}

// formed reports whether this node has raft state: it is, or was made, a
// member of its cluster. The former of a cluster is in it with the first entry;
// a term alone is a bootstrap that a crash ended.
func (n *Node) formed() bool {
	return n.raft.LastIndex() > 0 || n.raft.CurrentTerm() > 0 && n.home.identity().former().Server != n.server
}
