package webhook

import (
	"context"
	"fmt"
	"time"

	"windlass/protocol"
)

// maxTests bounds the test events under way: each holds a request of the API.
const maxTests = 16

// Test sends a test event, which is signed like every webhook of the organisation and
// says only that it is one, and returns how it went. It is attempted once and kept
// nowhere. Errors are *protocol.Error: RATE_LIMIT_EXCEEDED when too many are under
// way.
func (s *Sender) Test(ctx context.Context, org, url string) (*protocol.WebhookTestResponse, error) {
	select {
	case s.tests <- struct{}{}:
		defer func() { <-s.tests }()
	default:
		return nil, protocol.NewError(protocol.CodeRateLimit, "Too many test events are under way: try again in a moment").With("retryAfter", 1)
	}
	secrets, err := s.secrets(ctx, org)
	if err != nil {
		return nil, err
	}
	nowMs := s.cfg.NowMs()
	id := protocol.NewJobID(time.UnixMilli(nowMs)) // for its random bytes
	m := message{id: protocol.WebhookID(id, 0), url: url, secrets: secrets, at: time.UnixMilli(nowMs)}
	w := jsonWriter{}
	w.value("type", protocol.WebhookTest)
	w.value("timestamp", protocol.Time(nowMs))
	m.body = &Body{head: append(w.b, '}')}
	o, err := s.poster.post(ctx, &m)
	if err != nil {
		return nil, fmt.Errorf("cannot send a test event: %w", err)
	}
	return &protocol.WebhookTestResponse{
		WebhookID: m.id, Delivered: o.ok(),
		WebhookAttempt: protocol.WebhookAttempt{
			Attempt: 1, StartedAt: protocol.Time(nowMs), Latency: float64(o.latency.Milliseconds()) / 1000,
			Status: o.status, Error: o.err, Answer: o.answer,
		},
	}, nil
}
