package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"windlass/protocol"
)

// maxHops bounds leader hints in a row; more means that nobody knows the leader.
const maxHops = 3

// Register opens a life of an agent at the leader, following its hints. It is
// sent once round the addresses: the agent decides when to try again.
func (c *Client) Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	return follow(ctx, c, protocol.PathRegister, req, func(r protocol.RegisterResponse) string { return r.Leader })
}

// Sync parks the agent's poll at the leader, following its hints. The caller's
// context bounds the hold; a lost poll is an error and is not sent again here.
func (c *Client) Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	return follow(ctx, c, protocol.PathSync, req, func(r protocol.SyncResponse) string { return r.Leader })
}

// Report sends what flows up from an agent to the leader, following its hints.
func (c *Client) Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	return follow(ctx, c, protocol.PathReport, req, func(r protocol.ReportResponse) string { return r.Leader })
}

// follow sends in until an answer names no other leader.
func follow[In, Out any](ctx context.Context, c *Client, path string, in In, leader func(Out) string) (Out, error) {
	var zero Out
	for range maxHops + 1 {
		var out Out
		err := c.call(ctx, request{method: http.MethodPost, path: path, repeat: repeatNever}, in, &out)
		if err != nil {
			return zero, err
		}
		hint := leader(out)
		if hint == "" {
			return out, nil
		}
		if err := c.adoptHint(hint); err != nil {
			return zero, err
		}
	}
	return zero, protocol.NewError(protocol.CodeNoLeader, fmt.Sprintf("%d coordinators in a row named another leader", maxHops+1))
}

// adoptHint makes the leader the first address to ask. A hint without a scheme
// keeps the one of the coordinator that gave it, so that TLS is never dropped.
func (c *Client) adoptHint(hint string) error {
	if !strings.Contains(hint, "://") {
		scheme, _, _ := strings.Cut(c.Addr(), "://")
		hint = scheme + "://" + hint
	}
	addr, err := ParseAddr(hint)
	if err != nil {
		return fmt.Errorf("cannot follow leader hint: %w", err)
	}
	c.answered(addr)
	return nil
}

// PutBlob stores size bytes of r under their hex SHA-256. It is repeated after
// a failure only when r is an io.Seeker.
func (c *Client) PutBlob(ctx context.Context, sha256hex string, size int64, r io.Reader) error {
	resp, err := c.do(ctx, request{method: http.MethodPut, path: protocol.PathBlob + sha256hex, stream: r, size: size})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// GetBlob opens the blob with the hex SHA-256; the caller closes it and checks
// the digest.
func (c *Client) GetBlob(ctx context.Context, sha256hex string) (io.ReadCloser, error) {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: protocol.PathBlob + sha256hex})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
