package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/klauspost/compress/zstd"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// Writer makes one segment in memory. Equal rows give equal bytes.
type Writer struct {
	pack  *zstd.Encoder
	out   []byte
	raw   []byte // of the block that is being filled
	ids   []protocol.JobID
	refs  []blob.Digest
	block block
	index index
}

// NewWriter returns a writer of an empty segment. All writers of an archive share
// its compressor, which has some megabytes of tables.
func (a *Archive) NewWriter() *Writer {
	return &Writer{pack: a.pack, out: append([]byte(magic), formatVersion)}
}

// Add appends an ended job, whose id must be above those before.
func (w *Writer) Add(j *state.Job) error {
	if j.Live() {
		return fmt.Errorf("cannot archive job %s: it is %s", j.ID, j.Status)
	}
	if n := len(w.ids); n > 0 && bytes.Compare(j.ID[:], w.ids[n-1][:]) <= 0 {
		return fmt.Errorf("cannot archive job %s: it is not above %s", j.ID, w.ids[n-1])
	}
	end := EndedMs(j)
	if len(w.ids) == 0 {
		w.index.first, w.index.oldestEndMs, w.index.newestEndMs = j.ID, end, end
	}
	w.index.last = j.ID
	w.index.oldestEndMs, w.index.newestEndMs = min(w.index.oldestEndMs, end), max(w.index.newestEndMs, end)
	w.ids = append(w.ids, j.ID)
	j.Blobs(func(d blob.Digest) { w.refs = append(w.refs, d) })
	if w.block.jobs == 0 {
		w.block.first = j.ID
	}
	record := fsm.EncodeJob(j)
	w.raw = append(w.raw, j.ID[:]...)
	w.raw = binary.AppendUvarint(w.raw, uint64(len(record)))
	w.raw = append(w.raw, record...)
	w.block.jobs++
	if len(w.raw) >= blockBytes {
		w.flush()
	}
	return nil
}

// Jobs returns how many jobs were added.
func (w *Writer) Jobs() int { return len(w.ids) }

// Size returns about how many bytes the segment has so far.
func (w *Writer) Size() int { return len(w.out) + len(w.raw) }

func (w *Writer) flush() {
	if w.block.jobs == 0 {
		return
	}
	w.block.offset, w.block.raw = int64(len(w.out)), len(w.raw)
	w.out = w.pack.EncodeAll(w.raw, w.out)
	data := w.out[w.block.offset:]
	w.block.size = len(data)
	sum := sha256.Sum256(data)
	w.block.sum = [sumSize]byte(sum[:])
	w.index.blocks = append(w.index.blocks, w.block)
	w.raw, w.block = w.raw[:0], block{}
}

// Finish returns the file and its description with the given number. It ends
// the writer, which must not be empty.
func (w *Writer) Finish(number uint64) ([]byte, *command.Segment) {
	w.flush()
	x := &w.index
	slices.SortFunc(w.refs, func(a, b blob.Digest) int { return bytes.Compare(a[:], b[:]) })
	w.refs = slices.Compact(w.refs)
	x.refs.offset, x.refs.count = int64(len(w.out)), len(w.refs)
	for _, d := range w.refs {
		w.out = append(w.out, d[:]...)
	}
	x.refs.sum = sha256.Sum256(w.out[x.refs.offset:])
	x.jobs = uint32(len(w.ids))
	x.filter = newFilter(len(w.ids))
	for _, id := range w.ids {
		x.filter.add(id)
	}
	offset := int64(len(w.out))
	w.out = appendIndex(w.out, x)
	w.out = appendTrailer(w.out, offset, w.out[offset:])
	whole, tail := sha256.Sum256(w.out), sha256.Sum256(w.out[offset:])
	return w.out, &command.Segment{
		Number: number, Sha256: whole[:], Size: int64(len(w.out)), IndexOffset: offset, IndexSha256: tail[:],
		First: x.first[:], Last: x.last[:], Jobs: x.jobs, OldestEndMs: x.oldestEndMs, NewestEndMs: x.newestEndMs,
	}
}

// EndedMs returns when a terminal job ended, in unix milliseconds.
func EndedMs(j *state.Job) int64 {
	if j.Outcome != nil {
		return j.Outcome.EndedMs
	}
	return j.CreatedMs
}
