package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// CoordinatorName is the role of a coordinator as a name in its certificate.
// Whoever shows it, signed by the peers' CA, may speak as a coordinator; other
// certificates of the same CA (agents, API servers) may not. It is a DNS name,
// so that any CA can issue it; it is never resolved.
const CoordinatorName = "coordinator.windlass"

// Peer is the TLS of the port between coordinators: version 1.3, both sides
// show a certificate of the CA with the role of a coordinator. Host names are
// not compared: a coordinator moves to another host with its data, and the
// handshake above TLS names who must answer.
type Peer struct{ src *source }

// OpenPeer reads the three files and checks that the certificate would be
// accepted by a peer with the same CA. warn hears of later contents that could
// not be used, and of a certificate that ends soon; it may be nil.
func OpenPeer(f Files, warn func(error)) (*Peer, error) {
	if f.CA == "" || f.Cert == "" || f.Key == "" {
		return nil, errors.New("cannot set up TLS between coordinators: set ca, cert and key (`windlass tls init` and `windlass tls issue` make them)")
	}
	src, err := open(f, checkPeer, warn)
	if err != nil {
		return nil, fmt.Errorf("cannot set up TLS between coordinators: %w", err)
	}
	return &Peer{src}, nil
}

func checkPeer(m *material) error {
	inter := x509.NewCertPool()
	for _, raw := range m.cert.Certificate[1:] {
		if c, err := x509.ParseCertificate(raw); err == nil {
			inter.AddCert(c)
		}
	}
	// Both uses, one after the other: a list would be satisfied by either.
	for _, use := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		_, err := m.cert.Leaf.Verify(x509.VerifyOptions{
			DNSName: CoordinatorName, Roots: m.roots, Intermediates: inter, KeyUsages: []x509.ExtKeyUsage{use},
		})
		if err != nil {
			return fmt.Errorf("peers with this CA would refuse it: %w: issue it with `windlass tls issue`, or with the DNS name %s for server and client authentication", err, CoordinatorName)
		}
	}
	return nil
}

// Server returns the configuration for accepted connections; each one uses the
// files as they are then.
func (p *Peer) Server() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			m := p.src.current()
			return &tls.Config{
				MinVersion:   tls.VersionTLS13,
				Certificates: []tls.Certificate{*m.cert},
				ClientAuth:   tls.RequireAndVerifyClientCert,
				ClientCAs:    m.roots,
				// A resumed session would outlive a certificate.
				SessionTicketsDisabled: true,
				VerifyConnection: func(s tls.ConnectionState) error {
					if err := s.PeerCertificates[0].VerifyHostname(CoordinatorName); err != nil {
						return fmt.Errorf("the certificate of %q is not one of a coordinator: %w", s.PeerCertificates[0].Subject.CommonName, err)
					}
					return nil
				},
			}, nil
		},
	}
}

// Client returns the configuration for one connection that is about to be
// made, with the files as they are now.
func (p *Peer) Client() *tls.Config {
	m := p.src.current()
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		Certificates:           []tls.Certificate{*m.cert},
		RootCAs:                m.roots,
		ServerName:             CoordinatorName,
		SessionTicketsDisabled: true,
	}
}

// NotAfter is when the certificate in use ends.
func (p *Peer) NotAfter() time.Time { return p.src.current().cert.Leaf.NotAfter }
