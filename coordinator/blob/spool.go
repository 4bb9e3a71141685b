package blob

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
)

// spool is a file that is being written, for those who send it on meanwhile:
// each reads it at its own pace, so that neither the writer nor the other
// readers wait for a slow one, and nothing is held in memory.
type spool struct {
	open func() (*os.File, error) // another descriptor of the file

	mu    sync.Mutex
	size  int64         // written so far
	end   error         // io.EOF when size is final; another error when there will be no blob
	grown chan struct{} // closed, and replaced, at each change
}

func newSpool(open func() (*os.File, error)) *spool {
	return &spool{open: open, grown: make(chan struct{})}
}

func (s *spool) grow(n int) {
	s.mu.Lock()
	s.size += int64(n)
	s.tell()
	s.mu.Unlock()
}

// finish tells the readers that all was written, or that there is no blob.
func (s *spool) finish(err error) {
	s.mu.Lock()
	if s.end == nil {
		if s.end = err; err == nil {
			s.end = io.EOF
		}
		s.tell()
	}
	s.mu.Unlock()
}

func (s *spool) tell() {
	close(s.grown)
	s.grown = make(chan struct{})
}

// at returns how many bytes there are beyond off, how the file ended, and what
// is closed when that changes.
func (s *spool) at(off int64) (int64, error, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.size - off, s.end, s.grown
}

// follow opens a reader. It ends with io.EOF where the blob ends, or with the
// writer's error.
func (s *spool) follow(ctx context.Context) (*follower, error) {
	f, err := s.open()
	if err != nil {
		return nil, fmt.Errorf("cannot read blob back: %w", err)
	}
	return &follower{ctx: ctx, spool: s, f: f}, nil
}

// follower is read by one goroutine.
type follower struct {
	ctx   context.Context
	spool *spool
	f     *os.File
	off   int64
}

// Read implements io.Reader.
func (f *follower) Read(p []byte) (int, error) {
	for {
		n, end, grown := f.spool.at(f.off)
		if n > 0 {
			read, err := f.f.ReadAt(p[:min(int64(len(p)), n)], f.off)
			f.off += int64(read)
			return read, err
		}
		if end != nil {
			return 0, end
		}
		select {
		case <-grown:
		case <-f.ctx.Done():
			return 0, context.Cause(f.ctx)
		}
	}
}

// Close implements io.Closer.
func (f *follower) Close() error { return f.f.Close() }
