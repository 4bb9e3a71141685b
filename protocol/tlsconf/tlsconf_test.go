package tlsconf

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const year = 365 * 24 * time.Hour

// ca is a CA in a directory.
type ca struct {
	*Authority
	dir string
}

func newCA(t *testing.T) ca {
	t.Helper()
	p, err := NewAuthority("test", time.Now(), 10*year)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAuthority(p)
	if err != nil {
		t.Fatal(err)
	}
	c := ca{a, t.TempDir()}
	c.write(t, "ca.pem", p.Cert)
	return c
}

func (c ca) write(t *testing.T, name string, raw []byte) string {
	t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path+".tmp", raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// files issues a certificate under a name.
func (c ca) files(t *testing.T, name string, r Request) Files {
	t.Helper()
	r.Name = name
	if r.Now.IsZero() {
		r.Now = time.Now()
	}
	if r.Life == 0 {
		r.Life = year
	}
	p, err := c.Issue(r)
	if err != nil {
		t.Fatal(err)
	}
	return Files{CA: filepath.Join(c.dir, "ca.pem"), Cert: c.write(t, name+".pem", p.Cert), Key: c.write(t, name+"-key.pem", p.Key)}
}

// agent is a certificate for both uses, without the role of a coordinator.
func (c ca) agent(t *testing.T) Files {
	t.Helper()
	key, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	p, err := sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "agent"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"agent.windlass"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, c.cert, key, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return Files{CA: filepath.Join(c.dir, "ca.pem"), Cert: c.write(t, "agent.pem", p.Cert), Key: c.write(t, "agent-key.pem", p.Key)}
}

// handshake connects two configurations and returns what each side thinks, and
// the name on the certificate that the client saw.
func handshake(t *testing.T, server, client *tls.Config) (serverErr, clientErr error, name string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			defer c.Close()
			s := tls.Server(c, server)
			if err = s.Handshake(); err == nil {
				_, err = s.Write([]byte("x"))
			}
		}
		done <- err
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	c := tls.Client(raw, client)
	if clientErr = c.Handshake(); clientErr == nil {
		name = c.ConnectionState().PeerCertificates[0].Subject.CommonName
		_, clientErr = io.ReadFull(c, make([]byte, 1)) // a server's refusal arrives here
	}
	return <-done, clientErr, name
}

func TestPeersAcceptEachOther(t *testing.T) {
	c := newCA(t)
	a, errA := OpenPeer(c.files(t, "a", Request{Coordinator: true}), nil)
	b, errB := OpenPeer(c.files(t, "b", Request{Coordinator: true, Hosts: []string{"10.1.2.3", "b.example.com"}}), nil)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if s, cl, name := handshake(t, b.Server(), a.Client()); s != nil || cl != nil || name != "b" {
		t.Fatal(s, cl, name)
	}
	old := a.Client()
	old.MinVersion, old.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	if s, _, _ := handshake(t, b.Server(), old); s == nil {
		t.Error("TLS 1.2 was accepted between peers")
	}
}

// TestPeersRefuseOthers shows each certificate that must not pass, on each side.
func TestPeersRefuseOthers(t *testing.T) {
	c, other := newCA(t), newCA(t)
	good, err := OpenPeer(c.files(t, "good", Request{Coordinator: true}), nil)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-time.Hour)
	bad := map[string]Files{
		"other-ca": other.files(t, "other-ca", Request{Coordinator: true}),
		"role":     c.files(t, "role", Request{Hosts: []string{"127.0.0.1"}}),
		"agent":    c.agent(t),
		"expired":  c.files(t, "expired", Request{Coordinator: true, Now: past, Life: time.Minute}),
	}
	for name, files := range bad {
		t.Run(name, func(t *testing.T) {
			pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
			if err != nil {
				t.Fatal(err)
			}
			// As client, and believing anybody: the server alone must refuse.
			if s, cl, _ := handshake(t, good.Server(), &tls.Config{Certificates: []tls.Certificate{pair}, InsecureSkipVerify: true}); s == nil || cl == nil {
				t.Errorf("accepted as a client: %v, %v", s, cl)
			}
			if _, cl, _ := handshake(t, &tls.Config{Certificates: []tls.Certificate{pair}}, good.Client()); cl == nil {
				t.Error("accepted as a server")
			}
		})
	}
	if s, cl, _ := handshake(t, good.Server(), &tls.Config{InsecureSkipVerify: true}); s == nil || cl == nil {
		t.Errorf("accepted without a certificate: %v, %v", s, cl)
	}
	for _, name := range []string{"role", "agent", "expired"} {
		if _, err := OpenPeer(bad[name], nil); err == nil || !strings.Contains(err.Error(), "windlass tls") {
			t.Errorf("%s: %v", name, err)
		}
	}
	mixed := bad["other-ca"]
	mixed.CA = filepath.Join(c.dir, "ca.pem")
	if _, err := OpenPeer(mixed, nil); err == nil || !strings.Contains(err.Error(), "windlass tls issue") {
		t.Errorf("a certificate of another CA: %v", err)
	}
	if _, err := OpenPeer(Files{}, nil); err == nil || !strings.Contains(err.Error(), "windlass tls init") {
		t.Error(err)
	}
}

