package coordinator

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"windlass/coordinator/consensus"
)

// logMetrics shows the log's work at /metrics: what it costs on disk, and how
// many commands share an entry.
type logMetrics struct {
	stats func() consensus.Stats
	descs []logMetric
}

type logMetric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	read func(consensus.Stats) float64
}

func newLogMetrics(stats func() consensus.Stats) *logMetrics {
	m := &logMetrics{stats: stats}
	add := func(name, help string, kind prometheus.ValueType, read func(consensus.Stats) float64) {
		m.descs = append(m.descs, logMetric{prometheus.NewDesc("windlass_"+name, help, nil, nil), kind, read})
	}
	count, gauge := prometheus.CounterValue, prometheus.GaugeValue
	add("log_syncs_total", "Durable operations of the log store.", count, func(s consensus.Stats) float64 { return float64(s.Syncs) })
	add("log_sync_seconds_total", "Time spent in durable operations of the log store.", count, func(s consensus.Stats) float64 { return s.SyncTime.Seconds() })
	add("log_bytes_total", "Bytes of the entries appended to the log.", count, func(s consensus.Stats) float64 { return float64(s.Bytes) })
	add("log_entries_total", "Entries appended to the log.", count, func(s consensus.Stats) float64 { return float64(s.Entries) })
	add("log_batches_total", "Entries that this coordinator proposed and applied.", count, func(s consensus.Stats) float64 { return float64(s.Batches) })
	add("log_commands_total", "Commands in those entries.", count, func(s consensus.Stats) float64 { return float64(s.Commands) })
	add("log_waiting_commands", "Commands that wait for the next entry.", gauge, func(s consensus.Stats) float64 { return float64(s.Waiting) })
	add("raft_committed_index", "Newest log entry known to be committed.", gauge, func(s consensus.Stats) float64 { return float64(s.Committed) })
	add("raft_term", "Raft term.", gauge, func(s consensus.Stats) float64 { return float64(s.Term) })
	add("raft_last_index", "Newest entry in this coordinator's log.", gauge, func(s consensus.Stats) float64 { return float64(s.LastIndex) })
	add("raft_snapshot_index", "Newest entry in the newest snapshot.", gauge, func(s consensus.Stats) float64 { return float64(s.Snapshot) })
	add("raft_snapshot_installs_total", "States that this coordinator took over whole, from a leader or a restore.", count, func(s consensus.Stats) float64 { return float64(s.Installs) })
	add("raft_leaders_total", "Leaders that this coordinator has seen since it started.", count, func(s consensus.Stats) float64 { return float64(s.Leaders) })
	add("raft_leader", "1 while this coordinator leads.", gauge, func(s consensus.Stats) float64 {
		if s.Leads {
			return 1
		}
		return 0
	})
	add("raft_leader_contact_seconds", "Time since this coordinator heard of its leader; -1 when it never did.", gauge, func(s consensus.Stats) float64 {
		if s.Contact < 0 {
			return -1
		}
		return s.Contact.Seconds()
	})
	add("raft_members", "Coordinators in the cluster, voters and those that are not yet.", gauge, func(s consensus.Stats) float64 { return float64(s.Members) })
	add("raft_voters", "Coordinators that vote.", gauge, func(s consensus.Stats) float64 { return float64(s.Voters) })
	return m
}

// Describe implements prometheus.Collector.
func (m *logMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		out <- d.desc
	}
}

// Collect implements prometheus.Collector.
func (m *logMetrics) Collect(out chan<- prometheus.Metric) {
	s := m.stats()
	for _, d := range m.descs {
		out <- prometheus.MustNewConstMetric(d.desc, d.kind, d.read(s))
	}
}

// runtimeMetrics are the process and the Go runtime as every Go service shows
// them, with the garbage collector's own figures.
func runtimeMetrics() []prometheus.Collector {
	return []prometheus.Collector{
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(collectors.MetricsGC)),
	}
}
