package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
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
	home     home
	server   string // this node's server id
	raft     *raft.Raft
	store    *store
	logs     *raft.LogCache
	trans    raft.Transport
	snaps    raft.SnapshotStore
	track    *tracker
	clock    *Clock
	proposer *Proposer
	verifier *verifier
	members  *membership
	lead     *leadership
	leaders  atomic.Uint64 // seen since Open
	fatal    chan error
	release  []func() error  // in reverse order of opening
	base     context.Context // ends with Close
	stop     context.CancelFunc
	ended    sync.WaitGroup
	asking   sync.WaitGroup // for what raft was asked and has not answered

	mu     sync.Mutex
	closed bool
	asked  []string // join addresses that Join added
}

// Open starts the node: it takes the directory, refuses a damaged newest
// snapshot (*SnapshotError), restores the FSM and joins or forms its cluster.
// It returns before a leader is known.
func Open(cfg Config) (*Node, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	n := &Node{cfg: cfg, fatal: make(chan error, 1), clock: newClock(cfg.WallMs)}
	n.base, n.stop = context.WithCancel(context.Background())
	if err := n.open(); err != nil {
		n.stop()
		return nil, errors.Join(err, n.releaseAll())
	}
	ctx := n.base
	n.ended.Go(func() { n.budget(ctx) })
	n.ended.Go(func() { n.store.mark.run(ctx, n.store.fail) })
	transfer := newTransferWatchdog(n.cfg.Timeouts.Election, n.barrier, n.store.fail)
	n.ended.Go(func() { transfer.run(ctx) })
	n.proposer = newProposer(&Proposer{
		level: n.cfg.Feature, answered: transfer.answered,
		apply:    func(b []byte) future { return applyFuture{n.raft.Apply(b, 0)} },
		leading:  n.IsLeader,
		inFlight: n.inFlight,
		failed:   n.failure,
		clock:    n.clock,
	})
	n.verifier = newVerifier(&verifier{
		raft: n.raft, check: func() error { return n.raft.VerifyLeader().Error() }, fresh: n.answeredSince,
		track: n.track, barrier: n.barrier, logs: n.logs,
	})
	n.lead = &leadership{ch: make(chan bool, 1)}
	n.ended.Go(func() { n.lead.follow(ctx, n.raft.LeaderCh()) })
	n.members = newMembership(n)
	n.ended.Go(func() { n.members.run(ctx) })
	return n, nil
}

// applyFuture narrows raft's future; its Response is an any there too.
type applyFuture struct{ raft.ApplyFuture }

// Response implements future.
func (f applyFuture) Response() any { return f.ApplyFuture.Response() }

func (n *Node) open() error {
	log := newBridge(n.cfg.Log)
	back, err := n.openStorage(log)
	if err != nil {
		return err
	}
	n.server = n.home.identity().ServerID
	n.trans = n.openTransport(log)
	if err := n.guard(back); err != nil {
		return err
	}
	n.track = newTracker(n.base, faultyFSM(n.cfg.FSM), n.snaps)
	n.track.fail = n.store.fail
	n.cfg.defaults()
	conf := n.raftConfig(log)
	if err := n.bootstrap(conf); err != nil {
		return err
	}
	err = caught(func() (err error) {
		n.raft, err = raft.NewRaft(conf, n.track, n.logs, n.store, n.snaps, n.trans)
		return err
	})
	if err != nil {
		return n.startError(err)
	}
	n.store.running.Store(true)
	n.track.loop.Store(&snapshotLoop{entries: n.store.entries.Load, fail: n.store.fail})
	n.countLeaders()
	if size := len(n.configuration().Servers); n.cfg.Expect == 1 && size > 1 {
		// Timeouts of one voter would elect all the time.
		return errors.Join(fmt.Errorf("cannot open consensus: this coordinator is in a cluster of %d, and expect is 1: set expect and join as on the others", size),
			n.raft.Shutdown().Error())
	}
	return nil
}

// configuration is the newest one that this node knows, committed or not.
func (n *Node) configuration() raft.Configuration {
	return n.raft.GetConfiguration().Configuration()
}

// guard puts what this package does not trust a disk with around the storage.
func (n *Node) guard(back backend) error {
	if n.cfg.wrap != nil {
		back = n.cfg.wrap(back)
	}
	var err error
	if n.store, n.logs, err = newStore(faultyDisk(back), stallLimit, n.fail); err != nil {
		return err
	}
	n.store.covered = n.snapshotIndex
	dir := ""
	if d := n.cfg.Directory; d != nil {
		dir = d.path
		if err := n.openWatermark(); err != nil {
			return err
		}
	}
	n.snaps = snapshots{SnapshotStore: faultySnapshots(n.snaps), dir: dir, fail: n.store.fail}
	return nil
}

func (n *Node) raftConfig(log hclog.Logger) *raft.Config {
	t := n.cfg.Timeouts
	conf := raft.DefaultConfig()
	conf.LocalID = raft.ServerID(n.server)
	conf.HeartbeatTimeout, conf.ElectionTimeout, conf.LeaderLeaseTimeout = t.Heartbeat, t.Election, t.Lease
	conf.CommitTimeout = t.Commit
	conf.MaxAppendEntries = maxAppendEntries
	conf.TrailingLogs, conf.SnapshotThreshold, conf.SnapshotInterval = snapshotLimits(startTrailing, startTrailing, snapshotInterval)
	conf.ShutdownOnRemove = false // a removed node still has answers to give
	conf.NoLegacyTelemetry = true
	conf.Logger = log
	return conf
}

