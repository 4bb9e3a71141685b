package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"windlass/agent/gpu"
	"windlass/protocol"
)

// headerLimit bounds how long a scraper may take to send its headers.
const headerLimit = 5 * time.Second

// metrics are the agent's own series; they say what this process sees.
type metrics struct {
	registry *prometheus.Registry
	starts   *prometheus.CounterVec
	results  *prometheus.CounterVec
	hostCPU  prometheus.Gauge
	hostMem  prometheus.Gauge
	diskFree prometheus.Gauge
	gpuUtil  *prometheus.GaugeVec
	gpuMem   *prometheus.GaugeVec
}

func newMetrics() *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	counter := func(name, help string, label string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{label})
		m.registry.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		m.registry.MustRegister(g)
		return g
	}
	vec := func(name, help string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, []string{"uuid"})
		m.registry.MustRegister(g)
		return g
	}
	m.starts = counter("windlass_agent_runtime_starts_total", "Runtime starts by outcome.", "outcome")
	m.results = counter("windlass_agent_results_total", "Results that a coordinator answered, by code; ok is accepted.", "code")
	m.hostCPU = gauge("windlass_agent_host_cpu_percent", "Processor use of the host.")
	m.hostMem = gauge("windlass_agent_host_memory_used_bytes", "Memory in use on the host.")
	m.diskFree = gauge("windlass_agent_disk_free_bytes", "Free space below the data directory.")
	m.gpuUtil = vec("windlass_agent_gpu_utilization_percent", "Utilization of a GPU.")
	m.gpuMem = vec("windlass_agent_gpu_memory_used_bytes", "Memory in use on a GPU.")
	return m
}

func (m *metrics) answered(code protocol.Code) {
	if code == "" {
		code = "ok"
	}
	m.results.WithLabelValues(string(code)).Inc()
}

func (m *metrics) host(s protocol.HostSample) {
	m.hostCPU.Set(s.CPUPercent)
	m.hostMem.Set(float64(s.MemoryUsed))
	m.diskFree.Set(float64(s.DiskFree))
}

func (m *metrics) gpu(samples []gpu.Sample) {
	for _, s := range samples {
		if s.Utilization != nil {
			m.gpuUtil.WithLabelValues(s.UUID).Set(float64(*s.Utilization))
		}
		if s.MemoryUsed != nil {
			m.gpuMem.WithLabelValues(s.UUID).Set(float64(*s.MemoryUsed))
		}
	}
}

// listen opens the metrics address; nil when it is off.
func (a *Agent) listen() (net.Listener, error) {
	if a.cfg.HTTP.Listen == ListenOff {
		return nil, nil
	}
	ln, err := net.Listen("tcp", a.cfg.HTTP.Listen)
	if err != nil {
		return nil, fmt.Errorf("cannot serve metrics: %w; set http.listen to another address or to off", err)
	}
	return ln, nil
}

func closeListener(ln net.Listener) error {
	if ln == nil {
		return nil
	}
	return ln.Close()
}

// serve answers /metrics and /healthz until ctx ends.
func (a *Agent) serve(ctx context.Context, ln net.Listener) {
	if ln == nil {
		return
	}
	a.metrics.registry.MustRegister(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "windlass_agent_attempts", Help: "Attempts that the agent holds."},
			func() float64 { return float64(len(a.table.list())) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "windlass_agent_slots_free", Help: "Slots that are offered."},
			func() float64 { return float64(a.capacity().Free) }))
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !a.session.online() || a.table.isDraining() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: headerLimit}
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		a.log.Error().Err(err).Msg("metrics are not served any more")
	}
}
