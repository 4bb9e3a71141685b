package archive

import (
	"bytes"
	"context"
	"slices"

	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// MaxSegment bounds a segment: it is made in memory, and fetched whole by a
	// coordinator that joins.
	MaxSegment = 64 << 20

	// mergeWidth is how many segments of one size become one of the next: a job
	// is written again a few times, and a day has a few dozen segments at most.
	mergeWidth = 8

	// smallestTier and largestTier are sizes of segments, each mergeWidth times the
	// one before: those below the first are equals, and those above the last are
	// large enough.
	smallestTier = 16 << 10
	largestTier  = 16 << 20

	// dayMs is what segments are merged within, so that one does not keep blobs of
	// jobs that ended long before its newest.
	dayMs = 24 * 60 * 60 * 1000
)

// Mergeable returns segments that should become one, or nil. Small ones of one
// day are merged by size while the day lasts, and all of them when it is over:
// a month is some hundred segments at most beside the large ones. skip leaves out
// those that cannot be read.
func Mergeable(segments []*state.Segment, nowMs int64, skip func(number uint64) bool) []*state.Segment {
	type group struct {
		day  int64
		tier int
	}
	groups := make(map[group][]*state.Segment)
	var order []group
	for _, g := range segments {
		if g.Size >= largestTier || skip(g.Number) {
			continue
		}
		key := group{day: g.NewestEndMs / dayMs}
		if key.day+1 >= nowMs/dayMs { // jobs of the day may still come
			key.tier = 1 + tier(g.Size)
		}
		if groups[key] == nil {
			order = append(order, key)
		}
		groups[key] = append(groups[key], g)
	}
	for _, key := range order {
		list := groups[key]
		if key.tier > 0 && len(list) < mergeWidth {
			continue
		}
		slices.SortFunc(list, func(a, b *state.Segment) int { return bytes.Compare(a.First[:], b.First[:]) })
		if list = fitting(list); len(list) > 1 {
			return list
		}
	}
	return nil
}

// tier is how many times a segment was merged, by its size.
func tier(size int64) int {
	n := 0
	for bound := int64(smallestTier); size >= bound; bound *= mergeWidth {
		n++
	}
	return n
}

// fitting returns as many of the list as become one segment of the largest size.
func fitting(list []*state.Segment) []*state.Segment {
	total := int64(0)
	for i, g := range list {
		if total += g.Size; total > MaxSegment {
			return list[:i]
		}
	}
	return list
}

// Merge adds the jobs of some segments to a writer: each once, in its newest
// state, and without those whose time is over.
func (a *Archive) Merge(ctx context.Context, segments []*state.Segment, w *Writer) error {
	var sources []*source
	for _, g := range segments {
		x, err := a.index(ctx, g)
		if err != nil {
			return err
		}
		s := &source{a: a, g: g, x: x}
		if err := s.fill(ctx); err != nil {
			return err
		}
		sources = append(sources, s)
	}
	for {
		var low *source
		for _, s := range sources {
			if len(s.list) > 0 && (low == nil || compare(s.list[0].id, low.list[0].id) < 0) {
				low = s
			}
		}
		if low == nil {
			return nil
		}
		id := low.list[0].id
		var newest *state.Job
		for _, s := range sources {
			if len(s.list) == 0 || s.list[0].id != id {
				continue
			}
			j, err := s.take(ctx)
			if err != nil {
				return err
			}
			if newest == nil || j.Index > newest.Index {
				newest = j
			}
		}
		if a.Expired(EndedMs(newest)) {
			continue
		}
		if err := w.Add(newest); err != nil {
			return err
		}
	}
}

func compare(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) }

// source is the place of a merge in one segment.
type source struct {
	a    *Archive
	g    *state.Segment
	x    *index
	next int // block
	list []item
}

// fill reads the next block when the one before is used up. It does not go
// through the cache, which is for those who ask for jobs.
func (s *source) fill(ctx context.Context) error {
	if len(s.list) > 0 || s.next == len(s.x.blocks) {
		return nil
	}
	raw, err := s.a.load(ctx, s.g, s.x, s.next)
	if err != nil {
		return err
	}
	s.next++
	for r := (records{raw: raw}); ; {
		id, record, ok := r.next()
		if !ok {
			return nil
		}
		s.list = append(s.list, item{id, record})
	}
}

func (s *source) take(ctx context.Context) (*state.Job, error) {
	it := s.list[0]
	s.list = s.list[1:]
	j, err := s.a.decode(s.g, it.id, it.record)
	if err != nil {
		return nil, err
	}
	return j, s.fill(ctx)
}

// Due returns up to limit ended rows of a view in the order of their ids, those
// that ended before a time and sum up to at most size bytes, and whether there
// are more. Ids begin with the time of creation and nothing ends before it, so
// the walk stops there.
func Due(view *state.View, endedBeforeMs int64, limit int, size int64) (rows []*state.Job, more bool) {
	view.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		if int64(j.ID.CreatedAt()) >= endedBeforeMs {
			return false
		}
		if j.Live() || j.Owes() || EndedMs(j) >= endedBeforeMs {
			return true
		}
		if len(rows) == limit || len(rows) > 0 && size < j.Size() {
			more = true
			return false
		}
		size -= j.Size()
		rows = append(rows, j)
		return true
	})
	return rows, more
}
