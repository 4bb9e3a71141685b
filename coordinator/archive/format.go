package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/protocol"
)

// A segment is
//
//	magic, format version                                   9 bytes
//	blocks: zstd( [job id][uvarint length][record]* )       ascending ids
//	references: the digests that the records name           32 bytes each, ascending
//	index: blocks, references, filter, range                see appendIndex
//	trailer: index offset, SHA-256 of the index, magic      48 bytes
//
// with records as fsm.EncodeJob writes them and numbers in little endian. The
// index holds a checksum of every part before it, and the replicated row of the
// segment one of the index and the trailer: whatever is read is verified from
// the log down, however little of the file that is.
const (
	magic         = "WLARCHIV"
	endMagic      = "WLARCEND"
	formatVersion = 1

	headerSize  = len(magic) + 1
	trailerSize = 8 + sha256.Size + len(endMagic)
)

const (
	// blockBytes closes a block: what one lookup reads, decompresses and keeps.
	// Smaller ones compress worse and make the index larger.
	blockBytes = 64 << 10

	// maxBlock bounds what a block of one huge record decompresses to: a record
	// is what one submit and one result carried.
	maxBlock = 2*command.MaxEntry + blockBytes

	// sumSize is how much of a block's SHA-256 the index keeps.
	sumSize = 16

	// entrySize is a block in the index.
	entrySize = len(protocol.JobID{}) + 8 + 4 + 4 + 4 + sumSize

	// fixedSize is the index without blocks and filter.
	fixedSize = 4 + 8 + 4 + sha256.Size + 4 + 4 + 2*len(protocol.JobID{}) + 8 + 8
)

// errFormat says that bytes are not those of a segment of this version.
var errFormat = errors.New("not a segment of a version that is known here")

// block is where some records are.
type block struct {
	first  protocol.JobID
	offset int64
	size   int    // compressed
	raw    int    // decompressed
	jobs   uint32 // at least 1
	sum    [sumSize]byte
}

// index is all that a lookup needs to find a record's block.
type index struct {
	blocks []block
	refs   struct {
		offset int64
		count  int
		sum    [sha256.Size]byte
	}
	filter      filter
	jobs        uint32
	first, last protocol.JobID
	oldestEndMs int64
	newestEndMs int64
}

// appendIndex writes the index.
func appendIndex(b []byte, x *index) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(x.blocks)))
	for i := range x.blocks {
		k := &x.blocks[i]
		b = append(b, k.first[:]...)
		b = binary.LittleEndian.AppendUint64(b, uint64(k.offset))
		b = binary.LittleEndian.AppendUint32(b, uint32(k.size))
		b = binary.LittleEndian.AppendUint32(b, uint32(k.raw))
		b = binary.LittleEndian.AppendUint32(b, k.jobs)
		b = append(b, k.sum[:]...)
	}
	b = binary.LittleEndian.AppendUint64(b, uint64(x.refs.offset))
	b = binary.LittleEndian.AppendUint32(b, uint32(x.refs.count))
	b = append(b, x.refs.sum[:]...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(x.filter)))
	b = append(b, x.filter...)
	b = binary.LittleEndian.AppendUint32(b, x.jobs)
	b = append(append(b, x.first[:]...), x.last[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(x.oldestEndMs))
	return binary.LittleEndian.AppendUint64(b, uint64(x.newestEndMs))
}

// appendTrailer closes a segment whose index begins at the given offset.
func appendTrailer(b []byte, offset int64, index []byte) []byte {
	sum := sha256.Sum256(index)
	b = binary.LittleEndian.AppendUint64(b, uint64(offset))
	b = append(b, sum[:]...)
	return append(b, endMagic...)
}

