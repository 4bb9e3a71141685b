package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"

	"windlass/coordinator/blob"
)

// vault is the blob store that all replicas share, as a bucket is. It keeps what
// it took; that a majority of folders does is not the core's affair.
type vault struct {
	world *world
	blobs map[blob.Digest][]byte
	bad   int64 // until then it fails, sometimes after it stored
}

var errVault = errors.New("the store does not answer")

// Put implements blob.Store.
func (v *vault) Put(_ context.Context, r io.Reader, want *blob.Digest, _ int64) (blob.Digest, int64, error) {
	b, err := io.ReadAll(r)
	d := blob.Digest(sha256.Sum256(b))
	draw := v.world.draws.log
	switch {
	case err != nil:
		return d, 0, err
	case want != nil && *want != d:
		return d, 0, blob.ErrMismatch
	case v.bad > v.world.now && draw.IntN(2) == 0:
		return d, 0, errVault
	}
	v.blobs[d] = b
	if v.bad > v.world.now {
		return d, 0, errVault
	}
	return d, int64(len(b)), nil
}

// Get implements blob.Store.
func (v *vault) Get(_ context.Context, d blob.Digest) (io.ReadCloser, int64, error) {
	b, ok := v.blobs[d]
	if !ok {
		return nil, 0, blob.ErrNotFound
	}
	return io.NopCloser(bytes.NewReader(b)), int64(len(b)), nil
}

// ReadRange implements blob.Ranger.
func (v *vault) ReadRange(_ context.Context, d blob.Digest, offset int64, p []byte) error {
	b, ok := v.blobs[d]
	switch {
	case !ok:
		return blob.ErrNotFound
	case offset+int64(len(p)) > int64(len(b)):
		return blob.ErrCorrupt
	}
	copy(p, b[offset:])
	return nil
}

// Repair implements blob.Ranger: there is only one copy.
func (v *vault) Repair(context.Context, blob.Digest) error { return blob.ErrCorrupt }

// Walk implements blob.Store.
func (v *vault) Walk(context.Context, func(blob.Copy) error) error { return nil }

// Remove implements blob.Store.
func (v *vault) Remove(context.Context, blob.Copy) error { return nil }
