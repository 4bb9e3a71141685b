// Package blobtest is the conformance suite of blob.Store.
package blobtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"windlass/coordinator/blob"
)

// Run checks a store that open makes empty for each test.
func Run(t *testing.T, open func(t *testing.T) blob.Store) {
	for name, test := range map[string]func(*testing.T, blob.Store){
		"put and get":           putAndGet,
		"put twice":             putTwice,
		"want":                  want,
		"too large":             tooLarge,
		"broken source":         brokenSource,
		"cancelled":             cancelled,
		"remove":                remove,
		"remove and put again":  removeAndPut,
		"walk":                  walk,
		"concurrent":            concurrent,
		"read while removing":   readWhileRemoving,
		"get of what is absent": absent,
		"range":                 readRange,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// maxSize is the limit that the tests pass where it must not matter.
const maxSize = 10 << 20

func put(t *testing.T, s blob.Store, b []byte) blob.Digest {
	t.Helper()
	d, n, err := s.Put(t.Context(), bytes.NewReader(b), nil, maxSize)
	if err != nil || n != int64(len(b)) || d != sha256.Sum256(b) {
		t.Fatalf("put of %d bytes: %d, %v", len(b), n, err)
	}
	return d
}

func get(t *testing.T, s blob.Store, d blob.Digest) []byte {
	t.Helper()
	b, err := blob.ReadAll(t.Context(), s, d, maxSize)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// count returns how many blobs there are, whatever the number of copies.
func count(t *testing.T, s blob.Store) int {
	t.Helper()
	distinct := map[blob.Digest]bool{}
	if err := s.Walk(t.Context(), func(c blob.Copy) error { distinct[c.Digest] = true; return nil }); err != nil {
		t.Fatal(err)
	}
	return len(distinct)
}

func putAndGet(t *testing.T, s blob.Store) {
	for _, size := range []int{0, 1, 4096, 1<<20 + 7} {
		b := bytes.Repeat([]byte{byte(size), 7, 1}, size/3+1)[:size]
		if got := get(t, s, put(t, s, b)); !bytes.Equal(got, b) {
			t.Errorf("%d bytes came back as %d others", size, len(got))
		}
	}
}

func putTwice(t *testing.T, s blob.Store) {
	d := put(t, s, []byte("same"))
	if put(t, s, []byte("same")) != d || count(t, s) != 1 {
		t.Error("the same bytes are two blobs")
	}
}

func want(t *testing.T, s blob.Store) {
	d := sha256.Sum256([]byte("right"))
	if _, _, err := s.Put(t.Context(), bytes.NewReader([]byte("wrong")), &d, maxSize); !errors.Is(err, blob.ErrMismatch) {
		t.Errorf("wrong content: %v", err)
	}
	if count(t, s) != 0 {
		t.Error("wrong content was kept")
	}
	if _, _, err := s.Put(t.Context(), bytes.NewReader([]byte("right")), &d, maxSize); err != nil {
		t.Error(err)
	}
}

func tooLarge(t *testing.T, s blob.Store) {
	if _, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 101)), nil, 100); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("101 bytes of 100: %v", err)
	}
	if count(t, s) != 0 {
		t.Error("a blob over the limit was kept")
	}
	d, _, err := s.Put(t.Context(), bytes.NewReader(make([]byte, 100)), nil, 100)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := blob.ReadAll(t.Context(), s, d, 99); !errors.Is(err, blob.ErrTooLarge) {
		t.Errorf("read of 100 bytes of at most 99: %v", err)
	}
}

func brokenSource(t *testing.T, s blob.Store) {
	broken := errors.New("broken")
	r := io.MultiReader(bytes.NewReader(make([]byte, 10)), iotest.ErrReader(broken))
	if _, _, err := s.Put(t.Context(), r, nil, maxSize); !errors.Is(err, broken) {
		t.Errorf("broken source: %v", err)
	}
	if count(t, s) != 0 {
		t.Error("half a blob was kept")
	}
}

func cancelled(t *testing.T, s blob.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := s.Put(ctx, bytes.NewReader([]byte("x")), nil, maxSize); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled put: %v", err)
	}
}

