// Package archive keeps the jobs that left memory in immutable segments of the
// blob store, and finds them again. See DESIGN.md.
package archive

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// indexBytes keeps the indexes of some 30 million jobs, at 2.2 bytes each; with
	// more, lookups load some again.
	indexBytes = 64 << 20

	// blocksBytes keeps some 500 blocks: a page of a list, and those who ask for
	// one job again and again.
	blocksBytes = 32 << 20

	// maxReads bounds the reads of the blob store at a time, and with them the
	// memory of what was read and is not cached yet.
	maxReads = 16

	// doubtTerm is how long a segment that could not be read is reported as such
	// before it is tried again by whoever asks next: a slow or absent store is not
	// asked by every request.
	doubtTerm = time.Second
)

// Unreadable says that a segment could not be read, so that nobody can say
// whether a job is in it. Damaged: what is there is not what was written.
type Unreadable struct {
	Segment uint64
	Damaged bool
	Err     error
}

// Error implements error.
func (e *Unreadable) Error() string {
	if e.Damaged {
		return fmt.Sprintf("archive segment %d is damaged: %v", e.Segment, e.Err)
	}
	return fmt.Sprintf("archive segment %d cannot be read at the moment: %v", e.Segment, e.Err)
}

// Unwrap returns the cause.
func (e *Unreadable) Unwrap() error { return e.Err }

// Incomplete says that some segments could not be read, while the others were.
type Incomplete struct{ Segments []*Unreadable }

// Error implements error; it is that of the first, and how many more there are.
func (e *Incomplete) Error() string {
	if more := len(e.Segments) - 1; more > 0 {
		return fmt.Sprintf("%v (and %d more)", e.Segments[0], more)
	}
	return e.Segments[0].Error()
}

// Unwrap returns the first.
func (e *Incomplete) Unwrap() error { return e.Segments[0] }

// Config is what an Archive is built from.
type Config struct {
	// Blobs must be a blob.Ranger.
	Blobs blob.Store
	// Keep is how long a job can be found after it ended.
	Keep time.Duration
	// NowMs is the coordinator's clock in unix milliseconds.
	NowMs func() int64
	// Alarm is told once of each segment that begins to be damaged.
	Alarm func(*Unreadable)
}

// Archive reads segments; any number of goroutines may use it. Which segments
// there are is part of the replicated state.
type Archive struct {
	cfg     Config
	blobs   blob.Ranger
	unpack  *zstd.Decoder
	pack    *zstd.Encoder
	reads   chan struct{} // capacity maxReads: held while the store is asked
	indexes *cache[[32]byte, *index]
	blocks  *cache[place, []byte]

	mu    sync.Mutex
	doubt map[uint64]doubt // segments that could not be read
}

// doubt is what came of the newest read of a segment that failed.
type doubt struct {
	err   *Unreadable
	until time.Time // nobody asks again before
}

// place names a block by its content.
type place struct {
	segment [32]byte
	block   int
}

// New returns an archive without anything in its caches.
func New(cfg Config) (*Archive, error) {
	blobs, ok := cfg.Blobs.(blob.Ranger)
	if !ok {
		return nil, fmt.Errorf("cannot use %T for the archive: it does not read parts of a blob", cfg.Blobs)
	}
	unpack, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxBlock))
	if err != nil {
		return nil, fmt.Errorf("cannot make a decompressor: %w", err)
	}
	pack, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedDefault))
	if err != nil {
		return nil, fmt.Errorf("cannot make a compressor: %w", err)
	}
	return &Archive{
		cfg: cfg, blobs: blobs, unpack: unpack, pack: pack, reads: make(chan struct{}, maxReads), doubt: make(map[uint64]doubt),
		indexes: newCache[[32]byte](indexBytes, (*index).cost),
		blocks:  newCache[place](blocksBytes, func(b []byte) int { return len(b) }),
	}, nil
}

// Expired reports whether a job that ended then cannot be found any more.
func (a *Archive) Expired(endedMs int64) bool {
	return endedMs+a.cfg.Keep.Milliseconds() <= a.cfg.NowMs()
}

// Job returns an archived job as its row was, or nil when no segment has it or
// its time is over. A row of the job in the table goes before it. The error is
// an *Unreadable or that of ctx: then nobody knows.
func (a *Archive) Job(ctx context.Context, view *state.View, id protocol.JobID) (*state.Job, error) {
	var found *state.Job
	for _, g := range view.Segments() {
		if !g.Covers(id) {
			continue
		}
		j, err := a.job(ctx, g, id)
		if err != nil {
			return nil, err
		}
		// A job that was run again is in several segments.
		if j != nil && (found == nil || j.Index > found.Index) {
			found = j
		}
	}
	if found == nil || a.Expired(EndedMs(found)) {
		return nil, nil
	}
	return found, nil
}

