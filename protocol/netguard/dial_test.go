package netguard

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
)

// resolver answers every question of type A with the addresses of the moment.
func resolver(t *testing.T, answer func() []netip.Addr) *net.Resolver {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<10)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(dnsAnswer(buf[:n], answer()), from)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

// dnsAnswer answers one question (RFC 1035 4.1).
func dnsAnswer(query []byte, addrs []netip.Addr) []byte {
	const header = 12
	end := header
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	end += 5 // the root, type and class
	if kind := binary.BigEndian.Uint16(query[end-4:]); kind != 1 {
		addrs = nil
	}
	out := append([]byte{}, query[:end]...)
	binary.BigEndian.PutUint16(out[2:], 0x8180) // an answer without an error
	binary.BigEndian.PutUint16(out[6:], uint16(len(addrs)))
	binary.BigEndian.PutUint32(out[8:], 0)
	for _, a := range addrs {
		raw := a.As4()
		out = append(out, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4) // the name, A, IN, no time to live
		out = append(out, raw[:]...)
	}
	return out
}

// TestEveryFormIsDeniedAtTheDial: names and addresses in all their spellings, with
// the machine's own resolver.
func TestEveryFormIsDeniedAtTheDial(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	defer server.Close()
	_, port, _ := net.SplitHostPort(server.Listener.Addr().String())
	client := (&Guard{Rule: &Rule{}}).Client()
	defer client.CloseIdleConnections()
	for _, host := range []string{
		"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "[::]", "10.0.0.1", "172.16.0.1",
		"192.168.1.1", "169.254.169.254", "[fd00:ec2::254]", "[fe80::1%25lo]", "100.100.100.200", "[64:ff9b::7f00:1]", "[2002:7f00:1::]",
		"[::127.0.0.1]", "192.0.0.192", "224.0.0.1", "255.255.255.255",
	} {
		resp, err := client.Get("http://" + host + ":" + port + "/")
		var d *Denied
		if err == nil {
			_ = resp.Body.Close()
		}
		if !errors.As(err, &d) {
			t.Errorf("%s: %v, want it denied", host, err)
		}
	}
}

// TestRebindingIsDenied: a name that was public when it was checked leads to this
// machine when it is dialled, or leads to both.
func TestRebindingIsDenied(t *testing.T) {
	var hits atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer server.Close()
	target := server.Listener.Addr().(*net.TCPAddr)
	private := netip.MustParseAddr("127.0.0.1")
	var now atomic.Pointer[[]netip.Addr]
	guard := Guard{Rule: &Rule{Ports: []uint16{uint16(target.Port)}}, Resolver: resolver(t, func() []netip.Addr { return *now.Load() })}
	client := guard.Client()
	defer client.CloseIdleConnections()
	url := "http://rebind.example:" + strings.TrimPrefix(server.URL, "http://127.0.0.1:") + "/"
	if why := guard.Rule.CheckURL(url, 2048); why != "" {
		t.Fatalf("the name is refused before it is resolved: %s", why)
	}
	for _, list := range [][]netip.Addr{{private}, {private, private}, {netip.MustParseAddr("169.254.169.254"), private}} {
		now.Store(&list)
		_, err := client.Get(url)
		var d *Denied
		if !errors.As(err, &d) {
			t.Errorf("%v: %v, want it denied", list, err)
		}
	}
	if hits.Load() != 0 {
		t.Errorf("%d requests arrived", hits.Load())
	}
	// The same name is dialled where its network is allowed: the rule is what stops it.
	guard.Rule = &Rule{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	now.Store(&[]netip.Addr{private})
	resp, err := client.Get(url)
	if err != nil || hits.Load() != 1 {
		t.Fatalf("an allowed address: %v after %d requests", err, hits.Load())
	}
	_ = resp.Body.Close()
}

func loopbackClient(t *testing.T) *http.Client {
	client := (&Guard{Rule: &Rule{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}}).Client()
	t.Cleanup(client.CloseIdleConnections)
	return client
}

func TestClientFollowsNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/" {
			t.Errorf("the redirect was followed to %s", r.URL)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusMovedPermanently)
	}))
	defer server.Close()
	resp, err := loopbackClient(t).Get(server.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusMovedPermanently {
		t.Errorf("answered %d, want the redirect itself", resp.StatusCode)
	}
}

// TestClientIgnoresProxies: a proxy would make the connection where no guard is.
func TestClientIgnoresProxies(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the proxy was asked") }))
	defer proxy.Close()
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"} {
		t.Setenv(name, proxy.URL)
	}
	if tr := loopbackClient(t).Transport.(*http.Transport); tr.Proxy != nil {
		t.Error("the transport has a proxy")
	}
	_, err := (&Guard{Rule: &Rule{}}).Client().Get("http://10.0.0.1:443/")
	var d *Denied
	if !errors.As(err, &d) {
		t.Errorf("%v, want it denied here", err)
	}
}

func TestClientDecompressesNothing(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if e := r.Header.Get("Accept-Encoding"); e != "" {
			t.Errorf("the client asks for %s", e)
		}
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write([]byte("not gzip"))
	}))
	defer server.Close()
	resp, err := loopbackClient(t).Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "not gzip" {
		t.Errorf("read %q, %v", body, err)
	}
}

// TestClientWantsModernTLS: a receiver below TLS 1.2, or one whose certificate nobody signed,
// gets nothing.
func TestClientWantsModernTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	client := loopbackClient(t)
	trusting := client.Transport.(*http.Transport)
	trusting.TLSClientConfig.RootCAs = server.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs
	if _, err := client.Get(server.URL); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("TLS 1.1: %v", err)
	}
	modern := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request arrived") }))
	modern.Config.ErrorLog = server.Config.ErrorLog
	modern.StartTLS()
	defer modern.Close()
	if _, err := loopbackClient(t).Get(modern.URL); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate that nobody signed: %v", err)
	}
}
