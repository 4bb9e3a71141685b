package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// maxAppendEntries is the entries of one append to a follower. An entry is a
	// batch of up to a megabyte, so raft's default of 64 would be too much in
	// one message (architecture.md 2.9).
	maxAppendEntries = 16

	// snapshotInterval is how often raft asks whether a snapshot is due.
	snapshotInterval = 30 * time.Second
)

// Node is this process's member of the raft cluster. Open makes it, Close ends
// everything it started.
type Node struct {
	cfg      Config
	id       Identity
	address  string
	raft     *raft.Raft
	store    *store
	logs     *raft.LogCache
	trans    raft.Transport
	snaps    raft.SnapshotStore
	track    *tracker
	clock    *Clock
	proposer *Proposer
	verifier *verifier
	fatal    chan error
	release  []func() error // in reverse order of opening
	stop     context.CancelFunc
	ended    sync.WaitGroup

	mu     sync.Mutex
	closed bool
}

// Open starts the node: it takes the directory, refuses a damaged newest
// snapshot (*SnapshotError), restores the FSM and joins or forms its cluster.
// It returns before a leader is known.
func Open(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, fatal: make(chan error, 1), clock: newClock(cfg.WallMs)}
	if err := n.open(); err != nil {
		return nil, errors.Join(err, n.releaseAll())
	}
	var ctx context.Context
	ctx, n.stop = context.WithCancel(context.Background())
	n.ended.Go(func() { n.budget(ctx) })
	n.ended.Go(func() { n.store.mark.run(ctx, n.store.fail) })
	transfer := newTransferWatchdog(n.cfg.timeouts().Election, n.barrier, n.store.fail)
	n.ended.Go(func() { transfer.run(ctx) })
	n.proposer = newProposer(&Proposer{
		level: n.cfg.Feature, answered: transfer.answered,
		apply:    func(b []byte) future { return applyFuture{n.raft.Apply(b, 0)} },
		leading:  n.IsLeader,
		inFlight: n.inFlight,
		failed:   n.failure,
		clock:    n.clock,
	})
	n.verifier = newVerifier(&verifier{raft: n.raft, track: n.track, barrier: n.barrier, logs: n.logs})
	return n, nil
}

// applyFuture narrows raft's future; its Response is an any there too.
type applyFuture struct{ raft.ApplyFuture }

// Response implements future.
func (f applyFuture) Response() any { return f.ApplyFuture.Response() }

func (n *Node) open() error {
	log := newBridge(n.cfg.Log)
	var back backend
	var trans raft.Transport
	var err error
	if n.cfg.Memory != nil {
		back, trans = n.openMemory()
	} else if back, trans, err = n.openDisk(); err != nil {
		return err
	}
	if n.cfg.wrap != nil {
		back = n.cfg.wrap(back)
	}
	back = faultyDisk(back)
	n.trans = trans
	if n.store, n.logs, err = newStore(back, stallLimit, n.fail); err != nil {
		return err
	}
	n.store.covered = n.snapshotIndex
	if n.cfg.Memory == nil {
		if err := n.openWatermark(); err != nil {
			return err
		}
	}
	n.snaps = snapshots{SnapshotStore: faultySnapshots(n.snaps), dir: n.cfg.Dir, fail: n.store.fail}
	n.track = newTracker(faultyFSM(n.cfg.FSM), n.snaps)
	n.track.fail = n.store.fail
	t := n.cfg.timeouts()
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.id.ServerID)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.Lease
	conf.MaxAppendEntries = maxAppendEntries
	conf.TrailingLogs, conf.SnapshotThreshold, conf.SnapshotInterval = snapshotLimits(startTrailing, startTrailing, snapshotInterval)
	conf.NoLegacyTelemetry = true
	conf.Logger = log
	if err := n.bootstrap(conf, trans); err != nil {
		return err
	}
	err = caught(func() (err error) {
		n.raft, err = raft.NewRaft(conf, n.track, n.logs, n.store, n.snaps, trans)
		return err
	})
	if err != nil {
		return n.startError(err)
	}
	n.store.running.Store(true)
	n.track.loop.Store(&snapshotLoop{entries: n.store.entries.Load, fail: n.store.fail})
	return nil
}

func (n *Node) openMemory() (backend, raft.Transport) {
	m := n.cfg.Memory
	n.id, n.snaps = m.id, m.snaps
	_, trans := raft.NewInmemTransport(m.address)
	n.address = string(m.address)
	return m.store, trans
}

func (n *Node) openDisk() (backend, raft.Transport, error) {
	dir := n.cfg.Dir
	logDir := filepath.Join(dir, "raft")
	if err := os.MkdirAll(logDir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("cannot make data directory: %w: set data to a directory that this user may write", err)
	}
	lock, err := lockDir(dir)
	if err != nil {
		return nil, nil, err
	}
	n.release = append(n.release, lock.Close)
	if n.id, err = loadIdentity(logDir); err != nil {
		return nil, nil, err
	}
	log := newBridge(n.cfg.Log)
	if n.snaps, err = openSnapshots(dir, n.cfg.Verify, log); err != nil {
		return nil, nil, err
	}
	w, err := openWAL(logDir, log)
	if err != nil {
		return nil, nil, err
	}
	n.release = append(n.release, w.Close)
	stream := n.cfg.Stream
	if stream == nil {
		if stream, err = listenTCP(n.cfg.Listen, n.cfg.Advertise); err != nil {
			return nil, nil, err
		}
	}
	trans := newNetwork(stream, log)
	n.release = append(n.release, trans.Close)
	n.address = string(trans.LocalAddr())
	return w, trans, nil
}

