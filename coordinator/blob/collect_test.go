package blob_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"windlass/coordinator/blob"
)

// rounds is how many rounds a copy without a name outlives.
const rounds = 4

func puts(t *testing.T, s blob.Store, text string) blob.Digest {
	t.Helper()
	d, _, err := s.Put(t.Context(), readerOf(text), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func round(t *testing.T, c *blob.Collector) {
	t.Helper()
	if err := c.Round(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// naming is a set of names that tests change.
type naming struct {
	mu  sync.Mutex
	set map[blob.Digest]bool
	err error
}

func (n *naming) list(_ context.Context, name func(blob.Digest)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for d := range n.set {
		name(d)
	}
	return n.err
}

func (n *naming) name(d blob.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.set[d] = true
}

func (n *naming) drop(d blob.Digest) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.set, d)
}

func newCollector(t *testing.T) (*blob.Dir, *naming, *blob.Collector) {
	d := openDir(t, t.TempDir())
	n := &naming{set: map[blob.Digest]bool{}}
	return d, n, blob.NewCollector(d, n.list)
}

func kept(t *testing.T, d *blob.Dir, digest blob.Digest) bool {
	t.Helper()
	ok, err := d.Has(digest)
	if err != nil {
		t.Fatal(err)
	}
	return ok
}

func TestCollectorRemovesWhatNothingNames(t *testing.T) {
	d, names, c := newCollector(t)
	used, garbage := puts(t, d, "used"), puts(t, d, "garbage")
	names.name(used)
	for i := range rounds {
		round(t, c)
		if !kept(t, d, garbage) {
			t.Fatalf("removed in round %d: a submit may still name it", i+1)
		}
	}
	round(t, c)
	if kept(t, d, garbage) || !kept(t, d, used) {
		t.Errorf("garbage kept: %t, named blob kept: %t", kept(t, d, garbage), kept(t, d, used))
	}
	if n, size := c.Collected(); n != 1 || size != uint64(len("garbage")) {
		t.Errorf("collected %d copies of %d bytes", n, size)
	}
	names.drop(used)
	for range rounds + 1 {
		round(t, c)
	}
	if kept(t, d, used) {
		t.Error("what is not named any more is kept")
	}
}

func TestCollectorBeginsAnew(t *testing.T) {
	for name, save := range map[string]func(*testing.T, *blob.Dir, *naming, blob.Digest){
		"after another put": func(t *testing.T, d *blob.Dir, _ *naming, _ blob.Digest) { puts(t, d, "x") },
		"after it was named": func(t *testing.T, _ *blob.Dir, n *naming, digest blob.Digest) {
			n.name(digest)
		},
	} {
		t.Run(name, func(t *testing.T) {
			d, names, c := newCollector(t)
			digest := puts(t, d, "x")
			for range rounds {
				round(t, c)
			}
			save(t, d, names, digest)
			round(t, c)
			names.drop(digest)
			for range rounds - 1 {
				round(t, c)
			}
			if !kept(t, d, digest) {
				t.Error("its rounds were not counted anew")
			}
		})
	}
}

func TestCollectorRemovesNothingWithoutNames(t *testing.T) {
	d, names, c := newCollector(t)
	digest := puts(t, d, "x")
	names.err = errors.New("no leader")
	for range 2 * rounds {
		if err := c.Round(t.Context()); !errors.Is(err, names.err) {
			t.Fatalf("a round without names: %v", err)
		}
	}
	if !kept(t, d, digest) {
		t.Error("removed although the names were not known")
	}
}

func TestCollectorRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, _, c := newCollector(t)
		digest := puts(t, d, "x")
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Run(ctx, func(err error) { t.Error(err) })
		}()
		pass(time.Hour)
		synctest.Wait()
		early := kept(t, d, digest)
		pass(16 * time.Minute)
		synctest.Wait()
		if !early || kept(t, d, digest) {
			t.Errorf("kept after an hour: %t, after another quarter: %t", early, kept(t, d, digest))
		}
		cancel()
		<-done
	})
}

// TestCollectorRacesWithSubmits is F34: jobs store the same few payloads, are
// named, end and are evicted while rounds go on without a pause. Between a put
// and its name pass fewer rounds than a copy outlives; a named blob must be
// there at any moment.
func TestCollectorRacesWithSubmits(t *testing.T) {
	d, _, _ := newCollector(t)
	j := &jobs{refs: map[blob.Digest]int{}}
	c := blob.NewCollector(d, j.list)
	var gate sync.RWMutex // a submit spans fewer rounds than a copy outlives
	var submitters sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 4 {
		submitters.Go(func() {
			for range 100 {
				gate.RLock()
				digest, _, err := d.Put(ctx, readerOf(fmt.Sprint("payload ", rand.N(8))), nil, 1<<20)
				if err != nil {
					t.Error(err)
				}
				j.add(digest, 1)
				gate.RUnlock()
				if b, err := blob.ReadAll(ctx, d, digest, 1<<20); err != nil {
					t.Errorf("a live job lost %q: %v", b, err)
				}
				j.add(digest, -1)
			}
		})
	}
	var collector sync.WaitGroup
	collector.Go(func() {
		for ctx.Err() == nil {
			for range rounds - 1 {
				if err := c.Round(ctx); err != nil && ctx.Err() == nil {
					t.Error(err)
				}
			}
			gate.Lock()
			gate.Unlock() //nolint:staticcheck // whoever was between put and name is through
		}
	})
	submitters.Wait()
	stop()
	collector.Wait()
	if n, _ := c.Collected(); n == 0 {
		t.Log("no round met garbage")
	}
}

// jobs counts who names a blob.
type jobs struct {
	mu   sync.Mutex
	refs map[blob.Digest]int
}

func (j *jobs) add(d blob.Digest, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.refs[d] += n
}

func (j *jobs) list(_ context.Context, name func(blob.Digest)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for d, n := range j.refs {
		if n > 0 {
			name(d)
		}
	}
	return nil
}

func readerOf(text string) *strings.Reader { return strings.NewReader(text) }
