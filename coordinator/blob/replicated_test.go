package blob_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/blob/blobtest"
)

// cluster is coordinators whose stores reach each other without a network.
type cluster struct {
	t     *testing.T
	nodes []*node
}

// node is one of them with its faults.
type node struct {
	c     *cluster
	name  string
	path  string
	dir   *blob.Dir
	store *blob.Replicated

	mu     sync.Mutex
	voter  bool
	unseen bool          // known not to answer
	fault  error         // of every call to it
	hang   chan struct{} // calls to it wait until it is closed
	taken  int           // blobs that it stored for others
	served int           // blobs that it gave to others
}

var errDown = errors.New("connection refused")

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	c := &cluster{t: t}
	for i := range n {
		path := t.TempDir()
		nd := &node{c: c, name: fmt.Sprintf("srv_%d", i), path: path, dir: openDir(t, path), voter: true}
		nd.store = blob.NewReplicated(nd.dir, nd)
		c.nodes = append(c.nodes, nd)
		t.Cleanup(func() { nd.store.Close() })
	}
	return c
}

func (n *node) set(change func(*node)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// Members implements blob.Peers.
func (n *node) Members() (bool, []blob.Peer) {
	var others []blob.Peer
	for _, o := range n.c.nodes {
		if o != n {
			o.mu.Lock()
			others = append(others, blob.Peer{Server: o.name, Voter: o.voter, Reachable: !o.unseen})
			o.mu.Unlock()
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.voter, others
}

// enter is a call's arrival at a node.
func (n *node) enter(ctx context.Context, server string) (*node, error) {
	for _, o := range n.c.nodes {
		if o.name != server {
			continue
		}
		o.mu.Lock()
		fault, hang := o.fault, o.hang
		o.mu.Unlock()
		if hang != nil {
			select {
			case <-hang:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return o, fault
	}
	return nil, errDown
}

// Send implements blob.Peers.
func (n *node) Send(ctx context.Context, to blob.Peer, r io.Reader, want *blob.Digest, max int64) (blob.Digest, error) {
	o, err := n.enter(ctx, to.Server)
	if err != nil {
		return blob.Digest{}, err
	}
	d, _, err := o.dir.Put(ctx, r, want, max)
	if err == nil {
		o.set(func(o *node) { o.taken++ })
	}
	return d, err
}

// Fetch implements blob.Peers.
func (n *node) Fetch(ctx context.Context, from blob.Peer, d blob.Digest) (io.ReadCloser, int64, error) {
	o, err := n.enter(ctx, from.Server)
	if err != nil {
		return nil, 0, err
	}
	o.set(func(o *node) { o.served++ })
	return o.dir.Get(ctx, d)
}

func (n *node) has(d blob.Digest) bool {
	n.c.t.Helper()
	ok, err := n.dir.Has(d)
	if err != nil {
		n.c.t.Fatal(err)
	}
	return ok
}

func (n *node) put(b []byte) (blob.Digest, error) {
	d, _, err := n.store.Put(n.c.t.Context(), bytes.NewReader(b), nil, 10<<20)
	return d, err
}

func TestReplicated(t *testing.T) {
	for _, size := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d coordinators", size), func(t *testing.T) {
			blobtest.Run(t, func(t *testing.T) blob.Store {
				c := newCluster(t, size)
				return everywhere{c.nodes[0].store, c}
			})
		})
	}
}

// everywhere stores and removes a blob at all nodes: a copy that is on its way
// to a peer, or that a peer still has, is found again.
type everywhere struct {
	*blob.Replicated
	c *cluster
}

func (e everywhere) Put(ctx context.Context, r io.Reader, want *blob.Digest, max int64) (blob.Digest, int64, error) {
	d, size, err := e.Replicated.Put(ctx, r, want, max)
	for _, n := range e.c.nodes {
		if err == nil && !eventually(e.c.t, func() bool { return n.has(d) }) {
			err = fmt.Errorf("%s lacks the blob", n.name)
		}
	}
	return d, size, err
}

func (e everywhere) Remove(ctx context.Context, c blob.Copy) error {
	if err := e.Replicated.Remove(ctx, c); err != nil {
		return err
	}
	if ok, err := e.c.nodes[0].dir.Has(c.Digest); ok || err != nil {
		return err
	}
	for _, n := range e.c.nodes[1:] {
		err := n.dir.Walk(ctx, func(o blob.Copy) error {
			if o.Digest != c.Digest {
				return nil
			}
			return n.dir.Remove(ctx, o)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func TestPutIsOnAMajority(t *testing.T) {
	for name, test := range map[string]struct {
		nodes  int
		faults func(*cluster)
		want   error
	}{
		"all up":               {3, func(*cluster) {}, nil},
		"one refuses":          {3, func(c *cluster) { c.nodes[2].fault = errDown }, nil},
		"one hangs":            {3, func(c *cluster) { c.nodes[1].hang = make(chan struct{}) }, nil},
		"one is known down":    {3, func(c *cluster) { c.nodes[1].unseen, c.nodes[1].hang = true, make(chan struct{}) }, nil},
		"two refuse":           {3, func(c *cluster) { c.nodes[1].fault, c.nodes[2].fault = errDown, errDown }, blob.ErrNoMajority},
		"two are known down":   {3, func(c *cluster) { c.nodes[1].unseen, c.nodes[2].unseen = true, true }, blob.ErrNoMajority},
		"full and down":        {3, func(c *cluster) { c.nodes[1].fault, c.nodes[2].fault = blob.ErrFull, errDown }, blob.ErrFull},
		"no voter here":        {3, func(c *cluster) { c.nodes[0].voter, c.nodes[1].fault = false, errDown }, blob.ErrNoMajority},
		"no voter there":       {3, func(c *cluster) { c.nodes[2].voter, c.nodes[1].fault = false, errDown }, blob.ErrNoMajority},
		"no voter, all up":     {3, func(c *cluster) { c.nodes[0].voter = false }, nil},
		"in no cluster":        {1, func(c *cluster) { c.nodes[0].voter = false }, blob.ErrNoMajority},
		"two of five refuse":   {5, func(c *cluster) { c.nodes[1].fault, c.nodes[4].fault = errDown, errDown }, nil},
		"three of five refuse": {5, func(c *cluster) { c.nodes[1].fault, c.nodes[2].fault, c.nodes[3].fault = errDown, errDown, errDown }, blob.ErrNoMajority},
		"alone":                {1, func(*cluster) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, test.nodes)
			test.faults(c)
			d, err := c.nodes[0].put([]byte("payload"))
			if !errors.Is(err, test.want) || (test.want == nil) != (err == nil) {
				t.Fatalf("put: %v, want %v", err, test.want)
			}
			voters, holders := 0, 0
			for _, n := range c.nodes {
				if n.voter {
					voters++
					if n.has(d) {
						holders++
					}
				}
			}
			if err == nil && holders <= voters/2 {
				t.Errorf("acknowledged on %d of %d voters", holders, voters)
			}
		})
	}
}

func TestSlowPeerGetsTheBlobAfterwards(t *testing.T) {
	c := newCluster(t, 3)
	hang := make(chan struct{})
	c.nodes[2].hang = hang
	d, err := c.nodes[0].put(bytes.Repeat([]byte("x"), 1<<20))
	if err != nil {
		t.Fatal(err)
	}
	if c.nodes[2].has(d) {
		t.Fatal("a peer that hangs has the blob")
	}
	close(hang)
	if !eventually(t, func() bool { return c.nodes[2].has(d) }) {
		t.Error("the slow peer was forgotten")
	}
}

// eventually waits for what another goroutine does.
func eventually(t *testing.T, ok func() bool) bool {
	for t.Context().Err() == nil {
		if ok() {
			return true
		}
		<-time.After(time.Millisecond)
	}
	return false
}

func TestSlowPeerCollectsNoBacklog(t *testing.T) {
	c := newCluster(t, 3)
	c.nodes[2].hang = make(chan struct{})
	for i := range 200 {
		if _, err := c.nodes[0].put(fmt.Append(nil, i)); err != nil {
			t.Fatal(err)
		}
	}
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	if !eventually(t, func() bool { return open() < 150 }) {
		t.Errorf("%d descriptors are open", open())
	}
}

func TestBrokenSourceReachesNobody(t *testing.T) {
	c := newCluster(t, 3)
	broken := errors.New("broken")
	_, _, err := c.nodes[0].store.Put(t.Context(), io.MultiReader(bytes.NewReader(make([]byte, 300_000)), iotest.ErrReader(broken)), nil, 10<<20)
	if !errors.Is(err, broken) {
		t.Fatalf("put: %v", err)
	}
	want := sha256.Sum256([]byte("other"))
	if _, _, err := c.nodes[0].store.Put(t.Context(), bytes.NewReader([]byte("this")), &want, 100); !errors.Is(err, blob.ErrMismatch) {
		t.Fatalf("put: %v", err)
	}
	c.nodes[0].store.Close()
	for _, n := range c.nodes {
		err := n.dir.Walk(t.Context(), func(c blob.Copy) error { return fmt.Errorf("%x is kept", c.Digest) })
		if err != nil {
			t.Error(err)
		}
	}
}

func TestCallerThatLeavesWaitsForNobody(t *testing.T) {
	c := newCluster(t, 3)
	c.nodes[1].hang, c.nodes[2].hang = make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	src := readerFunc(func(p []byte) (int, error) { cancel(); return 0, io.EOF })
	if _, _, err := c.nodes[0].store.Put(ctx, src, nil, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("put: %v", err)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestGetFetchesVerifiesAndKeeps(t *testing.T) {
	c := newCluster(t, 3)
	content := bytes.Repeat([]byte("payload "), 100_000)
	d, _, err := c.nodes[1].dir.Put(t.Context(), bytes.NewReader(content), nil, 10<<20)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 { // together they are one transfer
		wg.Go(func() {
			if b, err := blob.ReadAll(t.Context(), c.nodes[0].store, d, 10<<20); err != nil || !bytes.Equal(b, content) {
				t.Errorf("read: %d bytes, %v", len(b), err)
			}
		})
	}
	wg.Wait()
	if !c.nodes[0].has(d) {
		t.Error("what was fetched is not kept")
	}
	if n := c.nodes[1].served; n > 2 {
		t.Errorf("%d transfers for readers that came together", n)
	}
}

func TestGetOfWhatNobodyHas(t *testing.T) {
	c := newCluster(t, 3)
	if _, _, err := c.nodes[0].store.Get(t.Context(), blob.Digest{1}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent everywhere: %v", err)
	}
	c.nodes[2].fault = errDown
	if _, _, err := c.nodes[0].store.Get(t.Context(), blob.Digest{1}); !errors.Is(err, blob.ErrUnreachable) || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent where one could look: %v", err)
	}
	get := func(n *node) error {
		_, _, err := n.store.Get(t.Context(), blob.Digest{1})
		return err
	}
	if err := get(c.nodes[0]); errors.Is(err, blob.ErrNobody) {
		t.Errorf("one that seems to answer does not: %v", err)
	}
	c.nodes[2].unseen = true
	if err := get(c.nodes[0]); !errors.Is(err, blob.ErrNobody) || !errors.Is(err, blob.ErrUnreachable) || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent where somebody answers: %v", err)
	}
	c.nodes[1].fault, c.nodes[1].unseen = errDown, true
	if err := get(c.nodes[0]); errors.Is(err, blob.ErrNobody) || !errors.Is(err, blob.ErrUnreachable) {
		t.Errorf("nobody answers: %v", err)
	}
	empty := newCluster(t, 1).nodes[0]
	if err := get(empty); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent, alone: %v", err)
	}
	empty.voter = false // it waits for its cluster
	if err := get(empty); !errors.Is(err, blob.ErrUnreachable) || errors.Is(err, blob.ErrNotFound) {
		t.Errorf("in no cluster yet: %v", err)
	}
}

func TestCorruptionIsHealedFromPeers(t *testing.T) {
	c := newCluster(t, 3)
	content := []byte("precious")
	d, err := c.nodes[0].put(content)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes {
		if !eventually(t, func() bool { return n.has(d) }) {
			t.Fatalf("%s lacks the blob", n.name)
		}
	}
	c.nodes[1].damage(d)
	c.nodes[0].damage(d)
	// What is read first is not served; a peer's copy that is damaged too is not
	// believed either.
	if _, err := blob.ReadAll(t.Context(), c.nodes[0].store, d, 100); !errors.Is(err, blob.ErrCorrupt) {
		t.Fatalf("damage was served: %v", err)
	}
	if err := c.nodes[0].store.Fetch(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if b, err := blob.ReadAll(t.Context(), c.nodes[0].store, d, 100); err != nil || !bytes.Equal(b, content) {
		t.Errorf("not healed: %q, %v", b, err)
	}
}

func (n *node) damage(d blob.Digest) {
	n.c.t.Helper()
	name := fmt.Sprintf("%x", d)
	file := filepath.Join(n.path, name[:2], name)
	if err := os.WriteFile(file, []byte("pretious"), 0o640); err != nil {
		n.c.t.Fatal(err)
	}
}

// TestLargeBlobsAreNotInMemory sends one source to four receivers that differ in
// pace.
func TestLargeBlobsAreNotInMemory(t *testing.T) {
	const size, allocated = 48 << 20, 4 << 20
	c := newCluster(t, 5)
	left := size
	src := readerFunc(func(p []byte) (int, error) {
		n := min(len(p), left, 77_777)
		if left -= n; n == 0 {
			return 0, io.EOF
		}
		return n, nil
	})
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	d, _, err := c.nodes[0].store.Put(t.Context(), src, nil, size)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range c.nodes[1:] {
		if !eventually(t, func() bool { return n.has(d) }) {
			t.Errorf("%s lacks the blob", n.name)
		}
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > allocated {
		t.Errorf("%d bytes were allocated for a blob of %d", n, size)
	}
}
