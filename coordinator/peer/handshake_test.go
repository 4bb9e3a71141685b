package peer

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

func TestHandshakeTravels(t *testing.T) {
	want := hello{kind: KindRaft, cluster: one, from: "srv_a", to: "srv_b"}
	rest := bytes.NewReader(append(want.encode(), "raft"...))
	got, err := readHello(rest)
	if err != nil || got != want {
		t.Fatal(got, err)
	}
	if b, _ := io.ReadAll(rest); string(b) != "raft" {
		t.Errorf("%q is left of the connection's bytes", b)
	}
	long := answer{status: StatusKind, self: Identity{"srv_b", one}, reason: strings.Repeat("x", 1000)}
	back, err := readAnswer(bytes.NewReader(long.encode()))
	if err != nil || back.self != long.self || len(back.reason) != maxField {
		t.Fatal(back, err)
	}
}

func TestLaterFieldsArePassedOver(t *testing.T) {
	b := hello{kind: KindRaft, cluster: one, from: "srv_a", to: "srv_b"}.encode()
	b = append(b, "\x05later"...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-frameHeader))
	rest := bytes.NewReader(b)
	if h, err := readHello(rest); err != nil || h.to != "srv_b" || rest.Len() != 0 {
		t.Fatal(h, err, rest.Len())
	}
}

func FuzzReadHello(f *testing.F) {
	f.Add(hello{kind: KindRaft, cluster: one, from: "srv_a", to: "srv_b"}.encode())
	f.Add(answer{status: StatusKind, reason: "why"}.encode())
	f.Add([]byte{'R', version, 0xff, 0xff})
	f.Add([]byte{'R', version, 0, 3, 255, 0, 0})
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r := bytes.NewReader(raw)
		h, err := readHello(r)
		if used := len(raw) - r.Len(); used > frameHeader+maxFrame {
			t.Fatalf("%d bytes were read", used)
		}
		if err != nil {
			return
		}
		if again, err := readHello(bytes.NewReader(h.encode())); err != nil || again != h {
			t.Fatalf("%+v became %+v, %v", h, again, err)
		}
		judge(h, Identity{"srv_b", one})
	})
}

// TestConnectionsReachWhomTheyName is what protects a cluster from a server
// whose disk was wiped: at the old address answers a new server, and nothing
// that was meant for the old one reaches it.
func TestConnectionsReachWhomTheyName(t *testing.T) {
	a := listen(t, Identity{"srv_a", one}, nil).start(t)
	b := listen(t, Identity{"srv_b", one}, nil)
	b.start(t)
	for kind, ln := range map[Kind]net.Listener{KindRaft: b.Raft(), KindAPI: b.API()} {
		c, err := a.Dial(deadline(t), kind, b.address())
		if err != nil {
			t.Fatal(err)
		}
		got := accepted(t, ln)
		if _, err := c.Write([]byte("hello")); err != nil {
			t.Fatal(err)
		}
		word := make([]byte, 5)
		if _, err := io.ReadFull(got, word); err != nil || string(word) != "hello" {
			t.Fatalf("%q, %v", word, err)
		}
		_ = c.Close()
	}
	old := b.address()
	for name, c := range map[string]struct {
		self, other Identity
		to          string
		want        Status
	}{
		"wiped node at an old address": {Identity{"srv_a", one}, Identity{"srv_new", ""}, old.Server, StatusWrongServer},
		"joined again under a new id":  {Identity{"srv_a", one}, Identity{"srv_new", one}, old.Server, StatusWrongServer},
		"nobody is named":              {Identity{"srv_a", one}, Identity{"srv_b", one}, "", StatusWrongServer},
		"another cluster":              {Identity{"srv_a", "cluster_two"}, Identity{"srv_b", one}, old.Server, StatusWrongCluster},
		"caller in no cluster":         {Identity{"srv_a", ""}, Identity{"srv_b", one}, old.Server, StatusWrongCluster},
		"nobody in a cluster":          {Identity{"srv_a", ""}, Identity{"srv_b", ""}, old.Server, StatusWrongCluster},
	} {
		t.Run(name, func(t *testing.T) {
			a.become(c.self)
			b.become(c.other)
			for _, kind := range []Kind{KindRaft, KindAPI} {
				_, err := a.Dial(deadline(t), kind, Address{c.to, old.Host})
				u := unreachable(t, err, false)
				var r *Refused
				if !errors.As(u, &r) || r.Status != c.want || r.Other != c.other || !strings.Contains(u.Error(), ":") {
					t.Errorf("%s: %v", kind, err)
				}
			}
			if c.to != "" && c.want == StatusWrongServer {
				unreachable(t, a.Call(deadline(t), Address{c.to, old.Host}, "unused", nil, nil), false)
			}
		})
	}
}

// TestStrangersAreTurnedAway sends what no coordinator sends.
func TestStrangersAreTurnedAway(t *testing.T) {
	b := listen(t, Identity{"srv_b", one}, nil).start(t)
	for name, c := range map[string]struct {
		send string
		want Status
	}{
		"later version": {"R\x02\x00\x03\x00\x00\x00", StatusVersion},
		"unknown kind":  {string(hello{kind: 'Z', cluster: one, from: "srv_a", to: "srv_b"}.encode()), StatusKind},
		"long frame":    {"R\x01\xff\xff", StatusMalformed},
		"cut fields":    {"R\x01\x00\x03\xff\x00\x00", StatusMalformed},
		"HTTP":          {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", StatusVersion},
		"TLS":           {"\x16\x03\x01\x02\x00\x01\x00", StatusMalformed},
		"random":        {"\xd1\x9f\x00\x88\x42random bytes of nobody", StatusVersion},
	} {
		t.Run(name, func(t *testing.T) {
			conn := rawConn(t, b)
			if _, err := conn.Write([]byte(c.send)); err != nil {
				t.Fatal(err)
			}
			a, err := readAnswer(conn)
			if err != nil || a.status != c.want || a.reason == "" {
				t.Errorf("answered %+v, %v", a, err)
			}
			if n, err := conn.Read(make([]byte, 1)); err == nil || n != 0 {
				t.Error("the connection is still open")
			}
		})
	}
	b.log.await("set peer.tls on all coordinators or on none")
}

// TestGiantBodyIsRefusedBeforeItIsRead announces 4 GiB.
func TestGiantBodyIsRefusedBeforeItIsRead(t *testing.T) {
	a, b := listen(t, Identity{"srv_a", one}, nil).start(t), listen(t, Identity{"srv_b", one}, nil)
	b.Handle("ping", func(_ context.Context, r *Request) (any, error) {
		var v any
		return nil, r.Decode(&v)
	})
	b.start(t)
	c, err := a.Dial(deadline(t), KindRPC, b.address())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /ping HTTP/1.1\r\nHost: x\r\nContent-Length: 4294967296\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !strings.Contains(string(body), "4294967296 bytes are more than") {
		t.Errorf("%s, %v", body, err)
	}
}

// rawConn is a connection of nobody in particular.
func rawConn(t *testing.T, to *tester) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", to.Host())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}
