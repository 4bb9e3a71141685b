package consensus

import (
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

const (
	// maxPool is the idle connections kept to each peer: one for appends, one
	// for heartbeats, one for votes.
	maxPool = 3

	// rpcTimeout bounds one exchange with a peer that went silent; it must
	// outlast a slow fsync there.
	rpcTimeout = 10 * time.Second
)

// network is raft's network transport without two of its habits. Heartbeats
// take no fast path: on it a deposed leader can write under the new leader's
// term (hashicorp/raft#695). And pipelining is off, which can wedge
// replication to one follower for ever (#612). Embedding the concrete type
// forwards WithPreVote and WithClose, which raft finds by type assertion.
type network struct {
	*raft.NetworkTransport
}

// SetHeartbeatHandler implements raft.Transport by doing nothing: heartbeats
// then arrive at Consumer like every other request.
func (n network) SetHeartbeatHandler(func(raft.RPC)) {}

func newNetwork(stream raft.StreamLayer, log hclog.Logger) network {
	return network{raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          stream,
		Logger:          log,
		MaxPool:         maxPool,
		MaxRPCsInFlight: 1,
		Timeout:         rpcTimeout,
	})}
}

// tcpStream is a raft.StreamLayer over plain TCP.
type tcpStream struct {
	*net.TCPListener
	advertise net.Addr
}

func listenTCP(listen, advertise string) (*tcpStream, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("cannot listen for peers on %s: %w: set peer.listen to a free address of this machine", listen, err)
	}
	s := &tcpStream{TCPListener: ln.(*net.TCPListener), advertise: ln.Addr()}
	if advertise != "" {
		addr, err := net.ResolveTCPAddr("tcp", advertise)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("cannot resolve peer address %s: %w: set peer.advertise to host:port", advertise, err), ln.Close())
		}
		s.advertise = addr
	}
	if tcp, ok := s.advertise.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return nil, errors.Join(fmt.Errorf("cannot advertise %s to peers: it names no machine: set peer.advertise to the address that other coordinators reach this one at", s.advertise), ln.Close())
	}
	return s, nil
}

// Addr implements net.Listener: the address that peers dial.
func (s *tcpStream) Addr() net.Addr { return s.advertise }

// Dial implements raft.StreamLayer.
func (s *tcpStream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(address), timeout)
}
