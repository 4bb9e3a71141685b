package coordinator

import (
	"github.com/prometheus/client_golang/prometheus"

	"windlass/coordinator/archive"
	"windlass/coordinator/state"
)

// archiveMetrics shows at /metrics how many ended jobs are in memory and how
// many are not.
type archiveMetrics struct {
	archive                                        *archive.Archive
	store                                          *state.Store
	ended, segments, jobs, bytes, damaged, inCache *prometheus.Desc
}

func newArchiveMetrics(a *archive.Archive, store *state.Store) *archiveMetrics {
	desc := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("windlass_"+name, help, nil, nil)
	}
	return &archiveMetrics{
		archive: a, store: store,
		ended:    desc("jobs_ended", "Ended jobs in memory: it grows when they cannot be archived."),
		segments: desc("archive_segments", "Segments of the archive."),
		jobs:     desc("archive_jobs", "Jobs in the archive; one that was run again counts more than once."),
		bytes:    desc("archive_bytes", "Size of the archive's segments."),
		damaged:  desc("archive_damaged_segments", "Segments that this coordinator found damaged: their jobs cannot be shown."),
		inCache:  desc("archive_cache_bytes", "Parts of the archive in memory."),
	}
}

// Describe implements prometheus.Collector.
func (m *archiveMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{m.ended, m.segments, m.jobs, m.bytes, m.damaged, m.inCache} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (m *archiveMetrics) Collect(out chan<- prometheus.Metric) {
	view := m.store.View()
	s := m.archive.Stats(view)
	ended, _ := view.Ended()
	gauge := func(d *prometheus.Desc, v float64) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(m.ended, float64(ended))
	gauge(m.segments, float64(s.Segments))
	gauge(m.jobs, float64(s.Jobs))
	gauge(m.bytes, float64(s.Bytes))
	gauge(m.damaged, float64(s.Damaged))
	gauge(m.inCache, float64(s.Cached))
}
