package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"windlass/protocol"
)

// Keys returns the keys of an organisation, "" for the key's own; another needs
// cluster:admin.
func (c *Client) Keys(ctx context.Context, org string) ([]protocol.Key, error) {
	r := request{method: http.MethodGet, path: "/v2/keys"}
	if org != "" {
		r.query = url.Values{"org": {org}}
	}
	var page protocol.Page[protocol.Key] // an organisation has no more keys than fit
	err := c.call(ctx, r, nil, &page)
	return page.Data, err
}

// Key returns one key, without its text.
func (c *Client) Key(ctx context.Context, id string) (protocol.Key, error) {
	var out protocol.Key
	err := c.call(ctx, request{method: http.MethodGet, path: keyPath(id)}, nil, &out)
	return out, err
}

// OwnKey returns the key that the client calls with.
func (c *Client) OwnKey(ctx context.Context) (protocol.Key, error) { return c.Key(ctx, "self") }

// CreateKey makes a key. Its text is in the answer and nowhere else; when the
// answer is lost, the key is made once more under another id.
func (c *Client) CreateKey(ctx context.Context, req protocol.KeyRequest) (protocol.Key, error) {
	var out protocol.Key
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/keys"}, req, &out)
	return out, err
}

// RotateKey gives a key a new text; the old one stays valid for overlap.
func (c *Client) RotateKey(ctx context.Context, id string, overlap time.Duration) (protocol.Key, error) {
	var out protocol.Key
	span := protocol.Duration(overlap)
	err := c.call(ctx, request{method: http.MethodPost, path: keyPath(id) + "/rotate", repeat: repeatUnsent}, protocol.KeyRotation{Overlap: &span}, &out)
	return out, err
}

// RevokeKey ends a key at once and for ever.
func (c *Client) RevokeKey(ctx context.Context, id string) (protocol.Key, error) {
	var out protocol.Key
	err := c.call(ctx, request{method: http.MethodDelete, path: keyPath(id)}, nil, &out)
	return out, err
}

func keyPath(id string) string { return "/v2/keys/" + url.PathEscape(id) }
