package coordinator

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/coordinator/peer"
)

// TestBlobsBetweenPorts moves blobs over the real peer port, with the errors of
// the other store as they must arrive.
func TestBlobsBetweenPorts(t *testing.T) {
	open := func(server string) *peer.Port {
		p, err := peer.Listen(peer.Config{Listen: "127.0.0.1:0", Log: zerolog.Nop(), Self: func() peer.Identity {
			return peer.Identity{Server: server, Cluster: "c"}
		}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	dir, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	here, there := open("srv_a"), open("srv_b")
	serveBlobs(there, dir)
	served := make(chan error, 2)
	for _, p := range []*peer.Port{here, there} {
		go func() { served <- p.Serve() }()
		defer func() {
			if err := errors.Join(p.Close(), <-served); err != nil {
				t.Error(err)
			}
		}()
	}
	peers, to := &blobPeers{port: here}, blob.Peer{Server: "srv_b", Host: there.Host()}
	content := bytes.Repeat([]byte("payload "), 100_000)
	digest, err := peers.Send(t.Context(), to, bytes.NewReader(content), nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	r, size, err := peers.Fetch(t.Context(), to, digest)
	if err != nil || size != int64(len(content)) {
		t.Fatalf("fetch of %d bytes: %v", size, err)
	}
	got, err := io.ReadAll(r)
	if err = errors.Join(err, r.Close()); err != nil || !bytes.Equal(got, content) {
		t.Errorf("%d bytes came back: %v", len(got), err)
	}
	if _, _, err := peers.Fetch(t.Context(), to, blob.Digest{1}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if err := blobError(peerError(blob.ErrFull)); !errors.Is(err, blob.ErrFull) {
		t.Errorf("full: %v", err)
	}
	broken := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("broken")))
	for name, send := range map[string]func() (blob.Digest, error){
		"other bytes": func() (blob.Digest, error) { return peers.Send(t.Context(), to, strings.NewReader("x"), &digest, 10) },
		"too large":   func() (blob.Digest, error) { return peers.Send(t.Context(), to, strings.NewReader("xyz"), nil, 2) },
		"broken":      func() (blob.Digest, error) { return peers.Send(t.Context(), to, broken, nil, 10) },
	} {
		if _, err := send(); err == nil {
			t.Errorf("%s: it was stored", name)
		}
	}
	blobs := 0
	if err := dir.Walk(t.Context(), func(blob.Copy) error { blobs++; return nil }); err != nil || blobs != 1 {
		t.Errorf("%d blobs, want 1: %v", blobs, err)
	}
}