func TestFilesAreReadAgain(t *testing.T) {
	c := newCA(t)
	var warned []string
	warn := func(err error) { warned = append(warned, err.Error()) }
	files := c.files(t, "first", Request{Coordinator: true, Hosts: []string{"localhost"}})
	peer, err := OpenPeer(files, warn)
	if err != nil {
		t.Fatal(err)
	}
	api, err := Server(files.Cert, files.Key, warn)
	if err != nil {
		t.Fatal(err)
	}
	client := &tls.Config{InsecureSkipVerify: true}
	serves := func(want string) {
		t.Helper()
		if _, _, name := handshake(t, api, client); name != want {
			t.Errorf("API serves %q, want %q", name, want)
		}
		if _, _, name := handshake(t, peer.Server(), peer.Client()); name != want {
			t.Errorf("peer port serves %q, want %q", name, want)
		}
	}
	serves("first")
	second, err := c.Issue(Request{Name: "second", Coordinator: true, Hosts: []string{"localhost"}, Now: time.Now(), Life: year})
	if err != nil {
		t.Fatal(err)
	}
	c.write(t, "first.pem", second.Cert) // the key is still the old one
	serves("first")
	if len(warned) != 2 || !strings.Contains(warned[0], "in use stays") {
		t.Errorf("one line for each user of the files: %q", warned)
	}
	serves("first")
	if len(warned) != 2 {
		t.Errorf("the same broken file is reported again: %q", warned)
	}
	c.write(t, "first-key.pem", second.Key)
	serves("second")
	if err := os.Remove(files.Cert); err != nil {
		t.Fatal(err)
	}
	c.write(t, "first-key.pem", []byte("nonsense"))
	serves("second")
	// A CA that does not know our certificate would cut us off from everybody.
	third := c.files(t, "first", Request{Coordinator: true})
	serves("first")
	c.write(t, "ca.pem", mustPair(t).Cert)
	serves("first")
	_ = third
}

func mustPair(t *testing.T) Pair {
	t.Helper()
	p, err := NewAuthority("other", time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestTwoCAsSideBySide is how a cluster moves to a new CA without a stop.
func TestTwoCAsSideBySide(t *testing.T) {
	old, next := newCA(t), newCA(t)
	oldRaw, _ := os.ReadFile(filepath.Join(old.dir, "ca.pem"))
	nextRaw, _ := os.ReadFile(filepath.Join(next.dir, "ca.pem"))
	both := append(bytes.Clone(oldRaw), nextRaw...)
	a := old.files(t, "a", Request{Coordinator: true})
	b := next.files(t, "b", Request{Coordinator: true})
	a.CA, b.CA = old.write(t, "both.pem", both), next.write(t, "both.pem", both)
	pa, errA := OpenPeer(a, nil)
	pb, errB := OpenPeer(b, nil)
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if s, c, _ := handshake(t, pa.Server(), pb.Client()); s != nil || c != nil {
		t.Error(s, c)
	}
	if s, c, _ := handshake(t, pb.Server(), pa.Client()); s != nil || c != nil {
		t.Error(s, c)
	}
}

func TestRenewKeepsEverythingButTheTime(t *testing.T) {
	c := newCA(t)
	now := time.Now()
	old, err := c.Issue(Request{Name: "n", Coordinator: true, Hosts: []string{"h.example.com", "10.0.0.1"}, Now: now.Add(-year), Life: year + time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.Renew(old, now, year)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(raw, old.Key); err != nil {
		t.Error("the key has changed:", err)
	}
	before, _ := Inspect(old.Cert)
	after, err := Inspect(raw)
	if err != nil || !after.NotAfter.After(before.NotAfter) {
		t.Fatal(after, err)
	}
	after.NotBefore, after.NotAfter = before.NotBefore, before.NotAfter
	if strings.Join(after.Hosts, " ") != "h.example.com 10.0.0.1" || !after.Coordinator || after.Name != "n" {
		t.Errorf("%+v", after)
	}
	if _, err := newCA(t).Renew(old, now, year); err == nil {
		t.Error("another CA renewed it")
	}
	if _, err := c.Issue(Request{Now: now, Life: 20 * year}); err == nil || !strings.Contains(err.Error(), "renew --ca") {
		t.Error("longer than the CA:", err)
	}
	for _, host := range []string{CoordinatorName, "agent.windlass", "h:7400", "", "https://h"} {
		if _, err := c.Issue(Request{Hosts: []string{host}, Now: now, Life: year}); err == nil {
			t.Errorf("a certificate for host %q", host)
		}
	}
}

func TestRenewedCAKeepsItsCertificates(t *testing.T) {
	c := newCA(t)
	pair, err := NewAuthority("short", time.Now().Add(-year), year+time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	a, err := ParseAuthority(pair)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := a.Issue(Request{Name: "n", Coordinator: true, Now: time.Now().Add(-time.Minute), Life: 30 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	renewed, err := a.Renew(pair, time.Now(), year)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseAuthority(Pair{renewed, pair.Key}); err != nil {
		t.Fatal(err)
	}
	f := Files{CA: c.write(t, "renewed.pem", renewed), Cert: c.write(t, "n.pem", leaf.Cert), Key: c.write(t, "n-key.pem", leaf.Key)}
	if _, err := OpenPeer(f, nil); err != nil {
		t.Error(err)
	}
}

// TestEndIsAnnounced runs for a year on one certificate, in virtual time.
func TestEndIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCA(t)
		files := c.files(t, "a", Request{Coordinator: true, Life: year})
		var warned []string
		p, err := OpenPeer(files, func(err error) { warned = append(warned, err.Error()) })
		if err != nil {
			t.Fatal(err)
		}
		const aDay = 24 * time.Hour
		pass(year - soon - aDay)
		if p.Client(); len(warned) != 0 {
			t.Fatalf("warned too early: %q", warned)
		}
		for range 10 {
			pass(aDay / 2)
			p.Server().GetConfigForClient(nil)
			p.Client()
		}
		if len(warned) < 4 || len(warned) > 6 || !strings.Contains(warned[0], "windlass tls renew") {
			t.Errorf("five days before the end: %q", warned)
		}
		if until := time.Until(p.NotAfter()); until > soon || until < 0 {
			t.Error(until)
		}
	})
}
