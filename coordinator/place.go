package coordinator

import (
	"context"
	"net"
	"sync/atomic"
	"time"

	"windlass/coordinator/api"
	"windlass/protocol"
)

// place is where this coordinator stands among the others, for the API.
type place struct {
	c       *Coordinator
	leading atomic.Pointer[api.Leadership] // nil while it serves no term
	term    atomic.Uint64                  // raft's, of the newest leadership
}

// Leads implements api.Cluster.
func (p *place) Leads() (api.Leadership, bool) {
	lead := p.leading.Load()
	if lead == nil || !p.c.node.IsLeader() {
		return api.Leadership{}, false
	}
	select {
	case <-p.c.broker.Ready():
		return *lead, true
	default:
		return api.Leadership{}, false
	}
}

// serve marks the term as served until ctx ends.
func (p *place) serve(ctx context.Context, sinceMs int64) (end func()) {
	p.leading.Store(&api.Leadership{Lost: ctx.Done(), SinceMs: sinceMs})
	return func() { p.leading.Store(nil) }
}

// Leader implements api.Cluster.
func (p *place) Leader() (string, bool) { return "", p.c.node.IsLeader() }

// Seek implements api.Cluster.
func (p *place) Seek() api.Seek { return p }

// Turn implements api.Seek.
func (p *place) Turn(context.Context, bool) (api.Leader, error) {
	if !p.c.node.IsLeader() {
		return api.Leader{}, protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead at the moment").With("outcome", "none")
	}
	return api.Leader{Here: true}, nil
}

// Dial implements api.Cluster.
func (p *place) Dial(context.Context, api.Leader) (net.Conn, error) { return nil, net.ErrClosed }

// Age implements api.Cluster.
func (p *place) Age() time.Duration { return 0 }
