package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"

	"windlass/coordinator/state"
)

// ErrSnapshot says that a snapshot is damaged, or of a newer version.
var ErrSnapshot = errors.New("snapshot is damaged or of a newer version: restore another one, or empty the data directory and let this node join again")

// readBuffer is how much of a snapshot is read at once.
const readBuffer = 256 << 10

// sealReader yields a stream without the hash at its end, and hashes it.
type sealReader struct {
	from *bufio.Reader
	sum  hash.Hash
}

func newSealReader(r io.Reader) *sealReader {
	return &sealReader{from: bufio.NewReaderSize(r, readBuffer), sum: sha256.New()}
}

// Read implements io.Reader. It holds the last 32 bytes back.
func (s *sealReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ahead, err := s.from.Peek(min(len(p)+sha256.Size, readBuffer))
	if err != nil && err != io.EOF {
		return 0, err
	}
	body := len(ahead) - sha256.Size
	if body <= 0 {
		return 0, io.EOF
	}
	n := copy(p, ahead[:body])
	s.sum.Write(p[:n])
	_, err = s.from.Discard(n)
	return n, err
}

// check compares the hash, after everything before it was read.
func (s *sealReader) check() error {
	seal, err := io.ReadAll(s.from)
	if err != nil {
		return err
	}
	if !bytes.Equal(seal, s.sum.Sum(nil)) {
		return fmt.Errorf("the checksum is wrong: %w", ErrSnapshot)
	}
	return nil
}

func (s *sealReader) preamble() error {
	head := make([]byte, len(magic)+1)
	if _, err := io.ReadFull(s, head); err != nil {
		return fmt.Errorf("it is too short: %w", errors.Join(ErrSnapshot, err))
	}
	if string(head[:len(magic)]) != magic || head[len(magic)] != formatVersion {
		return fmt.Errorf("it does not begin with %s and version %d: %w", magic, formatVersion, ErrSnapshot)
	}
	return nil
}

// Verify reads a snapshot to its end and returns an error, which wraps
// ErrSnapshot unless reading failed, when it is not what was written; or a
// *command.FeatureError when it is of a cluster that this version cannot be part
// of. A node checks its newest snapshot with it before raft may fall back to an
// older one.
func Verify(r io.Reader) error {
	if _, err := Inspect(r); err != nil {
		return fmt.Errorf("cannot verify snapshot: %w", err)
	}
	return nil
}

// Inspect verifies a snapshot and returns what it says of itself beside its rows.
func Inspect(r io.Reader) (state.Meta, error) {
	s := newSealReader(r)
	if err := s.preamble(); err != nil {
		return state.Meta{}, err
	}
	meta, err := header(s)
	if _, err := io.Copy(io.Discard, s); err != nil {
		return state.Meta{}, err
	}
	// What the header seems to say counts only in a snapshot that is whole.
	if err := s.check(); err != nil {
		return state.Meta{}, err
	}
	return meta, err
}

// header reads the first record, and as much of what follows as the
// decompressor takes with it.
func header(from io.Reader) (state.Meta, error) {
	unpack, err := newUnpacker(from)
	if err != nil {
		return state.Meta{}, err
	}
	defer unpack.Close()
	r := recordReader{from: bufio.NewReader(unpack)}
	if err := r.one(); err != nil {
		return state.Meta{}, fmt.Errorf("%w: %w", ErrSnapshot, err)
	}
	return r.meta, nil
}
