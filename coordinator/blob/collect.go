package blob

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

const (
	// collectPeriod is the pause between two rounds of a Collector. A round reads
	// every name in the store and every job: seconds of one core for a million.
	collectPeriod = 15 * time.Minute

	// collectRounds is how many rounds in a row must find a copy without a name
	// before it is removed: at least 60 minutes after it was stored. Between a Put
	// and the command that names the blob are a request's own time (15 s) and, for
	// a result, the agent's back-off; an agent stores again what it could not hand
	// in for protocol.BlobTerm (30 minutes). Rounds are counted, not hours: a
	// process or a host that was stopped for a day does not come back to find
	// everything old at once.
	collectRounds = 5
)

// Names calls name for every blob that must be kept, as of a state that holds
// all that was committed before the call. After an error nothing may be removed.
type Names func(ctx context.Context, name func(Digest)) error

// Collector removes what nothing names. One goroutine runs it.
type Collector struct {
	store Store
	names Names
	seen  map[Copy]int // copies without a name: how many rounds in a row

	collected atomic.Uint64
	bytes     atomic.Uint64
}

// NewCollector returns a collector of a store.
func NewCollector(store Store, names Names) *Collector {
	return &Collector{store: store, names: names, seen: map[Copy]int{}}
}

// Collected returns how many copies, and how many bytes, were removed so far.
func (c *Collector) Collected() (copies, bytes uint64) { return c.collected.Load(), c.bytes.Load() }

// Run does a round every collectPeriod until ctx ends; failed gets the error of
// a round that removed nothing, or not all.
func (c *Collector) Run(ctx context.Context, failed func(error)) {
	tick := time.NewTicker(collectPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := c.Round(ctx); err != nil && ctx.Err() == nil {
			failed(err)
		}
	}
}

// Round looks at every copy once. It removes those that had no name in
// collectRounds rounds in a row, and those of a named blob that were so long
// followed by a newer one.
func (c *Collector) Round(ctx context.Context) error {
	named, err := c.mark(ctx)
	if err != nil {
		return fmt.Errorf("cannot list the blobs in use: %w", err)
	}
	seen := make(map[Copy]int, len(c.seen))
	var garbage []Copy
	take := func(cp Copy) {
		if seen[cp] = c.seen[cp] + 1; seen[cp] >= collectRounds {
			garbage = append(garbage, cp)
		}
	}
	var last *Copy // of its blob, as far as the walk came
	err = c.store.Walk(ctx, func(cp Copy) error {
		if last != nil && last.Digest == cp.Digest {
			take(*last)
			last = nil
		}
		if named.has(cp.Digest) {
			last = &cp
			return nil
		}
		take(cp)
		return nil
	})
	if err != nil {
		return err
	}
	c.seen = seen
	return c.remove(ctx, garbage)
}

func (c *Collector) remove(ctx context.Context, garbage []Copy) error {
	for _, cp := range garbage {
		if err := c.store.Remove(ctx, cp); err != nil {
			return err
		}
		delete(c.seen, cp)
		c.collected.Add(1)
		c.bytes.Add(uint64(cp.Size))
	}
	return nil
}

// prefixes are the first eight bytes of digests, sorted: a quarter of the
// memory, and the rare digest that shares them with a named one is only kept.
type prefixes []uint64

func (c *Collector) mark(ctx context.Context) (prefixes, error) {
	var p prefixes
	if err := c.names(ctx, func(d Digest) { p = append(p, prefix(d)) }); err != nil {
		return nil, err
	}
	slices.Sort(p)
	return slices.Compact(p), nil
}

func (p prefixes) has(d Digest) bool {
	_, ok := slices.BinarySearch(p, prefix(d))
	return ok
}

func prefix(d Digest) uint64 { return binary.BigEndian.Uint64(d[:]) }
