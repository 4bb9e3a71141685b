package client

import (
	"context"
	"net/http"
	"net/url"

	"windlass/protocol"
)

// Endpoints returns every endpoint of the key's organisation.
func (c *Client) Endpoints(ctx context.Context) ([]protocol.Endpoint, error) {
	return all[protocol.Endpoint](ctx, c, "/v2/endpoints")
}

// Endpoint returns one endpoint document.
func (c *Client) Endpoint(ctx context.Context, id string) (protocol.Endpoint, error) {
	var out protocol.Endpoint
	err := c.call(ctx, request{method: http.MethodGet, path: endpointPath(id)}, nil, &out)
	return out, err
}

// ApplyEndpoint creates the endpoint or replaces its document. A Revision that
// is not the current one is refused with code CONFLICT; 0 does not ask.
func (c *Client) ApplyEndpoint(ctx context.Context, e protocol.Endpoint) (protocol.Endpoint, error) {
	var out protocol.Endpoint
	err := c.call(ctx, request{method: http.MethodPut, path: endpointPath(e.ID)}, e, &out)
	return out, err
}

// DeleteEndpoint removes an endpoint; one with live jobs is refused with code ENDPOINT_IN_USE.
func (c *Client) DeleteEndpoint(ctx context.Context, id string) error {
	return c.call(ctx, request{method: http.MethodDelete, path: endpointPath(id)}, nil, nil)
}

// PauseEndpoint keeps the endpoint's jobs in the queue; submits are still taken.
func (c *Client) PauseEndpoint(ctx context.Context, id string) (protocol.Endpoint, error) {
	return c.endpointAction(ctx, id, "pause")
}

// ResumeEndpoint gives the endpoint's jobs to agents again.
func (c *Client) ResumeEndpoint(ctx context.Context, id string) (protocol.Endpoint, error) {
	return c.endpointAction(ctx, id, "resume")
}

func (c *Client) endpointAction(ctx context.Context, id, verb string) (protocol.Endpoint, error) {
	var out protocol.Endpoint
	err := c.call(ctx, request{method: http.MethodPost, path: endpointPath(id) + "/" + verb}, nil, &out)
	return out, err
}

// PurgeEndpoint cancels the endpoint's jobs that wait. It is not repeated when it
// may have arrived: a second one would also take what was submitted since.
func (c *Client) PurgeEndpoint(ctx context.Context, id string) (protocol.PurgeResponse, error) {
	var out protocol.PurgeResponse
	err := c.call(ctx, request{method: http.MethodPost, path: endpointPath(id) + "/purge", repeat: repeatUnsent}, nil, &out)
	return out, err
}

// Cluster returns how the coordinator that answers stands; with digest it
// hashes its whole state, which takes time in proportion to it.
func (c *Client) Cluster(ctx context.Context, digest bool) (protocol.ClusterStatus, error) {
	r := request{method: http.MethodGet, path: "/v2/cluster"}
	if digest {
		r.query = url.Values{"digest": {"true"}}
	}
	var out protocol.ClusterStatus
	err := c.call(ctx, r, nil, &out)
	return out, err
}

// Agents returns the agents that the cluster knows.
func (c *Client) Agents(ctx context.Context) ([]protocol.AgentInfo, error) {
	return all[protocol.AgentInfo](ctx, c, "/v2/agents")
}

// Health returns nil when the coordinator that was asked can serve requests.
func (c *Client) Health(ctx context.Context) error {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: "/readyz"})
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// all reads a list to its last page.
func all[T any](ctx context.Context, c *Client, path string) ([]T, error) {
	var rows []T
	q := url.Values{}
	for {
		var page protocol.Page[T]
		if err := c.call(ctx, request{method: http.MethodGet, path: path, query: q}, nil, &page); err != nil {
			return nil, err
		}
		rows = append(rows, page.Data...)
		if page.NextCursor == "" {
			return rows, nil
		}
		q.Set("cursor", page.NextCursor)
	}
}

func endpointPath(id string) string { return "/v2/endpoints/" + url.PathEscape(id) }
