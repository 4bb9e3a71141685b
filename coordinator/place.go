package coordinator

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"windlass/coordinator/api"
	"windlass/coordinator/forward"
	"windlass/coordinator/peer"
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
func (p *place) Leader() (string, bool) {
	to, ok := p.c.node.LeaderPeer()
	return to.String(), ok
}

// Seek implements api.Cluster.
func (p *place) Seek() api.Seek { return &seek{p: p, s: p.c.forward.Seek()} }

type seek struct {
	p *place
	s *forward.Seeker
}

// Turn implements api.Seek.
func (s *seek) Turn(ctx context.Context, begun bool) (api.Leader, error) {
	to, here, err := s.s.Turn(ctx, begun)
	if err != nil {
		return api.Leader{}, err
	}
	self := s.p.c.node.Identity().ServerID
	if here {
		to, _ = s.p.c.node.LeaderPeer()
	}
	return api.Leader{Address: to.String(), Here: here || to.Server == self}, nil
}

// URL implements api.Cluster. An address that several coordinators have, such as
// that of a load balancer, does not lead to the leader and counts as none.
func (p *place) URL(leader api.Leader) string {
	to, err := peer.ParseAddress(leader.Address)
	if err != nil {
		return ""
	}
	url, shared := "", 0
	members := p.c.node.Members()
	for i := range members {
		if members[i].Server == to.Server {
			url = members[i].HTTP
		}
	}
	for i := range members {
		if members[i].HTTP == url {
			shared++
		}
	}
	if shared > 1 {
		return ""
	}
	return url
}

// Dial implements api.Cluster.
func (p *place) Dial(ctx context.Context, leader api.Leader) (net.Conn, error) {
	to, err := peer.ParseAddress(leader.Address)
	if err != nil {
		return nil, err
	}
	return p.c.port.Dial(ctx, peer.KindAPI, to)
}

// Age implements api.Cluster.
func (p *place) Age() time.Duration { return time.Since(p.c.node.LastContact()) }

// publicURL is where agents and clients reach this coordinator's API, as the
// others are told: http.publicUrl, or what follows from the addresses it listens
// on; "" when nothing does.
func (c *Coordinator) publicURL() string {
	if c.cfg.HTTP.PublicURL != "" {
		return strings.TrimSuffix(c.cfg.HTTP.PublicURL, "/")
	}
	scheme := "http://"
	if c.cfg.HTTP.TLS.Cert != "" {
		scheme = "https://"
	}
	host, port, err := net.SplitHostPort(c.Addr().String())
	if err != nil {
		return "" // not a socket
	}
	if ip := net.ParseIP(host); c.port != nil && (ip == nil || ip.IsUnspecified()) {
		// It listens everywhere: others reach it where they reach its peer port.
		if host, _, err = net.SplitHostPort(c.port.Host()); err != nil {
			return ""
		}
	}
	return scheme + net.JoinHostPort(host, port)
}

// Sever breaks this coordinator's connections to the others at once, as the end
// of its process would, so that tests can end one without its taking leave. It
// must still be stopped.
func (c *Coordinator) Sever() error {
	return errors.Join(c.node.Sever(), c.port.Close())
}