func (n *Node) openStorage(log hclog.Logger) (backend, error) {
	if m := n.cfg.Memory; m != nil {
		n.home, n.snaps = m, m.snaps
		return m.store, nil
	}
	d := n.cfg.Directory
	n.home = d
	n.release = append(n.release, d.Close)
	var err error
	if n.snaps, err = openSnapshots(d.path, n.cfg.Verify, log); err != nil {
		return nil, err
	}
	w, err := openWAL(d.logDir(), log)
	if err != nil {
		return nil, err
	}
	n.release = append(n.release, w.Close)
	return w, nil
}

func (n *Node) openTransport(log hclog.Logger) raft.Transport {
	if n.cfg.Port == nil {
		_, trans := raft.NewInmemTransport(raft.ServerAddress(n.server))
		return trans
	}
	trans := newNetwork(newStream(n.cfg.Port, n.server), log)
	n.release = append(n.release, trans.Close)
	return trans
}

// answeredSince reports whether a majority has answered to something that was
// sent at or after that moment. Memory's transport delivers at once, so there
// every answer is new.
func (n *Node) answeredSince(since time.Time) bool {
	net, ok := n.trans.(network)
	return !ok || net.replies.quorum(n.configuration(), raft.ServerID(n.server), since)
}

// countLeaders counts in raft's own goroutine, so that no change is missed.
func (n *Node) countLeaders() {
	n.raft.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if l, ok := o.Data.(raft.LeaderObservation); ok && l.LeaderID != "" {
			n.leaders.Add(1)
		}
		return false
	}))
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
func (n *Node) Identity() Identity { return n.home.identity() }

// Address is where peers reach this node.
func (n *Node) Address() string { return string(n.trans.LocalAddr()) }

// Clock is the leader's clock.
func (n *Node) Clock() *Clock { return n.clock }

// Proposer is the way into the log.
func (n *Node) Proposer() *Proposer { return n.proposer }

// Leadership delivers whether this node leads, newest value only: two trues in
// a row mean that leadership was lost and won in between, or that the state was
// replaced under it.
func (n *Node) Leadership() <-chan bool { return n.lead.ch }

// leadership is raft's channel of the same meaning, and RestoreSnapshot's word.
type leadership struct {
	ch chan bool // capacity 1: the newest value that nobody took

	mu sync.Mutex // held while a value is put
}

func (l *leadership) follow(ctx context.Context, in <-chan bool) {
	for {
		select {
		case <-ctx.Done():
			return
		case leads := <-in:
			l.tell(leads)
		}
	}
}

func (l *leadership) tell(leads bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case <-l.ch:
	default:
	}
	l.ch <- leads
}

// IsLeader reports whether this node believes that it leads.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// LeaderPeer is where the leader is, when one is known; it may be this node.
func (n *Node) LeaderPeer() (peer.Address, bool) {
	text, id := n.raft.LeaderWithID()
	if id == "" {
		return peer.Address{}, false
	}
	addr, err := peer.ParseAddress(string(text))
	if err != nil {
		return peer.Address{}, false
	}
	addr.Server = string(id)
	return addr, true
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
	if err := n.ask(func() error { return n.raft.Barrier(0).Error() }); err != nil {
		return err
	}
	n.verifier.settled.Store(term)
	return nil
}

// ask calls what waits for an answer of raft's own. Close waits for it before it
// stops raft, because raft forgets what then is in its queues: whoever waited
// would wait for ever.
func (n *Node) ask(wait func() error) error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return raft.ErrRaftShutdown
	}
	n.asking.Add(1)
	n.mu.Unlock()
	defer n.asking.Done()
	return wait()
}

// VerifyLeader returns nil when this node led at some moment after the call
// and its state holds everything that was acknowledged before it: a read that
// follows is linearizable. Calls that wait at the same time share one round of
// messages.
func (n *Node) VerifyLeader(ctx context.Context) error {
	index, err := n.verifier.verify(ctx)
	if err != nil {
		return err
	}
	return n.track.wait(ctx, index)
}

// ReadIndex is VerifyLeader for another node: the index that a reader must
// have applied, there, for its read to be linearizable.
func (n *Node) ReadIndex(ctx context.Context) (uint64, error) { return n.verifier.verify(ctx) }

// WaitApplied returns once this node has applied index, or with ctx's error.
func (n *Node) WaitApplied(ctx context.Context, index uint64) error { return n.track.wait(ctx, index) }

func (n *Node) voters() int {
	count := 0
	for _, s := range n.configuration().Servers {
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
// in flight, and stops everything that Open started; a snapshot that is being
// written is given up. It returns early, with
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
		if err := n.handOn(); err != nil {
			n.cfg.Log.Warn().Err(err).Msg("leadership could not be handed on, the others will elect")
		}
	}
	n.proposer.close()
	n.verifier.close()
	n.asking.Wait()
	var err error
	if t, ok := n.trans.(network); ok {
		err = t.Close() // raft would wait for the answers of silent servers
	}
	err = errors.Join(err, n.raft.Shutdown().Error())
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