func (a *Archive) job(ctx context.Context, g *state.Segment, id protocol.JobID) (*state.Job, error) {
	x, err := a.index(ctx, g)
	if err != nil {
		return nil, err
	}
	if !x.filter.has(id) {
		return nil, nil
	}
	n, ok := x.find(id)
	if !ok {
		return nil, nil
	}
	raw, err := a.block(ctx, g, x, n)
	if err != nil {
		return nil, err
	}
	for r := (records{raw: raw}); ; {
		at, record, ok := r.next()
		if !ok {
			return nil, nil
		}
		if at == id {
			return a.decode(g, id, record)
		}
	}
}

// Recall returns the command that puts a job back in the table, as it was read
// from the archive of the view.
func Recall(view *state.View, j *state.Job) *command.Command {
	return &command.Command{Op: &command.Command_Recall{Recall: &command.Recall{
		Job: j.ID[:], Record: fsm.EncodeJob(j), Newest: view.Meta().Segment,
	}}}
}

// Stats counts what the archive holds.
type Stats struct {
	Segments int
	Jobs     uint64
	Bytes    int64 // in the blob store
	Damaged  int   // segments that were found damaged by this coordinator
	Cached   int   // bytes of indexes and blocks in memory
}

// Stats returns the counts of a view and of this coordinator.
func (a *Archive) Stats(view *state.View) Stats {
	s := Stats{Segments: len(view.Segments()), Cached: a.indexes.bytes() + a.blocks.bytes()}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, g := range view.Segments() {
		s.Jobs, s.Bytes = s.Jobs+uint64(g.Jobs), s.Bytes+g.Size
		if d, ok := a.doubt[g.Number]; ok && d.err.Damaged {
			s.Damaged++
		}
	}
	return s
}

// References calls name for every blob that an archived job of the view names,
// and for every segment: what must not be collected as garbage. Jobs that were
// archived since the view was taken are in no segment of it: whoever collects
// lists the blobs of the same view's table as well. An error means that some are
// unknown, and nothing may be removed; it is an *Incomplete, or that of ctx.
func (a *Archive) References(ctx context.Context, view *state.View, name func(blob.Digest)) error {
	var gaps Incomplete
	for _, g := range view.Segments() {
		name(g.SHA256)
		refs, err := a.named(ctx, g)
		var u *Unreadable
		switch {
		case errors.As(err, &u) && ctx.Err() == nil:
			gaps.Segments = append(gaps.Segments, u)
		case err != nil:
			return fmt.Errorf("cannot list the references of the archive: %w", err)
		}
		for ; len(refs) > 0; refs = refs[len(blob.Digest{}):] {
			name(blob.Digest(refs[:len(blob.Digest{})]))
		}
	}
	if len(gaps.Segments) > 0 {
		return fmt.Errorf("cannot list the references of the archive: %w", &gaps)
	}
	return nil
}

// named returns the digests that a segment's jobs name, one after the other.
func (a *Archive) named(ctx context.Context, g *state.Segment) ([]byte, error) {
	x, err := a.index(ctx, g)
	if err != nil {
		return nil, err
	}
	return a.references(ctx, g, x)
}

// failed turns the error of a read into an *Unreadable and remembers it.
func (a *Archive) failed(g *state.Segment, err error) error {
	u := &Unreadable{Segment: g.Number, Err: err, Damaged: errors.Is(err, errFormat) || damage(err)}
	a.mu.Lock()
	before, known := a.doubt[g.Number]
	a.doubt[g.Number] = doubt{err: u, until: time.Now().Add(doubtTerm)}
	a.mu.Unlock()
	if u.Damaged && !(known && before.err.Damaged) && a.cfg.Alarm != nil {
		a.cfg.Alarm(u)
	}
	return u
}

// damage reports whether an error of the store says that a blob is not what it
// was, rather than that the store does not answer.
func damage(err error) bool {
	return errors.Is(err, blob.ErrCorrupt) || errors.Is(err, blob.ErrNotFound)
}

// Damaged reports whether a segment was found damaged and was not read since.
func (a *Archive) Damaged(number uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.doubt[number]
	return ok && d.err.Damaged
}

// doubted returns the error of a segment that was just found unreadable.
func (a *Archive) doubted(g *state.Segment) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d, ok := a.doubt[g.Number]; ok && time.Now().Before(d.until) {
		return d.err
	}
	return nil
}

// trusted forgets that a segment could not be read.
func (a *Archive) trusted(g *state.Segment) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.doubt, g.Number)
}
