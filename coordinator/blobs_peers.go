package coordinator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"windlass/coordinator/blob"
	"windlass/coordinator/consensus"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

// The methods that coordinators call for blobs.
const (
	methodPutBlob = "blob/put" // query: max, want; body: the blob; answer: storedBlob
	methodGetBlob = "blob/get" // query: digest; answer: the blob
)

// storedBlob is the answer to methodPutBlob: the blob is durable there.
type storedBlob struct {
	SHA256 string `json:"sha256"`
}

// maxStored bounds the encoded storedBlob.
const maxStored = 1 << 10

// blobPeers are the other coordinators as blob.Replicated sees them.
type blobPeers struct {
	node *consensus.Node
	port *peer.Port // nil in memory, where there are no others
}

// Members implements blob.Peers.
func (b *blobPeers) Members() (voter bool, others []blob.Peer) {
	members := b.node.Members()
	for i := range members {
		switch m := &members[i]; {
		case m.Self:
			voter = m.Voter
		case m.Joined:
			others = append(others, blob.Peer{Server: m.Server, Host: m.Host, Voter: m.Voter, Reachable: m.Reachable})
		}
	}
	return voter, others
}

// Send implements blob.Peers.
func (b *blobPeers) Send(ctx context.Context, to blob.Peer, r io.Reader, want *blob.Digest, max int64) (blob.Digest, error) {
	query := url.Values{"max": {strconv.FormatInt(max, 10)}}
	if want != nil {
		query.Set("want", hex.EncodeToString(want[:]))
	}
	resp, _, err := b.port.Stream(ctx, address(to), methodPutBlob, query, r, -1)
	if err != nil {
		return blob.Digest{}, blobError(err)
	}
	defer resp.Close()
	var out storedBlob
	if err := json.NewDecoder(io.LimitReader(resp, maxStored)).Decode(&out); err != nil {
		return blob.Digest{}, fmt.Errorf("cannot read the answer of %s: %w", to.Server, err)
	}
	return blob.ParseDigest(out.SHA256)
}

// Fetch implements blob.Peers.
func (b *blobPeers) Fetch(ctx context.Context, from blob.Peer, digest blob.Digest) (io.ReadCloser, int64, error) {
	query := url.Values{"digest": {hex.EncodeToString(digest[:])}}
	r, size, err := b.port.Stream(ctx, address(from), methodGetBlob, query, nil, 0)
	if err != nil {
		return nil, 0, blobError(err)
	}
	if size < 0 {
		return nil, 0, errors.Join(fmt.Errorf("%s does not say how large the blob is", from.Server), r.Close())
	}
	return r, size, nil
}

func address(p blob.Peer) peer.Address { return peer.Address{Server: p.Server, Host: p.Host} }

// serveBlobs answers the other coordinators from this one's own copies: what is
// not here is not asked for elsewhere on their behalf.
func serveBlobs(port *peer.Port, dir *blob.Dir) {
	port.Handle(methodPutBlob, func(ctx context.Context, r *peer.Request) (any, error) { return takeBlob(ctx, dir, r) })
	port.Handle(methodGetBlob, func(ctx context.Context, r *peer.Request) (any, error) {
		digest, err := blob.ParseDigest(r.Query.Get("digest"))
		if err != nil {
			return nil, protocol.Invalid("digest", r.Query.Get("digest"), "Must be a digest")
		}
		body, size, err := dir.Get(ctx, digest)
		if err != nil {
			return nil, peerError(err)
		}
		return peer.Blob{ReadCloser: body, Size: size}, nil
	})
}

// takeBlob is methodPutBlob.
func takeBlob(ctx context.Context, dir *blob.Dir, r *peer.Request) (any, error) {
	max, err := strconv.ParseInt(r.Query.Get("max"), 10, 64)
	if err != nil || max < 0 {
		return nil, protocol.Invalid("max", r.Query.Get("max"), "Must be a number of bytes")
	}
	var want *blob.Digest
	if text := r.Query.Get("want"); text != "" {
		d, err := blob.ParseDigest(text)
		if err != nil {
			return nil, protocol.Invalid("want", text, "Must be a digest")
		}
		want = &d
	}
	body := &source{r: r.Body}
	digest, _, err := dir.Put(ctx, body, want, max)
	if body.err != nil {
		return nil, protocol.NewError(protocol.CodeMalformed, "The blob ended early: "+body.err.Error())
	}
	if err != nil {
		return nil, peerError(err)
	}
	return storedBlob{hex.EncodeToString(digest[:])}, nil
}

// source notes an error of the caller, which is none of this node's storage.
type source struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// peerError is an error of the store as it travels; blobError reads it back.
func peerError(err error) error {
	switch {
	case errors.Is(err, blob.ErrFull):
		return protocol.NewError(protocol.CodeStorageLimit, err.Error())
	case errors.Is(err, blob.ErrNotFound):
		return protocol.NewError(protocol.CodeNotFound, err.Error())
	case errors.Is(err, blob.ErrTooLarge), errors.Is(err, blob.ErrMismatch):
		return protocol.NewError(protocol.CodeValidation, err.Error()) // the sender finds out by itself
	}
	return err
}

func blobError(err error) error {
	switch protocol.CodeOf(err) {
	case protocol.CodeStorageLimit:
		return fmt.Errorf("%w: %w", blob.ErrFull, err)
	case protocol.CodeNotFound:
		return fmt.Errorf("%w: %w", blob.ErrNotFound, err)
	}
	return err
}
