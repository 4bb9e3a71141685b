package coordinator

import (
	"crypto/tls"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"windlass/protocol/tlsconf"
)

// tlsMistakes returns what is wrong with the TLS settings, with the remedies.
func (c *Config) tlsMistakes() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if t := c.HTTP.TLS; t.CA != "" {
		bad("http.tls.ca is set, and clients show no certificate but a key: remove it")
	} else if (t.Cert == "") != (t.Key == "") {
		bad("http.tls needs both cert and key: set them to the files that `windlass tls issue` wrote, or remove both")
	}
	none := TLSConfig{}
	if t := c.Peer.TLS; t != none && (t.CA == "" || t.Cert == "" || t.Key == "") {
		bad("peer.tls needs ca, cert and key: set them to the files that `windlass tls init` and `windlass tls issue` wrote, or remove all three")
	}
	if c.Peer.TLS == none && !loopback(c.Peer.Listen) {
		bad("peer.listen is %q, which is reachable from the network, and whoever reaches it without peer.tls can write the log: "+
			"set peer.tls{ca, cert, key} (`windlass tls init` and `windlass tls issue` make the files), or set peer.listen to %s", c.Peer.Listen, DefaultPeerListen)
	}
	return errs
}

// secure puts TLS on the API's listener where it is configured.
func (c *Coordinator) secure(log zerolog.Logger) error {
	files := c.cfg.HTTP.TLS
	if files.Cert == "" {
		return nil
	}
	conf, err := tlsconf.Server(files.Cert, files.Key, warnTLS(log, "http.tls"))
	if err != nil {
		return fmt.Errorf("cannot use http.tls: %w", err)
	}
	c.ln = tls.NewListener(c.ln, conf)
	c.certs.add("http.tls", func() (time.Time, error) {
		cert, err := conf.GetCertificate(nil)
		if err != nil {
			return time.Time{}, err
		}
		return cert.Leaf.NotAfter, nil
	})
	return nil
}

// peerTLS is the certificate of the peer port; nil where none is configured.
func (c *Coordinator) peerTLS(log zerolog.Logger) (*tlsconf.Peer, error) {
	files := c.cfg.Peer.TLS
	if files == (TLSConfig{}) {
		return nil, nil
	}
	p, err := tlsconf.OpenPeer(tlsconf.Files(files), warnTLS(log, "peer.tls"))
	if err != nil {
		return nil, fmt.Errorf("cannot use peer.tls: %w", err)
	}
	c.certs.add("peer.tls", func() (time.Time, error) { return p.NotAfter(), nil })
	return p, nil
}

// certificates shows at /metrics when each certificate in use ends.
type certificates struct {
	ends map[string]func() (time.Time, error) // by setting
	desc *prometheus.Desc
}

func newCertificates() *certificates {
	return &certificates{
		ends: make(map[string]func() (time.Time, error)),
		desc: prometheus.NewDesc("windlass_tls_cert_not_after_timestamp_seconds", "When the certificate in use ends.", []string{"cert"}, nil),
	}
}

// add is for the time of opening.
func (m *certificates) add(setting string, end func() (time.Time, error)) { m.ends[setting] = end }

// Describe implements prometheus.Collector.
func (m *certificates) Describe(ch chan<- *prometheus.Desc) { ch <- m.desc }

// Collect implements prometheus.Collector.
func (m *certificates) Collect(ch chan<- prometheus.Metric) {
	for setting, end := range m.ends {
		if t, err := end(); err == nil {
			ch <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, float64(t.Unix()), setting)
		}
	}
}

func warnTLS(log zerolog.Logger, field string) func(error) {
	return func(err error) {
		log.Warn().Str("component", "coordinator").Str("setting", field).Str("error", err.Error()).Msg("certificate needs attention")
	}
}
