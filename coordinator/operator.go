package coordinator

import (
	"context"
	"encoding/json"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"windlass/coordinator/consensus"
	"windlass/protocol"
)

// operator is the coordinator as an administrator uses it, for the API.
type operator struct {
	c       *Coordinator
	version string
	recent  func() []string // newest lines of the log; nil: not kept
	started time.Time
	left    chan struct{} // receives once this coordinator has left its cluster
}

func newOperator(c *Coordinator, version string, recent func() []string) *operator {
	if recent == nil {
		recent = func() []string { return nil }
	}
	return &operator{c: c, version: version, recent: recent, started: time.Now(), left: make(chan struct{}, 1)}
}

// Cluster implements api.Operator.
func (o *operator) Cluster() (string, int) {
	return o.c.node.Identity().ClusterID, o.c.cfg.Expect
}

// Members implements api.Operator.
func (o *operator) Members() []protocol.ClusterMember {
	known := o.c.node.Members()
	out := make([]protocol.ClusterMember, len(known))
	for i, m := range known {
		out[i] = shownMember(m)
	}
	return out
}

func shownMember(m consensus.Member) protocol.ClusterMember {
	d := protocol.ClusterMember{
		Server: m.Server, Address: m.Host, URL: m.HTTP, Role: protocol.RoleWaiting, Self: m.Self, Reachable: m.Reachable,
		ClockOffsetMs: m.OffsetMs, Version: m.Version, Features: m.Features, Applied: m.Applied, LastIndex: m.LastIndex, Term: m.Term,
	}
	switch {
	case m.Joined && m.Leader:
		d.Role = protocol.RoleLeader
	case m.Joined && m.Voter:
		d.Role = protocol.RoleVoter
	case m.Joined:
		d.Role = protocol.RoleLearner
	}
	if m.LastContact >= 0 {
		ms := m.LastContact.Milliseconds()
		d.LastContactMs = &ms
	}
	if c := m.Copies; c != nil && c.Missing+c.Nowhere > 0 {
		d.Payloads = &protocol.ClusterPayloads{Missing: c.Missing, IdleMs: c.IdleMs, Trouble: c.Trouble, Nowhere: c.Nowhere, Names: c.Names}
	}
	if m.Checkpoint.Index > 0 {
		d.Checkpoint = &protocol.ClusterCheckpoint{Index: m.Checkpoint.Index, Digest: m.Checkpoint.Digest}
	}
	return d
}

// Transfer implements api.Operator.
func (o *operator) Transfer(ctx context.Context, server string) error {
	return o.c.node.Transfer(ctx, server)
}

// Remove implements api.Operator.
func (o *operator) Remove(ctx context.Context, server string) error {
	return o.c.node.Remove(ctx, server)
}

// Join implements api.Operator.
func (o *operator) Join(addresses []string) error { return o.c.node.Join(addresses) }

// Leave implements api.Operator: when it returns, Run stops in order, after the
// answer that waits for this.
func (o *operator) Leave(ctx context.Context) error {
	if err := o.c.node.Leave(ctx); err != nil {
		return err
	}
	o.c.log.Warn().Msg("this coordinator left its cluster and stops")
	select {
	case o.left <- struct{}{}:
	default: // it stops already
	}
	return nil
}

// Debug implements api.Operator. The configuration is shown whole: it names the
// files of keys and holds none (a test looks for them).
func (o *operator) Debug() protocol.ClusterDebug {
	var stacks strings.Builder
	if err := pprof.Lookup("goroutine").WriteTo(&stacks, stacksText); err != nil {
		stacks.WriteString(err.Error())
	}
	raft := map[string]string{}
	for k, v := range map[string]any{"stats": o.c.node.Stats(), "identity": o.c.node.Identity()} {
		if raw, err := json.Marshal(v); err == nil {
			raft[k] = string(raw)
		}
	}
	return protocol.ClusterDebug{
		Node: o.c.node.Identity().ServerID, Version: o.version, Go: runtime.Version(), StartedMs: o.started.UnixMilli(),
		Config: o.c.cfg, Consensus: raft, Log: o.recent(), Goroutines: stacks.String(),
	}
}

// stacksText is the form of a goroutine profile with one entry for equal stacks
// and no arguments, which might be data.
const stacksText = 1
