package coordinator

import "github.com/prometheus/client_golang/prometheus"

// blobMetrics shows at /metrics what happens to payloads beside requests.
type blobMetrics struct {
	blobs                                *blobs
	missing, fetched, collected, removed *prometheus.Desc
}

func newBlobMetrics(b *blobs) *blobMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("windlass_blobs_"+name, help, nil, nil)
	}
	return &blobMetrics{
		blobs:     b,
		missing:   desc("missing", "Payloads that jobs name and this coordinator has not fetched yet."),
		fetched:   desc("fetched_total", "Payloads that this coordinator fetched from others in the background."),
		collected: desc("collected_total", "Payloads that were removed because nothing names them."),
		removed:   desc("collected_bytes_total", "Bytes of the payloads that were removed."),
	}
}

// Describe implements prometheus.Collector.
func (m *blobMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.missing, m.fetched, m.collected, m.removed} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *blobMetrics) Collect(out chan<- prometheus.Metric) {
	if f := m.blobs.filler; f != nil {
		out <- prometheus.MustNewConstMetric(m.missing, prometheus.GaugeValue, float64(m.blobs.missing()))
		out <- prometheus.MustNewConstMetric(m.fetched, prometheus.CounterValue, float64(f.fetched.Load()))
	}
	copies, bytes := m.blobs.collector.Collected()
	out <- prometheus.MustNewConstMetric(m.collected, prometheus.CounterValue, float64(copies))
	out <- prometheus.MustNewConstMetric(m.removed, prometheus.CounterValue, float64(bytes))
}
