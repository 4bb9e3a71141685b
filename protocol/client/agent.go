package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"windlass/protocol"
)

// maxHops bounds leader hints in a row; more means that nobody knows the leader.
const maxHops = 3

// relayTerm is how long an address that could not be reached is not tried
// first, and how long requests for a leader there are relayed by another
// coordinator: a firewall does not change by the second, and the first try after
// it costs one dial.
const relayTerm = time.Minute

// Register opens a life of an agent at the leader, following its hints. It is
// sent once round the addresses: the agent decides when to try again.
func (c *Client) Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	return follow(ctx, c, protocol.PathRegister, func(relay bool) any { req.Relay = relay; return req },
		func(r protocol.RegisterResponse) string { return r.Leader })
}

// Sync parks the agent's poll at the leader, following its hints. The caller's
// context bounds the hold; a lost poll is an error and is not sent again here.
func (c *Client) Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	return follow(ctx, c, protocol.PathSync, func(relay bool) any { req.Relay = relay; return req },
		func(r protocol.SyncResponse) string { return r.Leader })
}

// Report sends what flows up from an agent to the leader, following its hints.
func (c *Client) Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	return follow(ctx, c, protocol.PathReport, func(relay bool) any { req.Relay = relay; return req },
		func(r protocol.ReportResponse) string { return r.Leader })
}

// follow sends a request until an answer names no other leader. A leader whose
// address cannot be reached from here is asked through the coordinator that
// named it.
func follow[Out any](ctx context.Context, c *Client, path string, request func(relay bool) any, leader func(Out) string) (Out, error) {
	var zero Out
	relay := false
	for range maxHops + 1 {
		var out Out
		if err := c.callOnce(ctx, path, request(relay), &out); err != nil {
			return zero, err
		}
		hint := leader(out)
		if hint == "" {
			return out, nil
		}
		addr, err := c.parseHint(hint)
		if err != nil {
			return zero, err
		}
		if relay = c.avoided(addr); !relay {
			c.answered(addr)
		}
	}
	return zero, protocol.NewError(protocol.CodeNoLeader, fmt.Sprintf("%d coordinators in a row named another leader", maxHops+1))
}

// callOnce sends an agent's request once round the addresses.
func (c *Client) callOnce(ctx context.Context, path string, in, out any) error {
	return c.call(ctx, request{method: http.MethodPost, path: path, repeat: repeatNever}, in, out)
}

// parseHint reads a leader's address. One without a scheme keeps that of the
// coordinator that gave it, so that TLS is never dropped.
func (c *Client) parseHint(hint string) (string, error) {
	if !strings.Contains(hint, "://") {
		scheme, _, _ := strings.Cut(c.Addr(), "://")
		hint = scheme + "://" + hint
	}
	addr, err := ParseAddr(hint)
	if err != nil {
		return "", fmt.Errorf("cannot follow leader hint: %w", err)
	}
	return addr, nil
}

// GrantOutputs asks any coordinator for leave to upload what an attempt made.
func (c *Client) GrantOutputs(ctx context.Context, req protocol.GrantRequest) (protocol.GrantResponse, error) {
	var out protocol.GrantResponse
	err := c.call(ctx, request{method: http.MethodPost, path: protocol.PathOutputs, repeat: repeatSafe}, req, &out)
	return out, err
}

// PutOutput stores exactly what was granted, at any coordinator.
func (c *Client) PutOutput(ctx context.Context, g protocol.UploadGrant, r io.ReadSeeker) error {
	resp, err := c.do(ctx, request{
		method: http.MethodPut, path: protocol.PathOutputs + "/" + g.SHA256, stream: r, size: g.Size,
		header: http.Header{protocol.HeaderGrant: {g.Token}},
	})
	if err != nil {
		return err
	}
	return resp.Body.Close()
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

// GetBlob opens the input of a job by its hex SHA-256; the caller closes it and
// checks the digest.
func (c *Client) GetBlob(ctx context.Context, sha256hex string, job protocol.JobID) (io.ReadCloser, error) {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: protocol.PathBlob + sha256hex, query: url.Values{"job": {job.String()}}})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}
