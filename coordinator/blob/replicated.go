package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
)

// peerSends bounds the blobs on their way to one peer. A slow one does not
// collect more: it fetches what it missed later.
const peerSends = 64

// Peer is another coordinator.
type Peer struct {
	Server    string // raft server id
	Host      string // what is dialed
	Voter     bool
	Reachable bool // it answered lately
}

// Peers are the other coordinators and their stores. Errors wrap those of this
// package where the other store gave one. A transfer over which no byte moves,
// through the fault of the other side, ends by itself.
type Peers interface {
	// Members returns whether this coordinator is a voter, and the others.
	Members() (voter bool, others []Peer)
	// Send stores all of r at a peer, durably, and returns what it stored. It
	// returns soon after ctx ends, and r is not read after it. want and max are as
	// in Store.Put.
	Send(ctx context.Context, to Peer, r io.Reader, want *Digest, max int64) (Digest, error)
	// Fetch opens the peer's own copy.
	Fetch(ctx context.Context, from Peer, digest Digest) (io.ReadCloser, int64, error)
}

// Replicated keeps each blob on a majority of the voters, itself among them
// when it is one, and fetches from the others what it lacks. Alone it costs
// what its Dir costs. Walk and Remove mean this coordinator's own copies.
type Replicated struct {
	local *Dir
	peers Peers
	life  context.Context // of what goes on after its caller has left
	end   context.CancelFunc
	work  sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	slots   map[string]chan struct{} // by server: what is on its way
	fetches map[Digest]*fetch
}

// NewReplicated replicates local. It does not close it.
func NewReplicated(local *Dir, peers Peers) *Replicated {
	r := &Replicated{local: local, peers: peers, slots: map[string]chan struct{}{}, fetches: map[Digest]*fetch{}}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Close ends what is under way with peers and waits for it.
func (r *Replicated) Close() error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.work.Wait()
	return nil
}

// start runs fn unless the store is closed.
func (r *Replicated) start(fn func()) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.closed {
		r.work.Go(fn)
	}
	return !r.closed
}

// Local returns this coordinator's own copies, which is what peers ask for.
func (r *Replicated) Local() *Dir { return r.local }

// Walk implements Store for the copies of this coordinator.
func (r *Replicated) Walk(ctx context.Context, fn func(Copy) error) error {
	return r.local.Walk(ctx, fn)
}

// Remove implements Store for the copies of this coordinator.
func (r *Replicated) Remove(ctx context.Context, c Copy) error { return r.local.Remove(ctx, c) }

// Put implements Store. It returns when a majority of the voters has the blob
// on disk; ErrNoMajority says that too few can be reached, and that the blob
// counts as not stored. Peers that are slower get it after Put returned.
func (r *Replicated) Put(ctx context.Context, src io.Reader, want *Digest, max int64) (Digest, int64, error) {
	q, err := r.quorum()
	if err != nil {
		return Digest{}, 0, err
	}
	if len(q.targets) == 0 {
		return r.local.Put(ctx, src, want, max)
	}
	returned := make(chan struct{})
	defer close(returned)
	results := make(chan sent, len(q.targets))
	digest, size, err := r.local.put(ctx, src, want, max, func(s *spool) {
		for _, to := range q.targets {
			r.send(returned, s, to, want, max, results)
		}
	})
	if err == nil {
		err = q.wait(ctx, digest, results)
	}
	if err != nil {
		return Digest{}, 0, err
	}
	return digest, size, nil
}

// quorum is what one Put needs.
type quorum struct {
	targets []Peer
	needed  int // acknowledgements of voters among them
	voters  int // of the cluster
}

// quorum decides who gets a blob. A peer that did not answer lately would only
// be waited for; it fetches the blob when it is back.
func (r *Replicated) quorum() (quorum, error) {
	self, others := r.peers.Members()
	q := quorum{}
	up := 0
	for _, p := range others {
		if p.Voter {
			q.voters++
		}
		if !p.Reachable {
			continue
		}
		q.targets = append(q.targets, p)
		if p.Voter {
			up++
		}
	}
	if self {
		q.voters++
	}
	q.needed = q.voters/2 + 1
	if self {
		q.needed--
	}
	if q.voters == 0 || up < q.needed {
		return q, fmt.Errorf("%w: %d of %d voters can be reached", ErrNoMajority, q.voters-q.missing(up, self), q.voters)
	}
	return q, nil
}

// missing is how many voters cannot be reached.
func (q quorum) missing(up int, self bool) int {
	if self {
		up++
	}
	return q.voters - up
}

// sent is how one peer took a blob.
type sent struct {
	to     Peer
	digest Digest
	err    error
}

// wait returns nil at the needed number of voters, or why it cannot be reached.
func (q quorum) wait(ctx context.Context, digest Digest, results <-chan sent) error {
	var failed error
	left := 0
	for _, p := range q.targets {
		if p.Voter {
			left++
		}
	}
	for needed := q.needed; needed > 0; {
		if left < needed {
			return fmt.Errorf("%w: %w", ErrNoMajority, failed)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case s := <-results:
			if s.err == nil && s.digest != digest {
				s.err = fmt.Errorf("%w: %s stored other bytes", ErrMismatch, s.to.Server)
			}
			if !s.to.Voter {
				continue
			}
			left--
			if s.err == nil {
				needed--
			} else {
				failed = errors.Join(failed, s.err)
			}
		}
	}
	return nil
}

// send starts sending the growing file to one peer; results gets one answer.
// It ends by itself when there will be no blob, because the file then ends with
// an error.
func (r *Replicated) send(returned <-chan struct{}, s *spool, to Peer, want *Digest, max int64, results chan<- sent) {
	f, err := s.follow(r.life)
	if err != nil {
		results <- sent{to: to, err: err}
		return
	}
	slot := r.slot(to.Server)
	started := r.start(func() {
		defer f.Close()
		if err := r.enter(slot, returned); err != nil {
			results <- sent{to: to, err: err}
			return
		}
		defer func() { <-slot }()
		digest, err := r.peers.Send(r.life, to, f, want, max)
		results <- sent{to, digest, err}
	})
	if !started {
		results <- sent{to: to, err: errors.Join(context.Canceled, f.Close())}
	}
}

// enter takes a place for a blob. It waits for one only as long as the Put does:
// then enough others have it.
func (r *Replicated) enter(slot chan struct{}, returned <-chan struct{}) error {
	select {
	case slot <- struct{}{}:
		return nil
	default:
	}
	select {
	case slot <- struct{}{}:
		return nil
	case <-returned:
		return context.Canceled
	case <-r.life.Done():
		return r.life.Err()
	}
}

// slot returns the places for blobs on their way to a server. Servers are few,
// and one that left costs nothing worth removing.
func (r *Replicated) slot(server string) chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.slots[server]
	if s == nil {
		s = make(chan struct{}, peerSends)
		r.slots[server] = s
	}
	return s
}
