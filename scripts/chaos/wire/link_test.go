package wire

import (
	"io"
	"net"
	"runtime"
	"sync/atomic"
	"testing"
)

// target accepts connections on this host's loopback.
func target(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	return ln
}

func linkTo(t *testing.T, ln net.Listener) (*link, *atomic.Int64) {
	t.Helper()
	var met atomic.Int64
	l, err := newLink("127.0.0.1", ln.Addr().String(), &met)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, &met
}

func dial(t *testing.T, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func accept(t *testing.T, ln net.Listener) net.Conn {
	t.Helper()
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func wantRead(t *testing.T, c net.Conn, want string) {
	t.Helper()
	buf := make([]byte, len(want))
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != want {
		t.Fatalf("read %q, %v, want %q", buf, err, want)
	}
}

// TestWhatIsDoubledArrivesOnTwoConnections, and only the first one answers.
func TestWhatIsDoubledArrivesOnTwoConnections(t *testing.T) {
	ln := target(t)
	l, met := linkTo(t, ln)
	l.change(func(l *link) { l.double = true })
	c := dial(t, l.addr())
	send(t, c, "once")
	a, b := accept(t, ln), accept(t, ln)
	wantRead(t, a, "once")
	wantRead(t, b, "once")
	if met.Load() == 0 {
		t.Fatal("nothing met the fault")
	}
}

// TestWhatWasCutOffArrivesLater as TCP delivers it, on the same connection.
func TestWhatWasCutOffArrivesLater(t *testing.T) {
	for name, cut := range map[string]func(*link){
		"cut":     func(l *link) { l.change(func(l *link) { l.there.cut = true }) },
		"silence": (*link).silence,
	} {
		t.Run(name, func(t *testing.T) {
			ln := target(t)
			l, met := linkTo(t, ln)
			c := dial(t, l.addr())
			send(t, c, "before")
			in := accept(t, ln)
			wantRead(t, in, "before")
			cut(l)
			send(t, c, "after")
			for met.Load() == 0 { // it is there, and held
				runtime.Gosched()
			}
			l.heal()
			wantRead(t, in, "after")
		})
	}
}

func TestRefusedConnectionsAreReset(t *testing.T) {
	ln := target(t)
	l, _ := linkTo(t, ln)
	c := dial(t, l.addr())
	send(t, c, "before")
	wantRead(t, accept(t, ln), "before")
	l.change(func(l *link) { l.refuse = true })
	l.reset()
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Fatalf("the connection ended with %v, want a reset", err)
	}
	again, err := net.Dial("tcp", l.addr())
	if err != nil {
		return // reset before dialing returned
	}
	defer again.Close()
	if _, err := again.Read(make([]byte, 1)); err == nil {
		t.Fatal("a refused connection was served")
	}
}
