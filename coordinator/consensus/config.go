package consensus

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"
)

// Config is what Open needs. The zero values of the optional fields are right.
type Config struct {
	// Dir holds raft/, snapshots/ and LOCK (DESIGN 7: <data>/coordinator).
	Dir string

	// Memory replaces Dir, Listen and Stream: nothing touches a disk or a
	// socket, which is what tests in virtual time need.
	Memory *Memory

	// Listen is the peer address; Advertise is what peers dial, Listen's when
	// empty.
	Listen    string
	Advertise string

	// Stream replaces the plain TCP listener on Listen. It is the one seam for
	// TLS.
	Stream raft.StreamLayer

	// Expect is the number of voters that the cluster is formed with. An empty
	// directory with Expect 1 forms a cluster of its own; with more it waits
	// until a leader adds it.
	Expect int

	// Timeouts are raft's; zero values are chosen from Expect.
	Timeouts Timeouts

	// FSM applies the log. When it is a raft.BatchingFSM, batches are used. The
	// response to an entry must be a []command.Result, one for each command.
	FSM raft.FSM

	// Feature is the replicated feature level; a command above it is refused
	// before it is proposed. nil: none is.
	Feature func() uint32

	// Verify reads a whole snapshot and fails when it is not sound: the FSM's
	// own trailer. nil: raft's checksum alone.
	Verify func(io.Reader) error

	// WallMs is the wall clock in unix milliseconds; nil: the machine's.
	WallMs func() int64

	// Fatal is called once, from any goroutine, when nothing may be
	// acknowledged any more: a storage error or a store that stalls. It must
	// end the process; nil logs one line and exits with status 1.
	Fatal func(error)

	Log zerolog.Logger

	// wrap puts a faulty disk under the guards, in tests.
	wrap func(backend) backend
}

// Timeouts are the durations of raft's elections.
type Timeouts struct {
	Heartbeat time.Duration // a follower without contact for this long starts an election
	Election  time.Duration // a candidate without a result for this long tries again
	Lease     time.Duration // a leader without a quorum's contact for this long steps down
}

const (
	// soloTimeout is for one voter: there is nobody to contest the election and
	// no contact to lose, so the timeout is nothing but the time that a restart
	// waits before it leads.
	soloTimeout = 100 * time.Millisecond

	// clusterTimeout is for several voters. Heartbeats pass through the main
	// loop, behind fsync (DESIGN 3.9), so it has to stand above a slow disk's
	// p99.9, not above a round trip.
	clusterTimeout = time.Second
)

func (c *Config) validate() error {
	switch {
	case c.FSM == nil:
		return errors.New("cannot open consensus: FSM is not set")
	case c.Memory == nil && c.Dir == "":
		return errors.New("cannot open consensus: no data directory: set data")
	case c.Memory == nil && c.Listen == "" && c.Stream == nil:
		return errors.New("cannot open consensus: no peer address: set peer.listen")
	case c.Expect < 1:
		return fmt.Errorf("cannot open consensus: expect is %d: set it to the number of coordinators", c.Expect)
	}
	return nil
}

func (c *Config) timeouts() Timeouts {
	t := c.Timeouts
	base := soloTimeout
	if c.Expect > 1 {
		base = clusterTimeout
	}
	if t.Heartbeat == 0 {
		t.Heartbeat = base
	}
	if t.Election == 0 {
		t.Election = t.Heartbeat
	}
	if t.Lease == 0 {
		t.Lease = t.Heartbeat / 2
	}
	return t
}
