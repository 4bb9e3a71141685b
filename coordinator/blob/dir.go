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
	"strconv"
	"sync"
	"syscall"
)

// DiskReserve is the free space below which no blob is taken (DESIGN 3.11): the
// log shares the disk and must be able to record what is running.
const DiskReserve = 512 << 20

// copyBuffer is how much is read at once; larger ones were not faster.
const copyBuffer = 128 << 10

// recheck is how much is written before the free space is looked at again: so
// much beyond the reserve each of several writers can take.
const recheck = 1 << 20

// tempPrefix marks files whose writer did not finish; they are removed at start.
const tempPrefix = "tmp-"

// Dir keeps blobs as files named by their digest, in 256 folders by its first
// byte. All access is confined to the folder.
type Dir struct {
	root *os.Root
	path string
	free func() (int64, error)

	mu sync.Mutex // held while a file gets or loses its name, so that Remove compares what it removes
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
	return d.put(ctx, r, want, max, nil)
}

// put is Put; watch, if set, is called with the growing file before its first byte.
func (d *Dir) put(ctx context.Context, r io.Reader, want *Digest, max int64, watch func(*spool)) (Digest, int64, error) {
	temp := tempPrefix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return Digest{}, 0, full(fmt.Errorf("cannot create blob: %w", err))
	}
	s := newSpool(func() (*os.File, error) { return d.root.Open(temp) })
	if watch != nil {
		watch(s)
	}
	digest, size, err := d.fill(ctx, f, s, r, max)
	if err == nil && want != nil && *want != digest {
		err = ErrMismatch
	}
	s.finish(err) // the others sync while this one does
	if err == nil {
		if serr := f.Sync(); serr != nil {
			err = fmt.Errorf("cannot sync blob: %w", serr)
		}
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = d.publish(temp, digest)
	}
	if err != nil {
		return Digest{}, 0, errors.Join(full(err), d.discard(temp))
	}
	return digest, size, nil
}

// hold copies r into a file without a name, which is gone when it is closed.
func (d *Dir) hold(ctx context.Context, r io.Reader, max int64) (*os.File, Digest, int64, error) {
	temp := tempPrefix + rand.Text()
	f, err := d.root.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, Digest{}, 0, full(fmt.Errorf("cannot create temporary file: %w", err))
	}
	if err := d.discard(temp); err != nil {
		return nil, Digest{}, 0, errors.Join(err, f.Close())
	}
	digest, size, err := d.fill(ctx, f, newSpool(nil), r, max)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, Digest{}, 0, errors.Join(full(err), f.Close())
	}
	return f, digest, size, nil
}

// fill writes r to f.
func (d *Dir) fill(ctx context.Context, f *os.File, s *spool, r io.Reader, max int64) (Digest, int64, error) {
	sum := sha256.New()
	buf := make([]byte, min(max+1, copyBuffer))
	var size, room int64
	for {
		if err := ctx.Err(); err != nil {
			return Digest{}, 0, err
		}
		if room <= 0 {
			left, err := d.room()
			if err != nil {
				return Digest{}, 0, err
			}
			room = min(left, recheck)
		}
		n, err := r.Read(buf)
		size += int64(n)
		room -= int64(n)
		if size > max {
			return Digest{}, 0, ErrTooLarge
		}
		if room < 0 {
			if left, err := d.room(); err != nil || left < int64(n) {
				return Digest{}, 0, errors.Join(ErrFull, err)
			}
		}
		sum.Write(buf[:n])
		if _, werr := f.Write(buf[:n]); werr != nil {
			return Digest{}, 0, fmt.Errorf("cannot write blob: %w", werr)
		}
		s.grow(n)
		if errors.Is(err, io.EOF) {
			return Digest(sum.Sum(nil)), size, nil
		}
		if err != nil {
			return Digest{}, 0, fmt.Errorf("cannot read blob's source: %w", err)
		}
	}
}

// room is what may be written until the reserve begins.
func (d *Dir) room() (int64, error) {
	free, err := d.free()
	if err != nil {
		return 0, err
	}
	if free < DiskReserve {
		return 0, ErrFull
	}
	return free - DiskReserve, nil
}

// publish gives a complete file its name. Replacing an older file is wanted: it
// repairs one that went bad.
func (d *Dir) publish(temp string, digest Digest) error {
	name := fileName(digest)
	d.mu.Lock()
	err := d.root.Rename(temp, name)
	d.mu.Unlock()
	if err != nil {
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
	return &verified{r: f, sum: sha256.New(), want: digest}, st.Size(), nil
}

// Has says whether the blob is here; whether it is sound, only reading tells.
func (d *Dir) Has(digest Digest) (bool, error) {
	switch _, err := d.root.Lstat(fileName(digest)); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("cannot stat blob: %w", err)
	}
}

// Remove implements Store.
func (d *Dir) Remove(_ context.Context, c Copy) error {
	name := fileName(c.Digest)
	d.mu.Lock()
	defer d.mu.Unlock()
	info, err := d.root.Lstat(name)
	if err == nil && version(info) == c.Version {
		err = d.root.Remove(name)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot remove blob: %w", err)
	}
	return nil
}

// version names one file: a Put makes a new one.
func version(info fs.FileInfo) string {
	v := strconv.FormatInt(info.ModTime().UnixNano(), 36)
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		v += "." + strconv.FormatUint(st.Ino, 36)
	}
	return v
}

// Walk implements Store.
func (d *Dir) Walk(ctx context.Context, fn func(Copy) error) error {
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
		return fn(Copy{Digest: digest, Size: info.Size(), Version: version(info)})
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

// verified reads a blob and compares its digest at the end.
type verified struct {
	r    io.ReadCloser
	sum  hash.Hash
	want Digest
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && !bytes.Equal(v.sum.Sum(nil), v.want[:]) {
		return n, ErrCorrupt
	}
	return n, err
}

func (v *verified) Close() error { return v.r.Close() }