// copies returns every copy of a blob.
func copies(t *testing.T, s blob.Store, d blob.Digest) []blob.Copy {
	t.Helper()
	var list []blob.Copy
	err := s.Walk(t.Context(), func(c blob.Copy) error {
		if c.Digest == d {
			list = append(list, c)
		}
		return nil
	})
	if err != nil || len(list) == 0 {
		t.Fatalf("%d copies, %v", len(list), err)
	}
	return list
}

func remove(t *testing.T, s blob.Store) {
	d := put(t, s, []byte("gone"))
	list := copies(t, s, d)
	for range 2 {
		for _, c := range list {
			if err := s.Remove(t.Context(), c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, _, err := s.Get(t.Context(), d); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a removed blob: %v", err)
	}
}

// removeAndPut is the race of a collector with a submit: what was stored after
// the collector looked must stay.
func removeAndPut(t *testing.T, s blob.Store) {
	d := put(t, s, []byte("again"))
	old := copies(t, s, d)
	put(t, s, []byte("again"))
	for _, c := range old {
		if err := s.Remove(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got := get(t, s, d); string(got) != "again" {
		t.Errorf("came back as %q", got)
	}
}

func walk(t *testing.T, s blob.Store) {
	sizes := map[blob.Digest]int64{}
	for i := range 20 {
		sizes[put(t, s, make([]byte, i))] = int64(i)
	}
	err := s.Walk(t.Context(), func(c blob.Copy) error {
		if size, ok := sizes[c.Digest]; !ok || size != c.Size {
			t.Errorf("%x with %d bytes was never stored", c.Digest, c.Size)
		}
		delete(sizes, c.Digest)
		return nil
	})
	if err != nil || len(sizes) != 0 {
		t.Errorf("%d blobs were not listed, %v", len(sizes), err)
	}
	put(t, s, []byte("x"))
	stop := errors.New("stop")
	if err := s.Walk(t.Context(), func(blob.Copy) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a stopped walk: %v", err)
	}
}

func concurrent(t *testing.T, s blob.Store) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			b := bytes.Repeat([]byte{byte(i % 2)}, 50_000)
			d, _, err := s.Put(t.Context(), bytes.NewReader(b), nil, maxSize)
			if err != nil {
				t.Error(err)
				return
			}
			if got, err := blob.ReadAll(t.Context(), s, d, maxSize); err != nil || !bytes.Equal(got, b) {
				t.Errorf("read back: %v", err)
			}
		})
	}
	wg.Wait()
	if n := count(t, s); n != 2 {
		t.Errorf("%d blobs of 2", n)
	}
}

func readWhileRemoving(t *testing.T, s blob.Store) {
	b := bytes.Repeat([]byte("x"), 1<<20)
	d := put(t, s, b)
	r, _, err := s.Get(t.Context(), d)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, c := range copies(t, s, d) {
		if err := s.Remove(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, b) {
		t.Errorf("an open blob was cut by its removal: %d bytes, %v", len(got), err)
	}
}

func absent(t *testing.T, s blob.Store) {
	if _, _, err := s.Get(t.Context(), blob.Digest{1}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
}

// readRange checks a store that is a blob.Ranger; all of ours are.
func readRange(t *testing.T, s blob.Store) {
	r := s.(blob.Ranger)
	b := bytes.Repeat([]byte("0123456789"), 50_000)
	d := put(t, s, b)
	for _, c := range []struct{ offset, size int }{{0, 1}, {0, len(b)}, {123_456, 70_000}, {len(b) - 1, 1}, {7, 0}} {
		p := make([]byte, c.size)
		if err := r.ReadRange(t.Context(), d, int64(c.offset), p); err != nil || !bytes.Equal(p, b[c.offset:c.offset+c.size]) {
			t.Errorf("%d bytes at %d: %v", c.size, c.offset, err)
		}
	}
	if err := r.ReadRange(t.Context(), d, int64(len(b))-5, make([]byte, 6)); !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("a range behind the end: %v", err)
	}
	if err := r.ReadRange(t.Context(), blob.Digest{1}, 0, make([]byte, 1)); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("a range of what is absent: %v", err)
	}
	if err := r.Repair(t.Context(), d); err != nil && !errors.Is(err, blob.ErrCorrupt) {
		t.Errorf("repair: %v", err)
	}
}
