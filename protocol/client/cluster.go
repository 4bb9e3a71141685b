package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"windlass/protocol"
)

// ClusterMembers returns the coordinators as the one that answers sees them.
func (c *Client) ClusterMembers(ctx context.Context) (protocol.ClusterMembers, error) {
	var out protocol.ClusterMembers
	err := c.call(ctx, request{method: http.MethodGet, path: "/v2/cluster/members"}, nil, &out)
	return out, err
}

// TransferLeader makes another voter the leader; "" is the one that is furthest.
func (c *Client) TransferLeader(ctx context.Context, server string) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v2/cluster/transfer", repeat: repeatUnsent}, protocol.ClusterChange{Server: server}, nil)
}

// RemoveMember takes a coordinator out of the cluster; it is refused when the
// rest could not commit anything.
func (c *Client) RemoveMember(ctx context.Context, server string) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v2/cluster/remove"}, protocol.ClusterChange{Server: server}, nil)
}

// LeaveCluster takes the coordinator that is asked out of its cluster; its
// process then ends. Use a client of one address.
func (c *Client) LeaveCluster(ctx context.Context) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v2/cluster/leave", repeat: repeatUnsent}, nil, nil)
}

// JoinCluster gives a coordinator that waits for its cluster further addresses
// to ask. Use a client of one address.
func (c *Client) JoinCluster(ctx context.Context, addresses []string) error {
	return c.call(ctx, request{method: http.MethodPost, path: "/v2/cluster/join"}, protocol.ClusterJoin{Addresses: addresses}, nil)
}

// SaveSnapshot writes a snapshot of the state, with everything that was
// acknowledged before the call, and returns its size. Check what arrived before
// you rely on it: it ends with a checksum.
func (c *Client) SaveSnapshot(ctx context.Context, w io.Writer) (int64, error) {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/v2/cluster/snapshot"})
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	n, err := io.Copy(w, resp.Body)
	if err == nil && resp.ContentLength >= 0 && n != resp.ContentLength {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return n, fmt.Errorf("cannot read snapshot: %w", err)
	}
	return n, nil
}

// RestoreSnapshot replaces the state of the cluster by a snapshot, and fences
// everything that was leased. expect is the cluster's id, so that nobody
// restores into another cluster than the one that was looked at. The leader
// must be asked.
func (c *Client) RestoreSnapshot(ctx context.Context, expect string, snapshot io.Reader, size int64) (protocol.ClusterRestored, error) {
	var out protocol.ClusterRestored
	r := request{
		method: http.MethodPost, path: "/v2/cluster/restore", query: url.Values{"cluster": {expect}},
		stream: snapshot, size: size, repeat: repeatUnsent,
	}
	err := c.call(ctx, r, nil, &out)
	return out, err
}

// ClusterDebug returns what one coordinator knows about itself. Use a client of
// one address.
func (c *Client) ClusterDebug(ctx context.Context) (protocol.ClusterDebug, error) {
	var out protocol.ClusterDebug
	err := c.call(ctx, request{method: http.MethodGet, path: "/v2/cluster/debug"}, nil, &out)
	return out, err
}

// Metrics returns the metrics of one coordinator in Prometheus' text format. Use
// a client of one address.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/metrics"})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return nil, fmt.Errorf("cannot read metrics: %w", err)
	}
	return raw, nil
}
