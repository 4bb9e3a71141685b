package coordinator

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/state"
)

const (
	// fillRate bounds what a node fetches in the background, in bytes a second: a
	// fraction of a disk and of a network, both of which the log shares. 6.4 GiB
	// of inputs take under two minutes.
	fillRate = 64 << 20

	// fillAtOnce hides the round trips and syncs of small blobs.
	fillAtOnce = 4

	// fillDelay is how long a blob may be on its way here after the command that
	// names it was applied: the slowest of the coordinators gets it last.
	fillDelay = 10 * time.Second

	// fillTick is how often what is on its way is looked for, and a cluster, and a
	// leader, where there is none yet: whoever joins waits for it.
	fillTick = time.Second

	// lookPeriod is the pause between two looks at everything, beside what changes:
	// a look costs a fraction of a second for a million jobs.
	lookPeriod = 15 * time.Minute

	// fillRetry and fillRetryMax bound the pause after a round that brought
	// nothing: whoever has the rest does not answer. What no coordinator that
	// answers had in two rounds this far apart counts as being nowhere.
	fillRetry    = 10 * time.Second
	fillRetryMax = 5 * time.Minute
)

// filler fetches what the state names and this node lacks: it joined, its disk
// was emptied, or it was too slow or away when the blob was stored. It knows up
// to which entry of the log everything is here (copies).
type filler struct {
	store   *blob.Replicated
	peers   blob.Peers
	names   func(context.Context, func(blob.Digest)) (*state.View, error)
	state   *state.Store
	applied func() uint64 // newest log entry that the state has
	log     zerolog.Logger
	limit   *rate.Limiter

	missing atomic.Int64  // as far as is known; -1 before the first look
	fetched atomic.Uint64 // so far

	mu      sync.Mutex
	good    uint64                    // everything that is named up to this entry is here, or nowhere
	clean   bool                      // and everything up to seen
	seen    uint64                    // newest change that was looked at
	nowhere map[blob.Digest]time.Time // since when no coordinator that answers has them
	trouble error                     // why the newest fetch that failed did
	came    time.Time                 // when the newest blob came, or the first was missed
}

func newFiller(store *blob.Replicated, peers blob.Peers, names func(context.Context, func(blob.Digest)) (*state.View, error), st *state.Store, applied func() uint64, log zerolog.Logger) *filler {
	f := &filler{
		store: store, peers: peers, names: names, state: st, applied: applied, log: log,
		limit: rate.NewLimiter(fillRate, fillRate), nowhere: make(map[blob.Digest]time.Time),
	}
	f.missing.Store(-1)
	return f
}

// run looks at everything once, then at what changes, until ctx ends.
func (f *filler) run(ctx context.Context) {
	for wait := fillRetry; ctx.Err() == nil; {
		if _, others := f.peers.Members(); len(others) == 0 { // nobody to fetch from
			pause(ctx, fillTick)
			continue
		}
		view, lacking, err := f.look(ctx)
		if view == nil {
			pause(ctx, fillTick) // no leader yet; nothing is known
			continue
		}
		came := f.fetch(ctx, lacking)
		if came > 0 || len(lacking) == 0 {
			wait = fillRetry
		}
		switch {
		case f.settle(view, lacking, err):
			again := lookPeriod
			if len(lacking) > came || err != nil { // it may come back
				again, wait = wait, min(2*wait, fillRetryMax)
			}
			f.follow(ctx, view, again)
		case came == 0:
			pause(ctx, wait)
			wait = min(2*wait, fillRetryMax)
		}
	}
}

// look returns what is lacking of everything that the state names. An error
// beside a view says that archived jobs may lack more.
func (f *filler) look(ctx context.Context) (*state.View, []blob.Digest, error) {
	lacking := map[blob.Digest]bool{}
	var failed error
	view, err := f.names(ctx, func(d blob.Digest) {
		if ok, err := f.store.Local().Has(d); err != nil {
			failed = err
		} else if !ok {
			lacking[d] = true
		}
	})
	if failed != nil || view == nil {
		return nil, nil, errors.Join(err, failed)
	}
	f.missing.Store(int64(len(lacking)))
	list := make([]blob.Digest, 0, len(lacking))
	for d := range lacking {
		list = append(list, d)
	}
	f.lack(lacking)
	return view, list, err
}

