package client

import (
	"context"
	"net/http"
	"net/url"
	"time"

	"windlass/protocol"
)

// Webhooks returns the delivery log of a job's newest run: one webhook at most.
func (c *Client) Webhooks(ctx context.Context, job protocol.JobID) ([]protocol.WebhookDelivery, error) {
	var page protocol.Page[protocol.WebhookDelivery]
	err := c.call(ctx, request{method: http.MethodGet, path: jobPath(job) + "/webhooks"}, nil, &page)
	return page.Data, err
}

// Redeliver begins the attempts of a job's webhook anew, and returns its log.
func (c *Client) Redeliver(ctx context.Context, job protocol.JobID) ([]protocol.WebhookDelivery, error) {
	var page protocol.Page[protocol.WebhookDelivery]
	err := c.call(ctx, request{method: http.MethodPost, path: jobPath(job) + "/webhooks/redeliver", repeat: repeatUnsent}, nil, &page)
	return page.Data, err
}

// TestWebhook sends a test event to a URL and returns how that went.
func (c *Client) TestWebhook(ctx context.Context, to string) (protocol.WebhookTestResponse, error) {
	var out protocol.WebhookTestResponse
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/webhooks/test", repeat: repeatUnsent}, protocol.WebhookTestRequest{URL: to}, &out)
	return out, err
}

// WebhookSecrets returns what signs the organisation's webhooks, without its text.
func (c *Client) WebhookSecrets(ctx context.Context) ([]protocol.WebhookSecret, error) {
	var page protocol.Page[protocol.WebhookSecret]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v2/webhooks/secrets"}, nil, &page)
	return page.Data, err
}

// CreateWebhookSecret makes the organisation's webhook secret. Its text is in the
// answer and nowhere else.
func (c *Client) CreateWebhookSecret(ctx context.Context) (protocol.WebhookSecret, error) {
	var out protocol.WebhookSecret
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/webhooks/secrets", repeat: repeatUnsent}, struct{}{}, &out)
	return out, err
}

// RotateWebhookSecret makes a new secret; the one before signs as well for overlap.
func (c *Client) RotateWebhookSecret(ctx context.Context, overlap time.Duration) (protocol.WebhookSecret, error) {
	var out protocol.WebhookSecret
	span := protocol.Duration(overlap)
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/webhooks/secrets/rotate", repeat: repeatUnsent}, protocol.WebhookRotation{Overlap: &span}, &out)
	return out, err
}

// RevokeWebhookSecret ends a secret at once.
func (c *Client) RevokeWebhookSecret(ctx context.Context, id string) (protocol.WebhookSecret, error) {
	var out protocol.WebhookSecret
	err := c.call(ctx, request{method: http.MethodDelete, path: "/v2/webhooks/secrets/" + url.PathEscape(id)}, nil, &out)
	return out, err
}
