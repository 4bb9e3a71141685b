package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"
)

// Dial makes a connection of a kind to a coordinator and shakes hands. The
// error is an *Unreachable that was not sent. ctx bounds the dialing alone.
func (p *Port) Dial(ctx context.Context, kind Kind, to Address) (net.Conn, error) {
	c, err := p.dial(ctx, kind, to)
	if err != nil {
		return nil, &Unreachable{To: to, Err: err}
	}
	return c, nil
}

func (p *Port) dial(ctx context.Context, kind Kind, to Address) (net.Conn, error) {
	deadline := time.Now().Add(p.cfg.limits.handshake)
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	defer context.AfterFunc(p.base, cancel)()
	host := to.Host
	if p.cfg.Rewrite != nil {
		host = p.cfg.Rewrite(host)
	}
	raw, err := (&net.Dialer{KeepAlive: keepAlive}).DialContext(ctx, "tcp", host)
	if err != nil {
		return nil, err
	}
	c, err := p.introduce(ctx, raw, kind, to)
	if err != nil {
		_ = raw.Close()
		if ctx.Err() != nil && !errors.As(err, new(*Refused)) {
			return nil, fmt.Errorf("it does not answer the handshake: %w", context.Cause(ctx))
		}
		return nil, err
	}
	return c, nil
}

// introduce runs the caller's side of TLS and the handshake.
func (p *Port) introduce(ctx context.Context, raw net.Conn, kind Kind, to Address) (net.Conn, error) {
	past := time.Unix(1, 0) // ends what waits for bytes
	ended := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(past) })
	defer ended()
	c := raw
	if p.cfg.TLS != nil {
		t := tls.Client(raw, p.cfg.TLS.Client())
		if err := t.HandshakeContext(ctx); err != nil {
			return nil, explainTLS(err)
		}
		c = t
	}
	self := p.cfg.Self()
	h := hello{kind: kind, cluster: self.Cluster, from: self.Server, to: to.Server}
	if _, err := c.Write(h.encode()); err != nil {
		return nil, err
	}
	a, err := readAnswer(c)
	switch {
	case errors.Is(err, errVersion), errors.Is(err, errMalformed):
		return nil, fmt.Errorf("%w: that address is not the peer port of a coordinator of a neighbouring version, or it expects TLS (peer.tls)", err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return nil, errors.New("it closed the connection during the handshake: its log says why; without peer.tls here, it may be that it has peer.tls")
	case err != nil:
		return nil, explainTLS(err)
	case a.status != StatusOK:
		return nil, &Refused{Status: a.status, Other: a.self, Reason: a.reason}
	case to.Server != "" && a.self.Server != to.Server:
		return nil, &Refused{Status: StatusWrongServer, Other: a.self, Reason: fmt.Sprintf("server %s answered", a.self.Server)}
	}
	if !ended() {
		return nil, context.Cause(ctx)
	}
	out := &conn{Conn: c, other: a.self}
	if kind == KindRPC {
		out.stall = p.cfg.limits.stall
	}
	return out, nil
}

// explainTLS adds the remedy to what the TLS library says.
func explainTLS(err error) error {
	var record tls.RecordHeaderError
	var invalid x509.CertificateInvalidError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &record):
		return fmt.Errorf("%w: it does not speak TLS: set peer.tls on all coordinators or on none", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w: renew its certificate (`windlass tls renew`)", err)
	case errors.As(err, &verify):
		return fmt.Errorf("%w: its certificate must be of our CA (peer.tls.ca) and have the name of a coordinator (`windlass tls issue`)", err)
	case errors.As(err, &alert), errors.As(err, &op) && op.Op == "remote error":
		return fmt.Errorf("%w: it did not accept our certificate (peer.tls.cert): it must not be expired, and be issued by its CA (`windlass tls issue`)", err)
	}
	return err
}