// bootstrap forms a cluster of this node alone, once, in a directory that has
// never been part of one. The cluster id is durable before the cluster is.
func (n *Node) bootstrap(conf *raft.Config, trans raft.Transport) error {
	if n.cfg.Expect != 1 {
		return nil
	}
	has, err := raft.HasExistingState(n.logs, n.store, n.snaps)
	if err != nil {
		return fmt.Errorf("cannot read raft state: %w", err)
	}
	if has {
		return nil
	}
	if n.id.ClusterID == "" {
		n.id.ClusterID = newID("cluster_")
	}
	if n.cfg.Memory != nil {
		n.cfg.Memory.id = n.id
	} else if err := saveIdentity(filepath.Join(n.cfg.Dir, "raft"), n.id); err != nil {
		return err
	}
	servers := []raft.Server{{ID: conf.LocalID, Address: trans.LocalAddr()}}
	if err := raft.BootstrapCluster(conf, n.logs, n.store, n.snaps, trans, raft.Configuration{Servers: servers}); err != nil {
		return fmt.Errorf("cannot form cluster: %w", err)
	}
	return nil
}

// fail is where storage errors, and what the watchdogs find, arrive, once.
func (n *Node) fail(err error) {
	// Whoever ends the process reports it too, but raft may end it first with a
	// panic of its own.
	n.cfg.Log.Error().Err(err).Msg("this coordinator cannot go on, and acknowledges nothing any more")
	n.fatal <- err
	if n.cfg.Fatal != nil {
		n.cfg.Fatal(err)
		return
	}
	os.Exit(1)
}

func (n *Node) failure() error {
	if err := n.store.failed.Load(); err != nil {
		return *err
	}
	return nil
}

// Fatal delivers the error after which nothing is acknowledged any more. At
// most one is ever sent.
func (n *Node) Fatal() <-chan error { return n.fatal }

// Identity is who this node is.
func (n *Node) Identity() Identity { return n.id }

// Address is where peers reach this node.
func (n *Node) Address() string { return n.address }

// Clock is the leader's clock.
func (n *Node) Clock() *Clock { return n.clock }

// Proposer is the way into the log.
func (n *Node) Proposer() *Proposer { return n.proposer }

// Leadership delivers whether this node leads, newest value only: two trues in
// a row mean that leadership was lost and won in between.
func (n *Node) Leadership() <-chan bool { return n.raft.LeaderCh() }

// IsLeader reports whether this node believes that it leads.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// LeaderAddr is the peer address of the leader, or "" when none is known.
func (n *Node) LeaderAddr() string {
	addr, _ := n.raft.LeaderWithID()
	return string(addr)
}

// AppliedIndex is the newest log entry that the FSM has applied.
func (n *Node) AppliedIndex() uint64 { return n.track.index() }

// Barrier returns when the FSM has applied everything that was committed
// before this leadership. It commits an entry, so it is for the start of a
// leadership; VerifyLeader is for reads.
func (n *Node) Barrier(ctx context.Context) error {
	done := make(chan error, 1)
	n.ended.Go(func() { done <- n.barrier() })
	select {
	case err := <-done:
		if err != nil {
			return proposalError(err, false)
		}
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (n *Node) barrier() error {
	if !n.IsLeader() {
		return raft.ErrNotLeader
	}
	term := n.raft.CurrentTerm()
	if err := n.raft.Barrier(0).Error(); err != nil {
		return err
	}
	n.verifier.settled.Store(term)
	return nil
}

// VerifyLeader returns nil when this node led at some moment after the call
// and its state holds everything that was acknowledged before it: a read that
// follows is linearizable. Calls that wait at the same time share one round of
// messages.
func (n *Node) VerifyLeader(ctx context.Context) error { return n.verifier.verify(ctx) }

func (n *Node) voters() int {
	count := 0
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage == raft.Voter {
			count++
		}
	}
	return count
}

func (n *Node) inFlight() int {
	if n.voters() > 1 {
		return clusterInFlight
	}
	return soloInFlight
}

// Close hands leadership on where there is somebody, lets raft answer what is
// in flight, and stops everything that Open started. It returns early, with
// ctx's error, only when the disk does not answer; the process must then end.
func (n *Node) Close(ctx context.Context) error {
	n.mu.Lock()
	again := n.closed
	n.closed = true
	n.mu.Unlock()
	if again {
		return nil
	}
	done := make(chan error, 1)
	go func() { done <- n.shutdown() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return fmt.Errorf("cannot close raft node: %w", context.Cause(ctx))
	}
}

func (n *Node) shutdown() error {
	n.stop()
	if n.IsLeader() && n.voters() > 1 {
		if err := n.raft.LeadershipTransfer().Error(); err != nil {
			n.cfg.Log.Warn().Err(err).Msg("leadership could not be handed on, the others will elect")
		}
	}
	n.proposer.close()
	n.verifier.close()
	err := n.raft.Shutdown().Error()
	n.ended.Wait()
	return errors.Join(err, n.releaseAll())
}

func (n *Node) releaseAll() error {
	var err error
	for i := len(n.release) - 1; i >= 0; i-- {
		err = errors.Join(err, n.release[i]())
	}
	n.release = nil
	return err
}
