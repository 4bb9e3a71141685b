package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// DiskReserve is the free space below which no blob is taken (DESIGN 3.11): the
// log shares the disk and must be able to record what is running.
const DiskReserve = 512 << 20

// copyBuffer is how much is read at once; larger ones were not faster.
const copyBuffer = 128 << 10

// tempPrefix marks files whose writer did not finish; they are removed at start.
const tempPrefix = "tmp-"

// Dir keeps blobs as files named by their digest, in 256 folders by its first
// byte. All access is confined to the folder.
type Dir struct {
	root *os.Root
	path string
	free func() (int64, error)
}

// OpenDir opens the store in folder path, which is created when missing, and
// removes what an interrupted writer left.
func OpenDir(path string) (*Dir, error) {
	if err := os.MkdirAll(path, 0o750); err != nil {
		return nil, fmt.Errorf("cannot create blob folder: %w", err)
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("cannot open blob folder: %w", err)
	}
	d := &Dir{root: root, path: path}
	d.free = d.freeBytes
	if err := d.prepare(); err != nil {
		root.Close()
		return nil, err
	}
	return d, nil
}

// Close releases the folder; blobs that are being read stay readable.
func (d *Dir) Close() error { return d.root.Close() }

// prepare makes the fan-out folders, so that a Put only has to sync one of them.
func (d *Dir) prepare() error {
	for i := range 256 {
		if err := d.root.Mkdir(hex.EncodeToString([]byte{byte(i)}), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("cannot create blob folder: %w", err)
		}
	}
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil {
		return fmt.Errorf("cannot list blob folder: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && len(e.Name()) > len(tempPrefix) && e.Name()[:len(tempPrefix)] == tempPrefix {
			if err := d.root.Remove(e.Name()); err != nil {
				return fmt.Errorf("cannot remove unfinished blob: %w", err)
			}
		}
	}
	return d.syncFolder(".")
}

func (d *Dir) freeBytes() (int64, error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.path, &st); err != nil {
		return 0, fmt.Errorf("cannot read free disk space: %w", err)
	}
	return int64(st.Bavail) * st.Bsize, nil
}

// Put implements Store.
func (d *Dir) Put(ctx context.Context, r io.Reader, want *Digest, max int64) (Digest, int64, error) {
	free, err := d.free()
	if err != nil {
		return Digest{}, 0, err
	}
	if free < DiskReserve {
		return Digest{}, 0, ErrFull
	}
	temp := tempPrefix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return Digest{}, 0, full(fmt.Errorf("cannot create blob: %w", err))
	}
	digest, size, err := d.fill(ctx, f, r, max, free-DiskReserve)
	err = errors.Join(err, f.Close())
	if err == nil && want != nil && *want != digest {
		err = ErrMismatch
	}
	if err == nil {
		err = d.publish(temp, digest)
	}
	if err != nil {
		return Digest{}, 0, errors.Join(full(err), d.discard(temp))
	}
	return digest, size, nil
}

// fill writes r to f and syncs it.
func (d *Dir) fill(ctx context.Context, f *os.File, r io.Reader, max, room int64) (Digest, int64, error) {
	sum := sha256.New()
	buf := make([]byte, min(max+1, copyBuffer))
	var size int64
	for {
		if err := ctx.Err(); err != nil {
			return Digest{}, 0, err
		}
		n, err := r.Read(buf)
		size += int64(n)
		if size > max {
			return Digest{}, 0, ErrTooLarge
		}
		if size > room {
			return Digest{}, 0, ErrFull
		}
		sum.Write(buf[:n])
		if _, werr := f.Write(buf[:n]); werr != nil {
			return Digest{}, 0, fmt.Errorf("cannot write blob: %w", werr)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Digest{}, 0, fmt.Errorf("cannot read blob's source: %w", err)
		}
	}
	if err := f.Sync(); err != nil {
		return Digest{}, 0, fmt.Errorf("cannot sync blob: %w", err)
	}
	return Digest(sum.Sum(nil)), size, nil
}

// publish gives a complete file its name. Replacing an older file is wanted: it
// repairs one that went bad.
func (d *Dir) publish(temp string, digest Digest) error {
	name := fileName(digest)
	if err := d.root.Rename(temp, name); err != nil {
		return fmt.Errorf("cannot publish blob: %w", err)
	}
	return d.syncFolder(path.Dir(name))
}

func (d *Dir) discard(temp string) error {
	if err := d.root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove unfinished blob: %w", err)
	}
	return nil
}

func (d *Dir) syncFolder(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return fmt.Errorf("cannot open blob folder: %w", err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("cannot sync blob folder: %w", err)
	}
	return nil
}

// Get implements Store.
func (d *Dir) Get(_ context.Context, digest Digest) (io.ReadCloser, int64, error) {
	f, err := d.root.Open(fileName(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, ErrNotFound
	}
	if err != nil {
		return nil, 0, fmt.Errorf("cannot open blob: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		return nil, 0, errors.Join(fmt.Errorf("cannot stat blob: %w", err), f.Close())
	}
	return &verified{f: f, sum: sha256.New(), want: digest}, st.Size(), nil
}

// Delete implements Store.
func (d *Dir) Delete(_ context.Context, digest Digest) error {
	if err := d.root.Remove(fileName(digest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot delete blob: %w", err)
	}
	return nil
}

// Walk implements Store.
func (d *Dir) Walk(ctx context.Context, fn func(Digest, int64) error) error {
	return fs.WalkDir(d.root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("cannot list blobs: %w", err)
		}
		if err := ctx.Err(); err != nil || e.IsDir() {
			return err
		}
		digest, err := ParseDigest(e.Name())
		if err != nil {
			return nil // a file that is being written
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("cannot stat blob: %w", err)
		}
		return fn(digest, info.Size())
	})
}

func fileName(digest Digest) string {
	name := hex.EncodeToString(digest[:])
	return name[:2] + "/" + name
}

// full marks errors that say the disk has no room.
func full(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return errors.Join(ErrFull, err)
	}
	return err
}

// verified reads a file and compares its digest at the end.
type verified struct {
	f    *os.File
	sum  hash.Hash
	want Digest
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.f.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(v.sum.Sum(nil), v.want[:]) {
		return n, ErrCorrupt
	}
	return n, err
}

func (v *verified) Close() error { return v.f.Close() }
