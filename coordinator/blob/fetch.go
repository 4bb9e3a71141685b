package blob

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// fetch is one blob on its way from a peer, for all who ask for it meanwhile.
type fetch struct {
	done chan struct{}
	err  error // set before done is closed
}

// Get implements Store. What is not here, or is found corrupt, is fetched from
// the other coordinators, verified and kept. ErrUnreachable: it is not here, and
// not all who may have it could be asked.
func (r *Replicated) Get(ctx context.Context, digest Digest) (io.ReadCloser, int64, error) {
	rd, size, err := r.local.Get(ctx, digest)
	if errors.Is(err, ErrNotFound) {
		if err := r.Fetch(ctx, digest); errors.Is(err, ErrFull) {
			return r.pass(ctx, digest)
		} else if err != nil {
			return nil, 0, err
		}
		rd, size, err = r.local.Get(ctx, digest)
	}
	if err != nil {
		return nil, 0, err
	}
	return &healing{ReadCloser: rd, heal: func() { r.begin(digest) }}, size, nil
}

// healing replaces a copy that was found corrupt.
type healing struct {
	io.ReadCloser
	heal func()
}

func (h *healing) Read(p []byte) (int, error) {
	n, err := h.ReadCloser.Read(p)
	if errors.Is(err, ErrCorrupt) {
		h.heal()
	}
	return n, err
}

// Fetch brings a blob here from whoever has it; those who ask for the same one
// share the transfer. It replaces the copy that is here.
func (r *Replicated) Fetch(ctx context.Context, digest Digest) error {
	f := r.begin(digest)
	select {
	case <-f.done:
		return f.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// begin joins the transfer of a blob, or starts it.
func (r *Replicated) begin(digest Digest) *fetch {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := r.fetches[digest]
	if f != nil {
		return f
	}
	f = &fetch{done: make(chan struct{})}
	if r.closed {
		f.err = ErrUnreachable
		close(f.done)
		return f
	}
	r.fetches[digest] = f
	r.work.Go(func() {
		f.err = r.fetch(digest)
		r.mu.Lock()
		delete(r.fetches, digest)
		r.mu.Unlock()
		close(f.done)
	})
	return f
}

// fetch asks one peer after the other until one has the blob.
func (r *Replicated) fetch(digest Digest) error {
	return r.ask(digest, func(p Peer) error {
		src, size, err := r.peers.Fetch(r.life, p, digest)
		if err != nil {
			return err
		}
		defer src.Close()
		_, _, err = r.local.Put(r.life, src, &digest, size)
		return err
	})
}

// pass opens a blob at a peer without keeping it: there is no room for it here.
func (r *Replicated) pass(ctx context.Context, digest Digest) (rd io.ReadCloser, size int64, err error) {
	err = r.ask(digest, func(p Peer) error {
		src, n, err := r.peers.Fetch(ctx, p, digest)
		if err != nil {
			return err
		}
		size, rd = n, &verified{r: src, sum: sha256.New(), want: digest}
		return nil
	})
	return rd, size, err
}

// ask tries the peers, those that answered lately first, until one succeeds.
func (r *Replicated) ask(digest Digest, try func(Peer) error) error {
	voter, others := r.peers.Members()
	if !voter && len(others) == 0 {
		return fmt.Errorf("%w: this coordinator is in no cluster yet", ErrUnreachable)
	}
	var failed error
	asked, unsure, away := false, false, false
	for _, wanted := range []bool{true, false} {
		for _, p := range others {
			if p.Reachable != wanted {
				continue
			}
			err := try(p)
			if err == nil || errors.Is(err, ErrFull) {
				return err
			}
			lacks := errors.Is(err, ErrNotFound)
			asked = asked || lacks
			unsure = unsure || !lacks && p.Reachable
			away = away || !lacks
			failed = errors.Join(failed, err)
		}
	}
	switch {
	case away && asked && !unsure:
		return fmt.Errorf("%w: %w: %x: %v", ErrUnreachable, ErrNobody, digest[:4], failed)
	case away: // one that lacks it does not make it absent
		return fmt.Errorf("%w: %x: %v", ErrUnreachable, digest[:4], failed)
	}
	return ErrNotFound
}
