package command

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"google.golang.org/protobuf/proto"
)

var (
	// ErrCorrupt says that an entry is not what was written: its checksum is
	// wrong, or it cannot be decoded. Such an entry must stop the process.
	ErrCorrupt = errors.New("log entry is corrupt")
	// ErrUnknown says that a newer version wrote the entry: its version, a
	// command or a field is not known here. Applying the rest would diverge.
	ErrUnknown = errors.New("log entry is of a newer version")
	// ErrInvalid says that a command has a form that no version accepts.
	ErrInvalid = errors.New("command is invalid")
)

// envelopeVersion is the first byte of every entry.
const envelopeVersion = 1

// headerSize is the version byte and the CRC32C of what follows it.
const headerSize = 1 + crc32.Size

// MaxEntry bounds one entry: the budget that the proposer packs into, and room
// for one command of the largest size behind it.
const MaxEntry = 32 << 20

// Marshal returns the entry of one batch: version byte, CRC32C of
// the rest, protobuf. It refuses
// the whole batch when Check refuses one command. The bytes depend on nothing
// but the arguments.
func Marshal(clockMs int64, cmds []*Command) ([]byte, error) {
	for i, c := range cmds {
		if err := Check(c); err != nil {
			return nil, fmt.Errorf("cannot marshal command %d: %w", i, err)
		}
	}
	size := sizeUint(fieldClock, uint64(clockMs))
	for _, c := range cmds {
		size += sizeBytes(fieldCommands, Size(c))
	}
	if size > MaxEntry-headerSize {
		return nil, fmt.Errorf("cannot marshal batch of %d bytes: %w: the limit is %d", size, ErrInvalid, MaxEntry)
	}
	entry := appendUint(make([]byte, headerSize, headerSize+size), fieldClock, uint64(clockMs))
	for _, c := range cmds {
		var err error
		if entry, err = appendCommand(entry, c); err != nil {
			return nil, fmt.Errorf("cannot marshal batch: %w", err)
		}
	}
	entry[0] = envelopeVersion
	binary.LittleEndian.PutUint32(entry[1:], checksum(entry))
	return entry, nil
}

// Unmarshal reads an entry. The batch does not refer to the entry's memory.
// Errors: ErrCorrupt, ErrUnknown, ErrInvalid.
func Unmarshal(entry []byte) (*Batch, error) {
	body, err := open(entry)
	if err != nil {
		return nil, err
	}
	batch := new(Batch)
	if err := proto.Unmarshal(body, batch); err != nil {
		return nil, fmt.Errorf("cannot decode entry (%w): %w", err, ErrCorrupt)
	}
	if len(batch.ProtoReflect().GetUnknown()) > 0 {
		return nil, fmt.Errorf("cannot read batch: %w", ErrUnknown)
	}
	for i, c := range batch.Commands {
		if hasUnknown(c) {
			return nil, fmt.Errorf("cannot read command %d: %w", i, ErrUnknown)
		}
		if err := Check(c); err != nil {
			return nil, fmt.Errorf("cannot read command %d: %w", i, err)
		}
	}
	return batch, nil
}

// open checks the envelope and returns what is in it.
func open(entry []byte) ([]byte, error) {
	if len(entry) < headerSize {
		return nil, fmt.Errorf("cannot read entry of %d bytes: %w", len(entry), ErrCorrupt)
	}
	if got, want := checksum(entry), binary.LittleEndian.Uint32(entry[1:]); got != want {
		return nil, fmt.Errorf("cannot read entry: checksum %08x, stored %08x: %w", got, want, ErrCorrupt)
	}
	if entry[0] != envelopeVersion {
		return nil, fmt.Errorf("cannot read entry of version %d: %w", entry[0], ErrUnknown)
	}
	return entry[headerSize:], nil
}

// checksum covers everything but itself, so that a flipped version byte is
// corruption and not a newer version.
func checksum(entry []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(entry[:1], table), table, entry[headerSize:])
}
