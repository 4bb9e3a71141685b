package api

import (
	"bytes"
	"fmt"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"
	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// metrics are what /metrics shows (ecosystem.md 7.1). Labels never hold job ids,
// tags or keys.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	duration map[*route]prometheus.Observer
	submits  *prometheus.CounterVec
}

func newMetrics(s *Server, routes []*route) (*metrics, error) {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "windlass_http_requests_total", Help: "Requests answered, by operation and HTTP status."}, []string{"operation", "code"}),
		submits: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "windlass_jobs_submitted_total", Help: "Jobs accepted by this coordinator."}, []string{"endpoint", "priority"}),
		duration: make(map[*route]prometheus.Observer, len(routes)),
	}
	durations := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "windlass_http_request_duration_seconds", Help: "Time to answer a request, held ones included.",
		Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}}, []string{"operation"})
	for _, rt := range routes {
		m.duration[rt] = durations.WithLabelValues(rt.operation)
	}
	own := []prometheus.Collector{m.requests, m.submits, durations, &live{s: s, desc: liveDescs()}}
	for _, c := range append(own, s.deps.Collectors...) {
		if err := m.registry.Register(c); err != nil {
			return nil, fmt.Errorf("cannot register metrics: %w", err)
		}
	}
	return m, nil
}

// observe counts one answer; route is nil for requests that have none.
func (m *metrics) observe(rt *route, status int, took time.Duration) {
	operation := "unknown"
	if rt != nil {
		operation = rt.operation
		m.duration[rt].Observe(took.Seconds())
	}
	m.requests.WithLabelValues(operation, strconv.Itoa(status)).Inc()
}

func (m *metrics) submitted(endpoint string, p protocol.Priority) {
	m.submits.WithLabelValues(endpoint, p.String()).Inc()
}

// serveMetrics is GET /metrics, in the text format.
func (s *Server) serveMetrics(c *call) error {
	families, err := s.metrics.registry.Gather()
	if err != nil {
		return fmt.Errorf("cannot gather metrics: %w", err)
	}
	var out bytes.Buffer
	format := expfmt.NewFormat(expfmt.TypeTextPlain)
	enc := expfmt.NewEncoder(&out, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return fmt.Errorf("cannot encode metrics: %w", err)
		}
	}
	c.write(reply{status: fasthttp.StatusOK, body: out.Bytes(), kind: string(format)})
	return nil
}

// live collects what is counted elsewhere, at the moment of the scrape.
type live struct {
	s    *Server
	desc descs
}

type descs struct {
	build, index, stateBytes, attempts, boardBytes, streams, held, queued, oldest, running, polls *prometheus.Desc
}

func liveDescs() descs {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("windlass_"+name, help, labels, nil)
	}
	return descs{
		build:      gauge("build_info", "Always 1; the labels say what runs.", "version", "go_version"),
		index:      gauge("raft_applied_index", "Index of the newest entry in the job table."),
		stateBytes: gauge("state_bytes", "Size of the replicated state."),
		attempts:   gauge("board_attempts", "Attempts whose soft state is held."),
		boardBytes: gauge("board_bytes", "Log lines and stream chunks that are held."),
		streams:    gauge("http_streams", "Open event streams.", "kind"),
		held:       gauge("http_held_requests", "Requests that wait for something to happen: syncs and long polls."),
		queued:     gauge("queue_jobs", "Jobs that wait, on the leader.", "endpoint", "priority"),
		oldest:     gauge("queue_oldest_age_seconds", "How long the oldest queued job has waited, on the leader."),
		running:    gauge("jobs_leased", "Jobs that an agent holds, on the leader."),
		polls:      gauge("agent_polls_inflight", "Parked syncs, on the leader."),
	}
}

// Describe implements prometheus.Collector.
func (l *live) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(l, ch) }

// Collect implements prometheus.Collector.
func (l *live) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	view, held := l.s.deps.Store.View(), l.s.deps.Board.Stats()
	gauge(l.desc.build, 1, l.s.deps.Version, runtime.Version())
	gauge(l.desc.index, float64(view.Index()))
	gauge(l.desc.stateBytes, float64(view.Bytes()))
	gauge(l.desc.attempts, float64(held.Attempts))
	gauge(l.desc.boardBytes, float64(held.Bytes))
	l.s.mu.Lock()
	streams := l.s.streams
	l.s.mu.Unlock()
	gauge(l.desc.streams, float64(streams), "status")
	gauge(l.desc.held, float64(l.s.held.Load()))
	b, err := l.s.deps.Broker()
	if err != nil {
		return // not the leader: it has no queue
	}
	stats := b.Stats()
	gauge(l.desc.oldest, float64(stats.OldestMs)/1000)
	gauge(l.desc.running, float64(stats.Running))
	gauge(l.desc.polls, float64(stats.Waiters))
	type line struct{ endpoint, priority string }
	counts := make(map[line]int)
	for _, q := range stats.Queued {
		counts[line{q.Endpoint, q.Priority.String()}] += q.Count
	}
	for k, n := range counts {
		gauge(l.desc.queued, float64(n), k.endpoint, k.priority)
	}
}
