package api

import (
	"encoding/hex"
	"strconv"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Member is how this node stands in its cluster.
type Member struct {
	Node   string
	Leader bool
	Term   uint64
}

// clusterStatus is GET /v2/cluster. Everything but the member is of one view, so
// that coordinators with equal indexes can be compared.
func (s *Server) clusterStatus(c *call) error {
	withDigest := false
	if raw := c.query("digest"); raw != "" {
		var err error
		if withDigest, err = strconv.ParseBool(raw); err != nil {
			return protocol.Invalid("digest", raw, "Must be true or false")
		}
	}
	return c.json(clusterOf(s.deps.Store.View(), s.deps.Member(), withDigest))
}

func clusterOf(v *state.View, m Member, withDigest bool) protocol.ClusterStatus {
	doc := protocol.ClusterStatus{
		Node: m.Node, Leader: m.Leader, Term: m.Term, Index: v.Index(), ClockMs: v.ClockMs(),
		Agents: len(v.Agents()), Bytes: v.Bytes(), MaxBytes: v.Settings().MaxBytes,
	}
	for _, e := range v.Endpoints("") {
		doc.Jobs.Queued += e.Queued
		doc.Jobs.Running += e.Live - e.Queued
	}
	if withDigest {
		sum := v.Digest()
		doc.Digest = hex.EncodeToString(sum[:])
	}
	return doc
}
