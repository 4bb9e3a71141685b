package coordinator

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"windlass/coordinator/consensus"
	"windlass/coordinator/state"
	"windlass/coordinator/webhook"
	"windlass/protocol/netguard"
)

// webhookRule is where webhooks may be sent.
func (c *Config) webhookRule() (*netguard.Rule, error) {
	allow, err := netguard.ParseNetworks(c.Limits.WebhookAllow)
	if err != nil {
		return nil, fmt.Errorf("cannot use limits.webhookAllow: %w", err)
	}
	return &netguard.Rule{Allow: allow, Ports: c.Limits.WebhookPorts}, nil
}

// openWebhooks makes the sender, which is used while this coordinator leads, and
// for test events.
func (c *Coordinator) openWebhooks(version string, log zerolog.Logger) error {
	rule, err := c.cfg.webhookRule()
	if err != nil {
		return err
	}
	c.webhook = webhook.New(webhook.Config{
		Store: c.store, Propose: c.node.Proposer().Propose, Write: c.forward.Write, Applied: c.node.WaitApplied,
		NowMs: c.node.Clock().NowMs, Blobs: c.blobs.store, Rule: rule, Version: version,
		Log: log.With().Str("component", "webhook").Logger(), Failpoint: consensus.Strike,
	})
	c.release = append(c.release, c.webhook.Close)
	return nil
}

// webhookMetrics shows at /metrics what becomes of webhooks.
type webhookMetrics struct {
	sender                                        *webhook.Sender
	store                                         *state.Store
	deliveries, attempts, pending, oldest, flying *prometheus.Desc
}

func newWebhookMetrics(s *webhook.Sender, store *state.Store) *webhookMetrics {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("windlass_webhook_"+name, help, labels, nil)
	}
	return &webhookMetrics{
		sender: s, store: store,
		deliveries: desc("deliveries_total", "Webhooks that this coordinator brought to an end, by how.", "outcome"),
		attempts:   desc("attempts_total", "Attempts of this coordinator to deliver a webhook: answered with a 2xx, refused with another status, or without an answer.", "result"),
		pending:    desc("pending", "Webhooks that are still to be delivered."),
		oldest:     desc("oldest_pending_seconds", "For how long the oldest webhook has been pending; the leader alone tells it."),
		flying:     desc("in_flight", "Attempts under way; the leader alone makes them."),
	}
}

// Describe implements prometheus.Collector.
func (m *webhookMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.deliveries, m.attempts, m.pending, m.oldest, m.flying} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *webhookMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.sender.Stats()
	count := func(d *prometheus.Desc, n uint64, label string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), label)
	}
	count(m.deliveries, s.Delivered, "delivered")
	count(m.deliveries, s.Failed, "failed")
	count(m.deliveries, s.Disabled, "disabled")
	count(m.attempts, s.Answered, "answered")
	count(m.attempts, s.Refused, "refused")
	count(m.attempts, s.Silent, "silent")
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(m.pending, float64(m.store.View().Owed()))
	if !s.Leads {
		return
	}
	gauge(m.flying, float64(s.Flying))
	gauge(m.oldest, float64(s.OldestMs)/1000)
}
