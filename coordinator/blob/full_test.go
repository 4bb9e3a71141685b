package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"testing"
)

func TestDirKeepsTheReserve(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for free, want := range map[int64]error{DiskReserve - 1: ErrFull, DiskReserve + 99: ErrFull, DiskReserve + 100: nil} {
		d.free = func() (int64, error) { return free, nil }
		if _, _, err := d.Put(t.Context(), bytes.NewReader(make([]byte, 100)), nil, 1000); !errors.Is(err, want) {
			t.Errorf("100 bytes with %d free: %v, want %v", free-DiskReserve, err, want)
		}
	}
	entries, err := fs.ReadDir(d.root.FS(), ".")
	if err != nil || len(entries) != 256 {
		t.Errorf("%d entries, want the 256 folders alone: %v", len(entries), err)
	}
}

// TestDirKeepsTheReserveWhileItWrites has the space go while a blob is written.
func TestDirKeepsTheReserveWhileItWrites(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	looks := 0
	d.free = func() (int64, error) {
		looks++
		return DiskReserve + 8*recheck - int64(looks-1)*4*recheck, nil // others write, three times as much
	}
	if _, _, err := d.Put(t.Context(), bytes.NewReader(make([]byte, 6*recheck)), nil, 8*recheck); !errors.Is(err, ErrFull) {
		t.Errorf("a blob that would have fitted before: %v", err)
	}
}

// neighbour is another coordinator that has one blob.
type neighbour struct{ content []byte }

// Members implements Peers.
func (n neighbour) Members() (bool, []Peer) {
	return true, []Peer{{Server: "srv_b", Voter: true, Reachable: true}}
}

// Send implements Peers.
func (n neighbour) Send(_ context.Context, _ Peer, r io.Reader, _ *Digest, _ int64) (Digest, error) {
	b, err := io.ReadAll(r)
	return sha256.Sum256(b), err
}

// Fetch implements Peers.
func (n neighbour) Fetch(context.Context, Peer, Digest) (io.ReadCloser, int64, error) {
	return io.NopCloser(bytes.NewReader(n.content)), int64(len(n.content)), nil
}

// TestReplicatedKeepsTheReserve: with a full disk nothing is taken, whatever the
// others have, and what they have is read from them without being kept.
func TestReplicatedKeepsTheReserve(t *testing.T) {
	d, err := OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.free = func() (int64, error) { return DiskReserve - 1, nil }
	content := []byte("payload")
	r := NewReplicated(d, neighbour{content})
	defer r.Close()
	if _, _, err := r.Put(t.Context(), bytes.NewReader(content), nil, 100); !errors.Is(err, ErrFull) {
		t.Errorf("put: %v", err)
	}
	digest := sha256.Sum256(content)
	if b, err := ReadAll(t.Context(), r, digest, 100); err != nil || !bytes.Equal(b, content) {
		t.Errorf("read %q, %v", b, err)
	}
	if ok, err := d.Has(digest); ok || err != nil {
		t.Errorf("it was kept: %t, %v", ok, err)
	}
	if _, err := ReadAll(t.Context(), r, Digest{1}, 100); !errors.Is(err, ErrCorrupt) {
		t.Errorf("other bytes than asked for were served: %v", err)
	}
}
