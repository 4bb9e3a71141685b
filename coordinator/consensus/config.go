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
	// Directory holds raft/, snapshots/ and LOCK (DESIGN 7: <data>/coordinator).
	// The node gives it back when it is closed, and Open when it fails.
	Directory *Directory

	// Memory replaces Directory: nothing touches a disk, which is what tests in
	// virtual time need.
	Memory *Memory

	// Port is how this node reaches the others and is reached. Open registers
	// its methods there, so it must not serve before. nil: there are no others.
	// Memory's nodes are then connected by their tests.
	Port Port

	// Join are the peer addresses (host:port) that an empty node asks for its
	// cluster; its own may be among them.
	Join []string

	// Expect is the number of voters that a cluster is formed with, the same on
	// all of them, and the number below which no dead one is removed. An empty
	// node with Expect 1 that has nobody to ask forms a cluster of its own; with
	// more it joins the cluster of anyone in Join, and the lowest of Expect
	// empty nodes forms one if there is none.
	Expect int

	// Describe is what this node tells the others about itself besides raft;
	// nil: nothing.
	Describe func() Description

	// Membership are the durations of joining and leaving; zero values are
	// right.
	Membership Membership

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

	// Fence copies a state that was verified, for RestoreSnapshot, so that
	// nothing of the time after it is accepted. Without it nothing is restored.
	Fence func(in io.Reader, out io.Writer) error

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
	Commit    time.Duration // an idle leader tells a commit within twice this
}

// Membership are the durations of joining and leaving.
type Membership struct {
	Poll   time.Duration // between two questions to each other server
	Stable time.Duration // for which a new server keeps up before it may vote
	Dead   time.Duration // without an answer, after which a server may be removed
}

const (
	// soloTimeout is for one voter: there is nobody to contest the election and
	// no contact to lose, so the timeout is nothing but the time that a restart
	// waits before it leads.
	soloTimeout = 100 * time.Millisecond

	// clusterTimeout is for several voters. With pre-votes a leader is replaced
	// when all followers have missed it, which is 2.1 times this in the median
	// and 3 times at worst: 0.75 s and 1.05 s, where the issue allows 1 s and 3 s
	// until the first submit. Heartbeats pass through the main loop, behind
	// fsync (DESIGN 3.9), but an append that waited there counts as contact, so
	// a slow disk alone elects nobody.
	clusterTimeout = 350 * time.Millisecond

	// clusterElection is how long a candidate waits for votes. It is longer,
	// because each vote is two writes there: on machines that are busy beyond
	// measure, candidates that give up early elect nobody for minutes.
	clusterElection = 2 * clusterTimeout

	// clusterLease is as long as clusterTimeout: a leader that steps down early because it was not
	// scheduled for a moment costs an election, and one that steps down late
	// costs nothing, because reads ask a quorum and never the lease.
	clusterLease = clusterTimeout

	// commitTimeout bounds how long after the leader an idle follower applies: a
	// commit is told with the next append, and without one after this to twice
	// this. A read at a follower waits for it. DESIGN.md has what it costs.
	commitTimeout = 10 * time.Millisecond

	pollInterval = time.Second
	stableTime   = 5 * time.Second
	deadTime     = time.Minute
)

func (c *Config) validate() error {
	switch {
	case c.FSM == nil:
		return errors.New("cannot open consensus: FSM is not set")
	case c.Memory == nil && c.Directory == nil:
		return errors.New("cannot open consensus: no data directory: set data")
	case c.Expect < 1:
		return fmt.Errorf("cannot open consensus: expect is %d: set it to the number of coordinators", c.Expect)
	}
	return nil
}

// defaults fills what was left zero.
func (c *Config) defaults() {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	t := &c.Timeouts
	if c.Expect == 1 {
		set(&t.Heartbeat, soloTimeout)
	}
	set(&t.Heartbeat, clusterTimeout)
	if c.Expect > 1 {
		set(&t.Election, t.Heartbeat*clusterElection/clusterTimeout)
	}
	set(&t.Election, t.Heartbeat)
	set(&t.Lease, t.Heartbeat*clusterLease/clusterTimeout)
	set(&t.Commit, commitTimeout)
	set(&c.Membership.Poll, pollInterval)
	set(&c.Membership.Stable, stableTime)
	set(&c.Membership.Dead, deadTime)
	if c.WallMs == nil {
		c.WallMs = func() int64 { return time.Now().UnixMilli() }
	}
	if c.Describe == nil {
		c.Describe = func() Description { return Description{} }
	}
}
