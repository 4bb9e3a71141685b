package coordinator

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/coordinator/state"
)

// neighbour is another coordinator with a folder of its own.
type neighbour struct {
	dir  *blob.Dir
	asks atomic.Int64

	mu   sync.Mutex
	away bool  // a third one does not answer
	err  error // instead of its blobs
}

// Members implements blob.Peers.
func (n *neighbour) Members() (bool, []blob.Peer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	others := []blob.Peer{{Server: "srv_b", Voter: true, Reachable: true}}
	if n.away {
		others = append(others, blob.Peer{Server: "srv_c", Voter: true})
	}
	return true, others
}

func (n *neighbour) set(away bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.away, n.err = away, err
}

// Send implements blob.Peers.
func (n *neighbour) Send(ctx context.Context, _ blob.Peer, r io.Reader, want *blob.Digest, max int64) (blob.Digest, error) {
	d, _, err := n.dir.Put(ctx, r, want, max)
	return d, err
}

// Fetch implements blob.Peers.
func (n *neighbour) Fetch(ctx context.Context, from blob.Peer, d blob.Digest) (io.ReadCloser, int64, error) {
	n.asks.Add(1)
	n.mu.Lock()
	err := n.err
	n.mu.Unlock()
	if from.Server == "srv_c" {
		return nil, 0, errors.New("srv_c does not answer")
	}
	if err != nil {
		return nil, 0, err
	}
	return n.dir.Get(ctx, d)
}

func openFolder(t *testing.T) *blob.Dir {
	t.Helper()
	d, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// TestFillerFetchesWhatIsNamed has a node that lacks two payloads, one of which
// nobody has at first.
func TestFillerFetchesWhatIsNamed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, local, st := &neighbour{dir: openFolder(t)}, openFolder(t), state.New()
		store := func(d *blob.Dir, text string) blob.Digest {
			digest, _, err := d.Put(t.Context(), strings.NewReader(text), nil, 100)
			if err != nil {
				t.Fatal(err)
			}
			return digest
		}
		has := func(d blob.Digest) bool {
			ok, err := local.Has(d)
			if err != nil {
				t.Fatal(err)
			}
			return ok
		}
		there, late := store(n.dir, "there"), store(openFolder(t), "late")
		here := store(local, "here")
		copies := blob.NewReplicated(local, n)
		f := newFiller(copies, n, func(_ context.Context, name func(blob.Digest)) (*state.View, error) {
			name(there)
			name(here)
			name(late)
			return st.View(), nil
		}, st, func() uint64 { return 0 }, zerolog.Nop())
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.run(ctx)
		}()
		pass(time.Second)
		synctest.Wait()
		if !has(there) || f.missing.Load() != 1 || f.fetched.Load() != 1 {
			t.Errorf("fetched: %t, %d are missing, %d came", has(there), f.missing.Load(), f.fetched.Load())
		}
		asks := n.asks.Load()
		pass(time.Hour)
		if tries := n.asks.Load() - asks; tries < 5 || tries > 20 {
			t.Errorf("asked %d times in an hour for what nobody has", tries)
		}
		store(n.dir, "late")
		pass(fillRetryMax)
		synctest.Wait()
		if !has(late) || f.missing.Load() != 0 {
			t.Errorf("fetched: %t, %d are missing", has(late), f.missing.Load())
		}
		cancel()
		<-done
		if err := copies.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestCopiesSayWhatIsHere follows what a node says of its payloads while one of
// them is nowhere: that does not keep it from being complete, once it is proven.
func TestCopiesSayWhatIsHere(t *testing.T) {
	const applied = 7
	for name, c := range map[string]struct {
		away    bool
		err     error
		settled bool
	}{
		"all others lack it":               {false, nil, true},
		"all that answer lack it":          {true, nil, true},
		"one that answers cannot serve it": {false, errors.New("its copy is corrupt"), false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n, local, st := &neighbour{dir: openFolder(t)}, openFolder(t), state.New()
				n.set(c.away, c.err)
				lost, _, err := openFolder(t).Put(t.Context(), strings.NewReader("lost"), nil, 100)
				if err != nil {
					t.Fatal(err)
				}
				copies := blob.NewReplicated(local, n)
				f := newFiller(copies, n, func(_ context.Context, name func(blob.Digest)) (*state.View, error) {
					name(lost)
					return st.View(), nil
				}, st, func() uint64 { return applied }, zerolog.Nop())
				if got := f.copies(); got.Index != 0 {
					t.Errorf("before it has looked it says %+v", got)
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan struct{})
				go func() {
					defer close(done)
					f.run(ctx)
				}()
				pass(fillRetry / 2)
				if got := f.copies(); got.Index != 0 || got.Missing != 1 || got.Nowhere != 0 || got.Trouble == "" {
					t.Errorf("after one round it says %+v", got)
				}
				pass(time.Hour)
				got := f.copies()
				if c.settled && (got.Index != applied || got.Missing != 0 || got.Nowhere != 1 || got.Names[0] != hex.EncodeToString(lost[:6])) {
					t.Errorf("proven, it says %+v", got)
				}
				if !c.settled && (got.Index != 0 || got.Missing != 1 || got.Nowhere != 0 || !strings.Contains(got.Trouble, "corrupt")) {
					t.Errorf("not proven, it says %+v", got)
				}
				n.set(false, nil)
				if _, _, err := n.dir.Put(t.Context(), strings.NewReader("lost"), nil, 100); err != nil {
					t.Fatal(err)
				}
				pass(2 * fillRetryMax)
				if got := f.copies(); got.Index != applied || got.Missing+got.Nowhere != 0 {
					t.Errorf("found again, it says %+v", got)
				}
				cancel()
				<-done
				if err := copies.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
