package peer

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass/protocol/tlsconf"
)

// authority is a CA whose certificates a test issues.
type authority struct {
	*tlsconf.Authority
	dir string
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	pair, err := tlsconf.NewAuthority("test", time.Now(), 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tlsconf.ParseAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	out := authority{a, t.TempDir()}
	out.write(t, "ca.pem", pair.Cert)
	return out
}

func (a authority) write(t *testing.T, name string, raw []byte) string {
	t.Helper()
	path := filepath.Join(a.dir, name)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (a authority) peer(t *testing.T, name string) *tlsconf.Peer {
	t.Helper()
	pair, err := a.Issue(tlsconf.Request{Name: name, Coordinator: true, Now: time.Now(), Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	p, err := tlsconf.OpenPeer(tlsconf.Files{
		CA: filepath.Join(a.dir, "ca.pem"), Cert: a.write(t, name+".pem", pair.Cert), Key: a.write(t, name+"-key.pem", pair.Key),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// certificate is one of a CA of its own, or none.
func certificate(t *testing.T, on bool) *tlsconf.Peer {
	t.Helper()
	if !on {
		return nil
	}
	return newAuthority(t).peer(t, "alone")
}

func TestEverythingWorksOverTLS(t *testing.T) {
	ca := newAuthority(t)
	a := listen(t, Identity{"srv_a", one}, ca.peer(t, "a")).start(t)
	b := listen(t, Identity{"srv_b", one}, ca.peer(t, "b"))
	b.Handle("ping", func(_ context.Context, r *Request) (any, error) { return r.From, nil })
	b.start(t)
	var from Identity
	if err := a.Call(deadline(t), b.address(), "ping", nil, &from); err != nil || from != (Identity{"srv_a", one}) {
		t.Fatal(from, err)
	}
	c, err := a.Dial(deadline(t), KindRaft, b.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := accepted(t, b.Raft())
	if _, err := got.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	u := unreachable(t, a.Call(deadline(t), Address{"srv_gone", b.Host()}, "ping", nil, nil), false)
	if !strings.Contains(u.Error(), "windlass cluster remove") {
		t.Error(u)
	}
}

// TestTLSMistakesAreExplained pairs ports that must not speak to each other;
// package tlsconf has the certificates that must not pass.
func TestTLSMistakesAreExplained(t *testing.T) {
	ca := newAuthority(t)
	plain := listen(t, Identity{"srv_plain", one}, nil).start(t)
	ours := listen(t, Identity{"srv_ours", one}, ca.peer(t, "ours")).start(t)
	other := listen(t, Identity{"srv_other", one}, newAuthority(t).peer(t, "other")).start(t)
	for name, c := range map[string]struct {
		from, to *tester
		want     string
	}{
		"TLS to plain": {ours, plain, "peer.tls"},
		"plain to TLS": {plain, ours, "peer.tls"},
		"wrong CA":     {other, ours, "must be of our CA"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := c.from.Dial(deadline(t), KindRaft, c.to.address())
			if u := unreachable(t, err, false); !strings.Contains(u.Error(), c.want) {
				t.Error(u)
			}
		})
	}
}

// TestRefusedClientCertificateIsExplained: a caller that trusts everybody, and
// whose own certificate the other side does not know.
func TestRefusedClientCertificateIsExplained(t *testing.T) {
	ours, theirs := newAuthority(t), newAuthority(t)
	b := listen(t, Identity{"srv_b", one}, ours.peer(t, "b")).start(t)
	pair, err := theirs.Issue(tlsconf.Request{Name: "a", Coordinator: true, Now: time.Now(), Life: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var cas []byte
	for _, dir := range []string{ours.dir, theirs.dir} {
		raw, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
		if err != nil {
			t.Fatal(err)
		}
		cas = append(cas, raw...)
	}
	half, err := tlsconf.OpenPeer(tlsconf.Files{
		CA: theirs.write(t, "both.pem", cas), Cert: theirs.write(t, "a.pem", pair.Cert), Key: theirs.write(t, "a-key.pem", pair.Key),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := listen(t, Identity{"srv_a", one}, half).start(t)
	_, err = a.Dial(deadline(t), KindRaft, b.address())
	if u := unreachable(t, err, false); !strings.Contains(u.Error(), "did not accept our certificate") {
		t.Error(u)
	}
	b.log.await("peer connection refused")
}
