// Package blob stores payloads that are too large for the log, by their
// SHA-256. A blob is written before the command that names it is proposed.
package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

// Digest is the SHA-256 of a blob's bytes, which is its name.
type Digest = [32]byte

// Store keeps blobs. Implementations are safe for concurrent use and pass the
// suite in blobtest.
type Store interface {
	// Put stores all of r, at most max bytes, and returns its digest and size
	// when it would survive a crash of the host. With want set, other content is
	// refused with ErrMismatch. Storing what is there already succeeds. Errors:
	// ErrTooLarge, ErrMismatch, ErrFull, an error of r or of the storage; after
	// an error nothing is kept.
	Put(ctx context.Context, r io.Reader, want *Digest, max int64) (Digest, int64, error)
	// Get opens a blob and returns its size; ErrNotFound when it is not there.
	// The reader returns ErrCorrupt instead of io.EOF when the bytes were not
	// those of the digest: a caller trusts them only after io.EOF.
	Get(ctx context.Context, digest Digest) (io.ReadCloser, int64, error)
	// Walk calls fn for every copy until fn returns an error, which Walk returns.
	// Copies of one blob come one after another, oldest first.
	Walk(ctx context.Context, fn func(Copy) error) error
	// Remove removes exactly this copy: one that was stored since stays, so that
	// whoever removes garbage cannot race with a Put of the same bytes. It is no
	// error when it is not there.
	Remove(ctx context.Context, c Copy) error
}

// Copy is what one Put stored.
type Copy struct {
	Digest  Digest
	Size    int64
	Version string // opaque; another one for each Put
}

// The errors of a Store, found with errors.Is.
var (
	ErrNotFound = errors.New("blob not found")
	ErrTooLarge = errors.New("blob is larger than allowed")
	ErrMismatch = errors.New("blob does not have the digest that was promised")
	ErrCorrupt  = errors.New("blob is corrupt on disk")
	ErrFull     = errors.New("blob storage is full")
	// ErrNoMajority: too few coordinators can be reached to keep a blob.
	ErrNoMajority = errors.New("blob cannot be kept on a majority of the coordinators")
	// ErrUnreachable: whoever may have the blob does not answer at the moment.
	ErrUnreachable = errors.New("blob cannot be fetched at the moment")
	// ErrNobody: no coordinator that answers has the blob; it comes together with
	// ErrUnreachable, because others do not answer.
	ErrNobody = errors.New("no coordinator that answers has the blob")
)

// ParseDigest reads the 64 lower-case hexadecimal digits of a digest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	if len(s) != hex.EncodedLen(len(d)) {
		return d, fmt.Errorf("cannot parse digest: want %d hexadecimal digits", hex.EncodedLen(len(d)))
	}
	if _, err := hex.Decode(d[:], []byte(s)); err != nil || hex.EncodeToString(d[:]) != s {
		return Digest{}, fmt.Errorf("cannot parse digest: want lower-case hexadecimal digits")
	}
	return d, nil
}

// ReadAll returns the bytes of a blob of at most max bytes, verified.
func ReadAll(ctx context.Context, s Store, digest Digest, max int64) ([]byte, error) {
	r, size, err := s.Get(ctx, digest)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > max {
		return nil, ErrTooLarge
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(r, b); err != nil {
		return nil, corrupt(err)
	}
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		return nil, corrupt(err)
	}
	return b, nil
}

// corrupt turns a length that is not the announced one into ErrCorrupt.
func corrupt(err error) error {
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return ErrCorrupt
	}
	return err
}
