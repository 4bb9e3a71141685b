package netguard

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"
)

const (
	// dialTime bounds a dial with the resolution of its name: a receiver that
	// takes longer is as good as down, and its caller has its own limit.
	dialTime = 5 * time.Second

	// idleTime is how long a connection is kept for the next request: somewhat
	// less than what servers usually allow, so that few are closed under a request.
	idleTime = 30 * time.Second

	// idlePerHost and idleAll bound the connections that are kept.
	idlePerHost = 4
	idleAll     = 256

	// maxHeader bounds the headers of an answer.
	maxHeader = 64 << 10
)

// Guard makes connections within a rule.
type Guard struct {
	Rule *Rule
	// Resolver of names; nil is the machine's.
	Resolver *net.Resolver
}

// control refuses the address of a socket before it connects. It sees what every
// name came to, each time anew.
func (g *Guard) control(_ context.Context, network, address string, _ syscall.RawConn) error {
	if network != "tcp4" && network != "tcp6" {
		return &Denied{address, "only TCP may be used"}
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return &Denied{address, "it is no address"}
	}
	return g.Rule.Check(to)
}

// Dial connects to host:port. An address that may not be reached is a *Denied in
// the error's chain.
func (g *Guard) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: dialTime, ControlContext: g.control, Resolver: g.Resolver}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("cannot connect: %w", err)
	}
	return conn, nil
}

// Client returns an HTTP client whose connections are all made by the guard: no
// proxy, which would make them elsewhere; no redirects, which are answers like others; no
// decompression, which would undo every bound on an answer; HTTP/1.1, so that connections
// can be counted; TLS 1.2 and later. Its caller sets the deadline, bounds what it reads,
// and calls CloseIdleConnections in the end.
func (g *Guard) Client() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            g.Dial,
			Proxy:                  nil,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    dialTime,
			DisableCompression:     true,
			MaxIdleConns:           idleAll,
			MaxIdleConnsPerHost:    idlePerHost,
			IdleConnTimeout:        idleTime,
			MaxResponseHeaderBytes: maxHeader,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
