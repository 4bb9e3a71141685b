// Package forward lets every coordinator take writes and answer reads: on a
// node that does not lead, commands go to the leader in batches, and the check
// before a read asks the leader. See DESIGN.md.
package forward

import (
	"context"
	"errors"
	"sync"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

// Cluster is what a Forwarder knows of the node that it runs on.
type Cluster interface {
	// IsLeader reports whether this node leads.
	IsLeader() bool
	// LeaderPeer is the leader's address; false when none is known.
	LeaderPeer() (peer.Address, bool)
	// VerifyLeader returns nil when this node led at some moment after the call,
	// and has applied all that was acknowledged before it.
	VerifyLeader(ctx context.Context) error
	// ReadIndex verifies as VerifyLeader does and returns what a reader elsewhere
	// must have applied.
	ReadIndex(ctx context.Context) (uint64, error)
	// WaitApplied returns once this node has applied index.
	WaitApplied(ctx context.Context, index uint64) error
}

// Config is what a Forwarder needs.
type Config struct {
	Cluster Cluster
	// Call makes one call to another coordinator; errors are those of peer.Call.
	Call func(ctx context.Context, to peer.Address, method string, in, out any) error
	// Write applies a command on this node while it leads. An error with
	// details.outcome "none" says that it will never happen.
	Write func(ctx context.Context, c *command.Command) (command.Result, error)
}

const (
	// noLeaderGrace is how long a request waits for a leader to be named when
	// none is: an election that ends in this moment is bridged, and the answer
	// still comes within the 100 ms that issue B asks for.
	noLeaderGrace = 50 * time.Millisecond

	// patience is how long a write that certainly did not happen is tried with a
	// leader that is known and does not take it: it is being established, or was
	// just lost. It is above an election; what may have happened is tried until
	// the caller's time is over.
	patience = 3 * time.Second

	// retryPause is between two tries. The first is at once.
	retryPause = 10 * time.Millisecond

	// watchPeriod is how soon calls are ended that wait for a leader that is not
	// the leader any more: one that hangs, for example, with its disk.
	watchPeriod = 50 * time.Millisecond
)

// Forwarder is the way of clients' writes and read checks. Its methods are safe
// for concurrent use between Begin and its end.
type Forwarder struct {
	cfg Config

	mu     sync.Mutex
	base   context.Context // of calls; nil before Begin and after its end
	work   sync.WaitGroup  // workers; added to under mu while base is set
	queue  []*write        // that wait for a call
	calls  int             // workers under way
	flying map[*flight]struct{}
	next   *check // of readers that wait for the next round
	rounds bool   // a round is under way
}

// New returns a Forwarder.
func New(cfg Config) *Forwarder {
	return &Forwarder{cfg: cfg, flying: make(map[*flight]struct{})}
}

// Begin lets requests in. end must be called: it waits until ctx has ended, and
// then until every call has.
func (f *Forwarder) Begin(ctx context.Context) (end func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.base = ctx
	return func() { f.run(ctx) }
}

func (f *Forwarder) run(ctx context.Context) {
	tick := time.NewTicker(watchPeriod)
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-tick.C:
			f.endLost()
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	f.base = nil
	f.mu.Unlock()
	f.work.Wait()
}

// flight is one call under way.
type flight struct {
	to     peer.Address
	cancel context.CancelCauseFunc
}

// errMoved ends calls to who is not the leader any more.
var errMoved = errors.New("that coordinator does not lead any more")

// endLost ends the calls to former leaders: what they carried is asked again of
// the next one.
func (f *Forwarder) endLost() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.flying) == 0 {
		return
	}
	leader, ok := f.cfg.Cluster.LeaderPeer()
	for fl := range f.flying {
		if !ok || fl.to != leader {
			fl.cancel(errMoved)
		}
	}
}

// call is one exchange with a leader. It ends when that leads no more.
func (f *Forwarder) call(ctx context.Context, to peer.Address, method string, in, out any) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	fl := &flight{to: to, cancel: cancel}
	f.mu.Lock()
	f.flying[fl] = struct{}{}
	f.mu.Unlock()
	err := f.cfg.Call(ctx, to, method, in, out)
	f.mu.Lock()
	delete(f.flying, fl)
	f.mu.Unlock()
	return err
}

// start runs fn until the end; false when that is over. The lock is held.
func (f *Forwarder) start(fn func(ctx context.Context)) bool {
	base := f.base
	if base == nil {
		return false
	}
	f.work.Go(func() { fn(base) })
	return true
}

// Seeker finds the leader for one request, again and again. It belongs to one
// goroutine.
type Seeker struct {
	f       *Forwarder
	began   time.Time
	missing time.Time // since when no leader is known
	tries   int
}

// Seek begins a search.
func (f *Forwarder) Seek() *Seeker { return &Seeker{f: f, began: time.Now()} }

// Turn returns where to try next, after a short wait when it is not the first
// try. unsure says that an earlier try may have had its effect: then the search
// goes on until ctx ends. here means that this node leads. The error is NO_LEADER
// with outcome "none".
func (s *Seeker) Turn(ctx context.Context, unsure bool) (to peer.Address, here bool, err error) {
	for {
		if s.tries++; s.tries > 1 {
			if unsure || time.Since(s.began) < patience {
				pause(ctx, retryPause)
			} else {
				return to, false, noLeader("The leader does not take the request yet")
			}
		}
		if ctx.Err() != nil {
			return to, false, noLeader("No coordinator took the request in time")
		}
		if s.f.cfg.Cluster.IsLeader() {
			return to, true, nil
		}
		if to, ok := s.f.cfg.Cluster.LeaderPeer(); ok {
			s.missing = time.Time{}
			return to, false, nil
		}
		if now := time.Now(); s.missing.IsZero() {
			s.missing = now
		} else if !unsure && now.Sub(s.missing) >= noLeaderGrace {
			return to, false, noLeader("No coordinator leads at the moment")
		}
	}
}

// pause waits, or less when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// The values of details.outcome.
const (
	outcomeNone    = "none"
	outcomeUnknown = "unknown"
)

func noLeader(message string) *protocol.Error {
	return protocol.NewError(protocol.CodeNoLeader, message).With("outcome", outcomeNone)
}

// moved reports whether err means that another coordinator, or a later try,
// may take the request, and whether this one certainly had no effect.
func moved(err error) (again, none bool) {
	var lost *peer.Unreachable
	if errors.As(err, &lost) {
		return true, !lost.Sent
	}
	var e *protocol.Error
	if !errors.As(err, &e) || e.Code != protocol.CodeNoLeader && e.Code != protocol.CodeUnavailable {
		return false, false
	}
	return true, e.Details["outcome"] == outcomeNone
}