// fetch brings what it can and returns how many came.
func (f *filler) fetch(ctx context.Context, lacking []blob.Digest) int {
	if len(lacking) == 0 {
		return 0
	}
	f.log.Info().Int("missing", len(lacking)).Msg("payloads are fetched from the other coordinators")
	var came atomic.Int64
	var group errgroup.Group
	group.SetLimit(fillAtOnce)
	for _, d := range lacking {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			err := f.store.Fetch(ctx, d)
			f.tried(ctx, d, err)
			if err == nil {
				came.Add(1)
				f.missing.Add(-1)
				f.fetched.Add(1)
				err = f.rest(ctx, d)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		f.log.Warn().Err(err).Int64("missing", f.missing.Load()).Msg("not all payloads could be fetched yet")
	}
	return int(came.Load())
}

// rest waits for the time that a blob's size takes at fillRate.
func (f *filler) rest(ctx context.Context, d blob.Digest) error {
	r, size, err := f.store.Local().Get(ctx, d)
	if err != nil {
		return err
	}
	if err := r.Close(); err != nil {
		return err
	}
	for size > 0 && err == nil {
		n := min(size, fillRate)
		err = f.limit.WaitN(ctx, int(n))
		size -= n
	}
	return err
}

// awaited is a blob that is on its way here.
type awaited struct {
	digest blob.Digest
	index  uint64 // of the change that names it
	since  time.Time
}

// follow returns when something that was named a while ago is not here, when
// the cursor was left behind, or after a while, to look at everything again.
func (f *filler) follow(ctx context.Context, view *state.View, again time.Duration) {
	cursor := f.state.Subscribe(view.Index())
	segments, ends := newestSegment(view), time.Now().Add(again)
	var waiting []awaited
	f.advance(view.Index(), waiting)
	at := view.Index()
	for time.Now().Before(ends) {
		turn, cancel := context.WithTimeout(ctx, fillTick)
		now := time.Now()
		var err error
		for err == nil {
			var changes state.Changes
			changes, err = cursor.Next(turn)
			at = max(at, changes.Index)
			name := func(d blob.Digest) { waiting = append(waiting, awaited{d, changes.Index, now}) }
			for _, c := range changes.List {
				if c.Job != nil {
					c.Job.Blobs(name)
					if o := c.Job.Outcome; o != nil {
						o.Outputs(func(b *state.Blob) { name(b.SHA256) })
					}
				}
			}
		}
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		// A view is published before its changes are: their index is not above it.
		for _, g := range f.state.View().Segments() {
			if g.Number > segments {
				segments, waiting = g.Number, append(waiting, awaited{g.SHA256, at, now})
			}
		}
		waiting = f.still(waiting)
		f.advance(at, waiting)
		if len(waiting) > 0 && now.Sub(waiting[0].since) >= fillDelay {
			return
		}
	}
}

// still returns those that are not here yet, in their order.
func (f *filler) still(waiting []awaited) []awaited {
	kept := waiting[:0]
	for _, w := range waiting {
		if ok, err := f.store.Local().Has(w.digest); (err != nil || !ok) && !f.isNowhere(w.digest) {
			kept = append(kept, w)
		}
	}
	return kept
}

// newestSegment is the number of the archive's newest segment, or 0.
func newestSegment(view *state.View) uint64 {
	list := view.Segments()
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Number
}

// unreadable are the segments because of which the names are incomplete; false:
// they are so for another reason.
func unreadable(err error) ([]*archive.Unreadable, bool) {
	var gaps *archive.Incomplete
	if errors.As(err, &gaps) {
		return gaps.Segments, true
	}
	return nil, err == nil
}
