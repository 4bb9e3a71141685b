package client

import (
	"context"
	"net/http"
	"net/url"

	"windlass/protocol"
)

// Orgs returns every organisation; it needs cluster:admin.
func (c *Client) Orgs(ctx context.Context) ([]protocol.Org, error) {
	return all[protocol.Org](ctx, c, "/v2/orgs")
}

// Org returns one organisation: the key's own, or any with cluster:admin.
func (c *Client) Org(ctx context.Context, id string) (protocol.Org, error) {
	var out protocol.Org
	err := c.call(ctx, request{method: http.MethodGet, path: orgPath(id)}, nil, &out)
	return out, err
}

// CreateOrg makes an organisation. One that exists with other values, or an id that
// was used before, is refused with code CONFLICT.
func (c *Client) CreateOrg(ctx context.Context, o protocol.Org) (protocol.Org, error) {
	var out protocol.Org
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/orgs"}, o, &out)
	return out, err
}

// SetOrg replaces what is set of an organisation. A Revision that is not the
// current one is refused with code CONFLICT; 0 does not ask.
func (c *Client) SetOrg(ctx context.Context, o protocol.Org) (protocol.Org, error) {
	var out protocol.Org
	err := c.call(ctx, request{method: http.MethodPut, path: orgPath(o.ID)}, o, &out)
	return out, err
}

// DeleteOrg removes an organisation; one that owns something is refused with code
// ORG_IN_USE.
func (c *Client) DeleteOrg(ctx context.Context, id string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: orgPath(id)}, nil, nil)
}

func orgPath(id string) string { return "/v2/orgs/" + url.PathEscape(id) }
