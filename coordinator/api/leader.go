package api

import (
	"context"
	"net"
	"time"

	"windlass/protocol"
)

// Cluster is where this node stands among the coordinators.
type Cluster interface {
	// Leads returns the leadership that this node serves; false while it serves
	// none.
	Leads() (Leadership, bool)
	// Seek begins to look for the leader for one request.
	Seek() Seek
	// Leader is the address of the leader; false when none is known.
	Leader() (string, bool)
	// URL is where agents reach the leader's API; "" when that is not known.
	URL(leader Leader) string
	// Dial makes a connection to the leader's API, over the peers' port.
	Dial(ctx context.Context, to Leader) (net.Conn, error)
	// Age is how long ago this node was last known to be up to date with a leader.
	Age() time.Duration
}

// Leadership is one term in which this node serves as leader.
type Leadership struct {
	Lost    <-chan struct{} // closed when it ends
	SinceMs int64           // when it began, unix, on the coordinator's clock
}

// Leader is who leads.
type Leader struct {
	Address string // its peer address; a key of no meaning here
	Here    bool   // this node
}

// Seek finds the leader, again and again.
type Seek interface {
	// Turn returns the leader to ask, after a short wait when it is not the first
	// turn. begun says that something was sent before: then it waits for a leader
	// until ctx ends; else the error, NO_LEADER, comes within 100 ms of none being
	// known.
	Turn(ctx context.Context, begun bool) (Leader, error)
}

// leads reports whether what the leader alone knows is known here.
func (s *Server) leads() bool {
	_, ok := s.deps.Cluster.Leads()
	return ok
}

// toLeader tells an agent to ask the leader itself, or relays its request when
// it asked for that, or when nobody knows an address of the leader for it.
func (c *call) toLeader(relay bool, hint func(url string) any) error {
	if c.relayed {
		return errElsewhere
	}
	c.holds = protocol.SyncHold * 2 // also when this node is about to lead and takes it itself in a moment
	ctx, cancel := c.context()
	defer cancel()
	leader, err := c.s.deps.Cluster.Seek().Turn(ctx, false)
	if err != nil || leader.Here {
		return errElsewhere
	}
	url := c.s.deps.Cluster.URL(leader)
	if relay || url == "" {
		c.once = true
		return errElsewhere
	}
	return c.json(hint(url))
}
