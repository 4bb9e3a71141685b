package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"sort"

	"windlass/coordinator/blob"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// maxTail bounds what a row can make a lookup read at once.
const maxTail = MaxSegment

// index returns the index of a segment, verified against its row.
func (a *Archive) index(ctx context.Context, g *state.Segment) (*index, error) {
	if x, ok := a.indexes.get(g.SHA256); ok {
		return x, nil
	}
	size := g.Size - g.IndexOffset
	if size <= 0 || size > maxTail {
		return nil, a.failed(g, fmt.Errorf("its row says that its index has %d bytes: %w", size, errFormat))
	}
	tail, err := a.read(ctx, g, g.IndexOffset, int(size), func(b []byte) bool { return sha256.Sum256(b) == g.IndexSHA256 })
	if err != nil {
		return nil, err
	}
	x, err := parseTail(tail, g.IndexOffset)
	if err != nil {
		return nil, a.failed(g, err)
	}
	a.indexes.put(g.SHA256, x)
	return x, nil
}

// block returns the records of a block.
func (a *Archive) block(ctx context.Context, g *state.Segment, x *index, n int) ([]byte, error) {
	at := place{g.SHA256, n}
	if raw, ok := a.blocks.get(at); ok {
		return raw, nil
	}
	raw, err := a.load(ctx, g, x, n)
	if err != nil {
		return nil, err
	}
	a.blocks.put(at, raw)
	return raw, nil
}

// load reads a block from the store.
func (a *Archive) load(ctx context.Context, g *state.Segment, x *index, n int) ([]byte, error) {
	k := &x.blocks[n]
	packed, err := a.read(ctx, g, k.offset, k.size, func(b []byte) bool {
		sum := sha256.Sum256(b)
		return bytes.Equal(sum[:sumSize], k.sum[:])
	})
	if err != nil {
		return nil, err
	}
	raw, err := a.expand(k, packed)
	if err != nil {
		return nil, a.failed(g, err)
	}
	return raw, nil
}

// expand decompresses a block that has its checksum, and checks its records.
func (a *Archive) expand(k *block, packed []byte) ([]byte, error) {
	raw, err := a.unpack.DecodeAll(packed, make([]byte, 0, min(k.raw, maxBlock)))
	if err != nil || len(raw) != k.raw {
		return nil, fmt.Errorf("a block of %d bytes decompresses to %d (%v): %w", k.raw, len(raw), err, errFormat)
	}
	r, jobs := records{raw: raw}, uint32(0)
	for last := (protocol.JobID{}); ; jobs++ {
		id, _, ok := r.next()
		if !ok {
			break
		}
		if jobs == 0 && id != k.first || bytes.Compare(id[:], last[:]) <= 0 {
			return nil, fmt.Errorf("a block's jobs are out of order: %w", errFormat)
		}
		last = id
	}
	if len(r.raw) > 0 || jobs != k.jobs {
		return nil, fmt.Errorf("a block has %d jobs instead of %d: %w", jobs, k.jobs, errFormat)
	}
	return raw, nil
}

// references returns the digests that a segment's jobs name.
func (a *Archive) references(ctx context.Context, g *state.Segment, x *index) ([]byte, error) {
	if x.refs.count == 0 {
		return nil, nil
	}
	return a.read(ctx, g, x.refs.offset, x.refs.count*len(blob.Digest{}), func(b []byte) bool { return sha256.Sum256(b) == x.refs.sum })
}

// read returns a part of a segment that has its checksum. A copy that has not is
// replaced by another coordinator's, if there is a good one.
func (a *Archive) read(ctx context.Context, g *state.Segment, offset int64, size int, good func([]byte) bool) ([]byte, error) {
	if err := a.doubted(g); err != nil {
		return nil, err
	}
	select {
	case a.reads <- struct{}{}:
		defer func() { <-a.reads }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	b, err := a.part(ctx, g.SHA256, offset, size, good)
	if ctx.Err() != nil && err != nil {
		return nil, context.Cause(ctx) // it says nothing of the segment
	}
	if err != nil {
		return nil, a.failed(g, err)
	}
	a.trusted(g)
	return b, nil
}

func (a *Archive) part(ctx context.Context, digest blob.Digest, offset int64, size int, good func([]byte) bool) ([]byte, error) {
	b := make([]byte, size)
	err := a.blobs.ReadRange(ctx, digest, offset, b)
	if err == nil && good(b) {
		return b, nil
	}
	if err != nil && !damage(err) {
		return nil, err
	}
	if err := a.blobs.Repair(ctx, digest); err != nil {
		return nil, err
	}
	if err := a.blobs.ReadRange(ctx, digest, offset, b); err != nil {
		return nil, err
	}
	if !good(b) {
		return nil, blob.ErrCorrupt
	}
	return b, nil
}

// find returns the block that may hold an id.
func (x *index) find(id protocol.JobID) (int, bool) {
	n := sort.Search(len(x.blocks), func(i int) bool { return bytes.Compare(x.blocks[i].first[:], id[:]) > 0 })
	return n - 1, n > 0
}

// records walks over those of a block.
type records struct{ raw []byte }

// next returns the next record; false at the end, or at what is none: then raw
// is not empty.
func (r *records) next() (id protocol.JobID, record []byte, ok bool) {
	if len(r.raw) <= len(id) {
		return id, nil, false
	}
	size, n := binary.Uvarint(r.raw[len(id):])
	if rest := len(r.raw) - len(id) - n; n <= 0 || size > uint64(max(rest, 0)) {
		return id, nil, false
	}
	from := len(id) + n
	id, record = protocol.JobID(r.raw[:len(id)]), r.raw[from:from+int(size)]
	r.raw = r.raw[from+int(size):]
	return id, record, true
}

// decode reads the record of a job.
func (a *Archive) decode(g *state.Segment, id protocol.JobID, record []byte) (*state.Job, error) {
	j, err := fsm.DecodeJob(record)
	if err == nil && (j.ID != id || j.Live()) {
		err = fmt.Errorf("the record of %s is that of %s, which is %s", id, j.ID, j.Status)
	}
	if err != nil {
		return nil, a.failed(g, fmt.Errorf("%w: %w", errFormat, err))
	}
	return j, nil
}