// parseTail reads the index and the trailer, which begin at the given offset of
// the file. It checks everything that can be checked without the rest, so that
// nothing behind it has to.
func parseTail(tail []byte, offset int64) (*index, error) {
	if len(tail) < fixedSize+trailerSize {
		return nil, fmt.Errorf("its end has %d bytes: %w", len(tail), errFormat)
	}
	body, trailer := tail[:len(tail)-trailerSize], tail[len(tail)-trailerSize:]
	sum := sha256.Sum256(body)
	switch {
	case string(trailer[8+sha256.Size:]) != endMagic:
		return nil, fmt.Errorf("it does not end with %s: %w", endMagic, errFormat)
	case int64(binary.LittleEndian.Uint64(trailer)) != offset:
		return nil, fmt.Errorf("its index is not where it was said to be: %w", errFormat)
	case !bytes.Equal(trailer[8:8+sha256.Size], sum[:]):
		return nil, fmt.Errorf("the checksum of its index is wrong: %w", errFormat)
	}
	x, err := parseIndex(body)
	if err == nil {
		err = x.check(offset)
	}
	if err != nil {
		return nil, err
	}
	return x, nil
}

func parseIndex(b []byte) (*index, error) {
	count := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; count > len(b)/entrySize {
		return nil, fmt.Errorf("its index has no room for %d blocks: %w", count, errFormat)
	}
	x := &index{blocks: make([]block, count)}
	for i := range x.blocks {
		k, e := &x.blocks[i], b[i*entrySize:]
		k.first = protocol.JobID(e[:16])
		k.offset = int64(binary.LittleEndian.Uint64(e[16:]))
		k.size = int(binary.LittleEndian.Uint32(e[24:]))
		k.raw = int(binary.LittleEndian.Uint32(e[28:]))
		k.jobs = binary.LittleEndian.Uint32(e[32:])
		k.sum = [sumSize]byte(e[36:])
	}
	b = b[count*entrySize:]
	if len(b) < fixedSize-4 {
		return nil, fmt.Errorf("its index is cut off: %w", errFormat)
	}
	x.refs.offset = int64(binary.LittleEndian.Uint64(b))
	x.refs.count = int(binary.LittleEndian.Uint32(b[8:]))
	x.refs.sum = [sha256.Size]byte(b[12:])
	b = b[12+sha256.Size:]
	size := int(binary.LittleEndian.Uint32(b))
	if b = b[4:]; size != len(b)-(fixedSize-4-12-sha256.Size-4) {
		return nil, fmt.Errorf("its filter has not %d bytes: %w", size, errFormat)
	}
	x.filter = bytes.Clone(b[:size])
	b = b[size:]
	x.jobs = binary.LittleEndian.Uint32(b)
	x.first, x.last = protocol.JobID(b[4:20]), protocol.JobID(b[20:36])
	x.oldestEndMs = int64(binary.LittleEndian.Uint64(b[36:]))
	x.newestEndMs = int64(binary.LittleEndian.Uint64(b[44:]))
	return x, nil
}

// check holds an index to the file that ends with it.
func (x *index) check(offset int64) error {
	at, jobs := int64(headerSize), uint64(0)
	for i := range x.blocks {
		k := &x.blocks[i]
		switch {
		case k.offset != at || k.size <= 0 || k.jobs == 0:
			return fmt.Errorf("block %d is not behind the one before: %w", i, errFormat)
		case k.raw <= 0 || k.raw > maxBlock:
			return fmt.Errorf("block %d has %d bytes: %w", i, k.raw, errFormat)
		case i > 0 && bytes.Compare(x.blocks[i-1].first[:], k.first[:]) >= 0:
			return fmt.Errorf("block %d is out of order: %w", i, errFormat)
		}
		at += int64(k.size)
		jobs += uint64(k.jobs)
	}
	switch {
	case len(x.blocks) == 0 || jobs != uint64(x.jobs):
		return fmt.Errorf("its blocks hold %d jobs, it says %d: %w", jobs, x.jobs, errFormat)
	case x.first != x.blocks[0].first || bytes.Compare(x.last[:], x.blocks[len(x.blocks)-1].first[:]) < 0:
		return fmt.Errorf("its range is not that of its blocks: %w", errFormat)
	case x.refs.offset != at || at+int64(x.refs.count)*int64(len(blob.Digest{})) != offset:
		return fmt.Errorf("its references are not between blocks and index: %w", errFormat)
	case len(x.filter) == 0:
		return fmt.Errorf("it has no filter: %w", errFormat)
	case x.oldestEndMs > x.newestEndMs:
		return fmt.Errorf("its ends are out of order: %w", errFormat)
	}
	return nil
}

// cost is about what an index takes in memory.
func (x *index) cost() int { return len(x.blocks)*entrySize + len(x.filter) + fixedSize }
