package blob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"

	"github.com/minio/minio-go/v7"
)

// Ranger is a Store that reads a part of a blob, for whoever has a checksum of
// that part: nothing is verified here, because the digest is that of the whole.
type Ranger interface {
	// ReadRange fills p with the bytes at offset. Errors: ErrNotFound, ErrCorrupt
	// when the blob is shorter, ErrUnreachable, one of the storage.
	ReadRange(ctx context.Context, digest Digest, offset int64, p []byte) error
	// Repair replaces a copy that was found damaged by a good one, if there is
	// one elsewhere; ErrCorrupt when there is none.
	Repair(ctx context.Context, digest Digest) error
}

var (
	_ Ranger = (*Dir)(nil)
	_ Ranger = (*Replicated)(nil)
	_ Ranger = (*S3)(nil)
)

// ReadRange implements Ranger.
func (d *Dir) ReadRange(_ context.Context, digest Digest, offset int64, p []byte) error {
	f, err := d.root.OpenFile(fileName(digest), os.O_RDONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("cannot open blob: %w", err)
	}
	_, err = f.ReadAt(p, offset)
	if errors.Is(err, io.EOF) {
		err = ErrCorrupt
	}
	return errors.Join(err, f.Close())
}

// Repair implements Ranger: a single folder has no other copy.
func (d *Dir) Repair(context.Context, Digest) error { return ErrCorrupt }

// ReadRange implements Ranger. What is not here is fetched whole, and kept.
func (r *Replicated) ReadRange(ctx context.Context, digest Digest, offset int64, p []byte) error {
	err := r.local.ReadRange(ctx, digest, offset, p)
	if !errors.Is(err, ErrNotFound) {
		return err
	}
	if err := r.Fetch(ctx, digest); err != nil {
		return err
	}
	return r.local.ReadRange(ctx, digest, offset, p)
}

// Repair implements Ranger.
func (r *Replicated) Repair(ctx context.Context, digest Digest) error {
	err := r.Fetch(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		return ErrCorrupt // the copy here is the only one
	}
	return err
}

// ReadRange implements Ranger.
func (s *S3) ReadRange(ctx context.Context, digest Digest, offset int64, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	opts := minio.GetObjectOptions{}
	if err := opts.SetRange(offset, offset+int64(len(p))-1); err != nil {
		return fmt.Errorf("cannot read blob: %w", err)
	}
	body, _, err := s.open(ctx, digest, opts)
	if minio.ToErrorResponse(err).StatusCode == http.StatusRequestedRangeNotSatisfiable {
		return errors.Join(ErrCorrupt, err)
	}
	if err != nil {
		return err
	}
	_, err = io.ReadFull(body, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = ErrCorrupt
	}
	return errors.Join(err, body.Close())
}

// Repair implements Ranger: the service keeps its own copies, and this is what
// they say.
func (s *S3) Repair(context.Context, Digest) error { return ErrCorrupt }
