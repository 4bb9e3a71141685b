package consensus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// errSeal says that an entry of the log is not what was written.
var errSeal = errors.New("a log entry is not what was written")

// sealMark begins the seal, so that another use of the field is not taken for one.
const sealMark = 1

// sealSize is the mark and a CRC32C.
const sealSize = 1 + crc32.Size

// sealed returns a copy of the entry for the disk. The batch in it has a checksum
// of its own, but a flipped bit in an entry's index, term or type would not show
// there: raft would skip a command whose type says that it is none. raft leaves
// the field Extensions to its users; the seal is only on disk, not on the wire.
func sealed(l *raft.Log) *raft.Log {
	own := *l
	own.Extensions = appendSeal(make([]byte, 0, sealSize), l)
	return &own
}

func appendSeal(b []byte, l *raft.Log) []byte {
	var head [17]byte
	binary.LittleEndian.PutUint64(head[:], l.Index)
	binary.LittleEndian.PutUint64(head[8:], l.Term)
	head[16] = byte(l.Type)
	sum := crc32.Update(crc32.Checksum(head[:], castagnoli()), castagnoli(), l.Data)
	return binary.LittleEndian.AppendUint32(append(b, sealMark), sum)
}

// unsealEntry checks an entry that was read for an index, and takes the seal off. One
// without a seal was written by a version that had none.
func unsealEntry(index uint64, l *raft.Log) error {
	if l.Index != index {
		return fmt.Errorf("%w: entry %d was found in the place of %d", errSeal, l.Index, index)
	}
	seal := l.Extensions
	l.Extensions = nil
	if len(seal) == 0 {
		return nil
	}
	var own [sealSize]byte
	if string(seal) != string(appendSeal(own[:0], l)) {
		return fmt.Errorf("%w: entry %d has a wrong checksum", errSeal, index)
	}
	return nil
}
