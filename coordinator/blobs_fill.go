package coordinator

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

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

	// lookPeriod is the pause between two looks at everything, beside what changes:
	// a look costs a fraction of a second for a million jobs.
	lookPeriod = 15 * time.Minute

	// fillRetry and fillRetryMax bound the pause after a round that brought
	// nothing: whoever has the rest does not answer.
	fillRetry    = 10 * time.Second
	fillRetryMax = 5 * time.Minute
)

// filler fetches what the state names and this node lacks: it joined, its disk
// was emptied, or it was too slow or away when the blob was stored.
type filler struct {
	store *blob.Replicated
	peers blob.Peers
	names func(context.Context, func(blob.Digest)) (*state.View, error)
	state *state.Store
	log   zerolog.Logger
	limit *rate.Limiter

	missing atomic.Int64  // as far as is known; -1 before the first look
	fetched atomic.Uint64 // so far
}

func newFiller(store *blob.Replicated, peers blob.Peers, names func(context.Context, func(blob.Digest)) (*state.View, error), st *state.Store, log zerolog.Logger) *filler {
	f := &filler{store: store, peers: peers, names: names, state: st, log: log, limit: rate.NewLimiter(fillRate, fillRate)}
	f.missing.Store(-1)
	return f
}

// run looks at everything once, then at what changes, until ctx ends.
func (f *filler) run(ctx context.Context) {
	for wait := fillRetry; ctx.Err() == nil; {
		if _, others := f.peers.Members(); len(others) == 0 { // nobody to fetch from
			pause(ctx, fillDelay)
			continue
		}
		view, lacking, err := f.look(ctx)
		switch {
		case view == nil:
			pause(ctx, fillRetry) // no leader yet; nothing is known
		case len(lacking) == 0 && err == nil:
			wait = fillRetry
			f.follow(ctx, view)
		case f.fetch(ctx, lacking) > 0:
			wait = fillRetry
		default:
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
			err := f.one(ctx, d)
			if err == nil {
				came.Add(1)
				f.missing.Add(-1)
				f.fetched.Add(1)
			}
			return err
		})
	}
	if err := group.Wait(); err != nil && ctx.Err() == nil {
		f.log.Warn().Err(err).Int64("missing", f.missing.Load()).Msg("not all payloads could be fetched yet")
	}
	return int(came.Load())
}

// one fetches a blob and waits for the time that its size takes at fillRate.
func (f *filler) one(ctx context.Context, d blob.Digest) error {
	if err := f.store.Fetch(ctx, d); err != nil {
		return err
	}
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

// follow returns when something that was named a while ago is not here, when
// the cursor was left behind, or when it is time to look at everything again.
func (f *filler) follow(ctx context.Context, view *state.View) {
	cursor := f.state.Subscribe(view.Index())
	segments := newestSegment(view)
	var old, fresh []blob.Digest
	for range lookPeriod / fillDelay {
		fresh = fresh[:0]
		turn, cancel := context.WithTimeout(ctx, fillDelay)
		var err error
		for err == nil {
			var changes state.Changes
			changes, err = cursor.Next(turn)
			for _, c := range changes.List {
				if c.Job != nil {
					c.Job.Blobs(func(d blob.Digest) { fresh = append(fresh, d) })
					if o := c.Job.Outcome; o != nil {
						o.Outputs(func(b *state.Blob) { fresh = append(fresh, b.SHA256) })
					}
				}
			}
		}
		cancel()
		if ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return
		}
		for _, g := range f.state.View().Segments() {
			if g.Number > segments {
				segments, fresh = g.Number, append(fresh, g.SHA256)
			}
		}
		for _, d := range old {
			if ok, err := f.store.Local().Has(d); err != nil || !ok {
				return
			}
		}
		old, fresh = fresh, old
	}
}

// newestSegment is the number of the archive's newest segment, or 0.
func newestSegment(view *state.View) uint64 {
	list := view.Segments()
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].Number
}
