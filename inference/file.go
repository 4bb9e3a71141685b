package inference

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"windlass/protocol"
)

// File is one that a job handed in: a copy that nothing but its holder writes to.
type File struct {
	Name   string // checked by protocol.CheckOutputName
	Path   string
	Size   int64
	SHA256 string // hex
}

// FileTaker copies the files of one job out of the directory that its processes
// can write to, so that they stay what they were when the job ended. It belongs to
// one goroutine.
type FileTaker struct {
	from *os.Root
	to   string // made with the first file
	done []File
}

// NewFileTaker takes files below from, which confines them: a link or a path that
// leads out of it is refused. Copies are put below to, which need not exist.
func NewFileTaker(from, to string) (*FileTaker, error) {
	root, err := os.OpenRoot(from)
	if err != nil {
		return nil, fmt.Errorf("cannot open the job's directory: %w", err)
	}
	return &FileTaker{from: root, to: to}, nil
}

// Close lets go of the directory; the copies stay.
func (t *FileTaker) Close() error { return t.from.Close() }

// Files are those that were taken so far.
func (t *FileTaker) Files() []File { return t.done }

// The reasons why a file is not taken.
var (
	ErrFileName    = errors.New("the name cannot be used")
	ErrFileTwice   = errors.New("another file has the name")
	ErrFileMany    = fmt.Errorf("there are more than %d files", protocol.MaxOutputFiles)
	ErrFileKind    = errors.New("it is no regular file in the job's directory")
	ErrFileSize    = errors.New("it is larger than " + protocol.FormatBytes(protocol.MaxOutputFile))
	ErrFileChanged = errors.New("it was replaced while it was read")
)

// Take copies one file and returns when the copy is durable. path is relative to
// the directory. Errors: those above, that of ctx, or one of the disk.
func (t *FileTaker) Take(ctx context.Context, path, name string) error {
	if err := protocol.CheckOutputName(name); err != nil {
		return fmt.Errorf("%w: %w", ErrFileName, err)
	}
	for _, f := range t.done {
		if f.Name == name {
			return ErrFileTwice
		}
	}
	if len(t.done) == protocol.MaxOutputFiles {
		return ErrFileMany
	}
	src, err := t.open(path)
	if err != nil {
		return err
	}
	f, err := t.copy(ctx, src)
	if err = errors.Join(err, src.Close()); err != nil {
		return err
	}
	f.Name = name
	t.done = append(t.done, f)
	return nil
}

// open opens a regular file. A link is refused even where it stays inside, and so
// is one that takes the file's place in between; nothing that is opened can block.
func (t *FileTaker) open(path string) (*os.File, error) {
	before, err := t.from.Lstat(path)
	if err != nil || !before.Mode().IsRegular() {
		return nil, ErrFileKind
	}
	if before.Size() > protocol.MaxOutputFile {
		return nil, ErrFileSize
	}
	f, err := t.from.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFileKind, err)
	}
	opened, err := f.Stat()
	if err == nil && !os.SameFile(before, opened) {
		err = ErrFileChanged
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (t *FileTaker) copy(ctx context.Context, src io.Reader) (File, error) {
	if err := os.MkdirAll(t.to, 0o700); err != nil {
		return File{}, err
	}
	f := File{Path: filepath.Join(t.to, strconv.Itoa(len(t.done)))}
	dst, err := os.OpenFile(f.Path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return File{}, err
	}
	sum := sha256.New()
	f.Size, err = io.Copy(io.MultiWriter(dst, sum), io.LimitReader(&whileLive{ctx, src}, protocol.MaxOutputFile+1))
	if err == nil && f.Size > protocol.MaxOutputFile {
		err = ErrFileSize
	}
	if err == nil {
		err = dst.Sync()
	}
	if err = errors.Join(err, dst.Close()); err != nil {
		return File{}, errors.Join(err, os.Remove(f.Path))
	}
	f.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return f, nil
}

// whileLive stops reading when its context ends.
type whileLive struct {
	ctx context.Context
	r   io.Reader
}

// Read implements io.Reader.
func (w *whileLive) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}
