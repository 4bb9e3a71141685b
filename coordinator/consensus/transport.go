package consensus

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
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
	replies *replies
}

// SetHeartbeatHandler implements raft.Transport by doing nothing: heartbeats
// then arrive at Consumer like every other request.
func (n network) SetHeartbeatHandler(func(raft.RPC)) {}

func newNetwork(stream raft.StreamLayer, log hclog.Logger) network {
	return network{replies: newReplies(), NetworkTransport: raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          stream,
		Logger:          log,
		MaxPool:         maxPool,
		MaxRPCsInFlight: 1,
		Timeout:         rpcTimeout,
	})}
}

// Port is the peer port as this package uses it; *peer.Port is one.
type Port interface {
	// Host is what peers dial, host:port.
	Host() string
	// Raft accepts raft's connections. They are handshaken: the other side is
	// in this cluster and meant this server.
	Raft() net.Listener
	// Dial connects to the server that the address names, or fails.
	Dial(ctx context.Context, kind peer.Kind, to peer.Address) (net.Conn, error)
	// Handle serves a method for members of this cluster.
	Handle(method string, h peer.Handler)
	// HandleOpen serves a method for servers of any cluster or of none.
	HandleOpen(method string, h peer.Handler)
	// Call is one request and its answer.
	Call(ctx context.Context, to peer.Address, method string, in, out any) error
}

// stream is raft's connections over the peer port. Raft's server addresses are
// peer addresses with the server id in them, so that a dial reaches the server
// that is meant or nobody: a wiped node is a new one, and never receives what
// was meant for the old one.
type stream struct {
	net.Listener
	port Port
	self peer.Address
	base context.Context // ends with Close
	stop context.CancelFunc

	mu     sync.Mutex
	dialed map[net.Conn]struct{} // nil after Close
}

func newStream(port Port, server string) *stream {
	base, stop := context.WithCancel(context.Background())
	return &stream{
		Listener: port.Raft(), port: port, self: peer.Address{Server: server, Host: port.Host()},
		base: base, stop: stop, dialed: make(map[net.Conn]struct{}),
	}
}

// Close implements net.Listener. It also ends what waits for an answer of
// another server: raft's own shutdown would wait until it times out.
func (s *stream) Close() error {
	s.stop()
	s.mu.Lock()
	dialed := s.dialed
	s.dialed = nil
	s.mu.Unlock()
	for c := range dialed {
		_ = c.Close() // the other side sees it too
	}
	return s.Listener.Close()
}

// dialedConn is known to its stream until it is closed.
type dialedConn struct {
	net.Conn
	stream *stream
}

// Close implements net.Conn.
func (c dialedConn) Close() error {
	c.stream.mu.Lock()
	delete(c.stream.dialed, c.Conn)
	c.stream.mu.Unlock()
	return c.Conn.Close()
}

// Addr implements net.Listener: what other servers dial.
func (s *stream) Addr() net.Addr { return streamAddr(s.self.String()) }

// Dial implements raft.StreamLayer.
func (s *stream) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	to, err := peer.ParseAddress(string(address))
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(s.base, timeout)
	defer cancel()
	conn, err := s.port.Dial(ctx, peer.KindRaft, to)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	closed := s.dialed == nil
	if !closed {
		s.dialed[conn] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		return nil, errors.Join(net.ErrClosed, conn.Close())
	}
	return dialedConn{conn, s}, nil
}

type streamAddr string

// Network implements net.Addr.
func (streamAddr) Network() string { return "peer" }

// String implements net.Addr.
func (a streamAddr) String() string { return string(a) }
