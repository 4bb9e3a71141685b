package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"windlass/protocol"
)

// Operator is what an administrator sees of the coordinators and does to them.
// Errors that callers may read are *protocol.Error.
type Operator interface {
	// Cluster is the id of the cluster, "" while this node is in none, and the
	// voters that the configuration asks for.
	Cluster() (id string, expect int)
	// Members are the coordinators as this one knows them.
	Members() []protocol.ClusterMember
	// Transfer makes another voter the leader; "" is the one that is furthest.
	Transfer(ctx context.Context, server string) error
	// Remove takes a coordinator out.
	Remove(ctx context.Context, server string) error
	// Leave takes this one out; the process ends soon after.
	Leave(ctx context.Context) error
	// Join gives a node that waits for its cluster more addresses to ask.
	Join(addresses []string) error
	// Save returns a snapshot of everything that was acknowledged before the
	// call, and its size, on the leader.
	Save(ctx context.Context) (io.ReadCloser, int64, error)
	// Restore replaces the state of the cluster, on the leader.
	Restore(ctx context.Context, snapshot io.Reader) (protocol.ClusterRestored, error)
	// Debug says what this node knows about itself.
	Debug() protocol.ClusterDebug
}

// maxJoin is more addresses than a cluster has coordinators.
const maxJoin = 16

// clusterMembers is GET /v2/cluster/members.
func (s *Server) clusterMembers(c *call) error {
	id, expect := s.deps.Operator.Cluster()
	doc := protocol.ClusterMembers{Cluster: id, Expect: expect, Members: s.deps.Operator.Members()}
	assess(&doc)
	return c.json(doc)
}

// transferLeader is POST /v2/cluster/transfer.
func (s *Server) transferLeader(c *call) error {
	return s.change(c, func(ctx context.Context, server string) error {
		return s.deps.Operator.Transfer(ctx, server)
	})
}

// removeMember is POST /v2/cluster/remove.
func (s *Server) removeMember(c *call) error {
	return s.change(c, func(ctx context.Context, server string) error {
		if server == "" {
			return protocol.Invalid("server", nil, "Required: the id of a coordinator, as in the list of members")
		}
		return s.deps.Operator.Remove(ctx, server)
	})
}

// change does something to a member and answers with the members as they are
// then.
func (s *Server) change(c *call, do func(ctx context.Context, server string) error) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.ClusterChange
	if len(raw) > 0 {
		if err := parseObject(raw, &in); err != nil {
			return err
		}
	}
	ctx, cancel := c.context()
	defer cancel()
	if err := do(ctx, in.Server); err != nil {
		return err
	}
	c.audit(c.route.operation).Str("server", in.Server).Send()
	return s.clusterMembers(c)
}

// parseObject reads a strict JSON object.
func parseObject(raw []byte, out any) error {
	var bad findings
	switch err := scanObject(raw, func(string, []byte) {}); {
	case errors.Is(err, errNotObject):
		bad.add("body", raw, "Must be a JSON object")
	case err != nil:
		return malformed(err)
	default:
		decodeStrict(trimSpace(raw), out, &bad)
	}
	return bad.err()
}

// leaveCluster is POST /v2/cluster/leave.
func (s *Server) leaveCluster(c *call) error {
	ctx, cancel := c.context()
	defer cancel()
	if err := s.deps.Operator.Leave(ctx); err != nil {
		return err
	}
	c.audit(c.route.operation).Send()
	return s.clusterMembers(c)
}

// joinCluster is POST /v2/cluster/join.
func (s *Server) joinCluster(c *call) error {
	raw, err := c.body()
	if err != nil {
		return err
	}
	var in protocol.ClusterJoin
	if err := parseObject(raw, &in); err != nil {
		return err
	}
	if len(in.Addresses) == 0 || len(in.Addresses) > maxJoin {
		return protocol.Invalid("addresses", in.Addresses, fmt.Sprintf("Must be 1 to %d peer addresses", maxJoin))
	}
	for _, a := range in.Addresses {
		if host, port, err := net.SplitHostPort(a); err != nil || host == "" || port == "" {
			return protocol.Invalid("addresses", a, "Must be host:port of a coordinator's peer port")
		}
	}
	if err := s.deps.Operator.Join(in.Addresses); err != nil {
		return err
	}
	c.audit(c.route.operation).Strs("addresses", in.Addresses).Send()
	return s.clusterMembers(c)
}

// clusterDebug is GET /v2/cluster/debug.
func (s *Server) clusterDebug(c *call) error { return c.json(s.deps.Operator.Debug()) }
