package coordinator

import (
	"context"
	"io"
	"strings"
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
}

// Members implements blob.Peers.
func (n *neighbour) Members() (bool, []blob.Peer) {
	return true, []blob.Peer{{Server: "srv_b", Voter: true, Reachable: true}}
}

// Send implements blob.Peers.
func (n *neighbour) Send(ctx context.Context, _ blob.Peer, r io.Reader, want *blob.Digest, max int64) (blob.Digest, error) {
	d, _, err := n.dir.Put(ctx, r, want, max)
	return d, err
}

// Fetch implements blob.Peers.
func (n *neighbour) Fetch(ctx context.Context, _ blob.Peer, d blob.Digest) (io.ReadCloser, int64, error) {
	n.asks.Add(1)
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
		}, st, zerolog.Nop())
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
