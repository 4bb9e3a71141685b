package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

// TestShutdownDoesNotWaitForWhoeverSaysNothing: a client opened a connection in
// advance and has not used it.
func TestShutdownDoesNotWaitForWhoeverSaysNothing(t *testing.T) {
	w := newWorld(t)
	conn, err := w.ln.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w.get("/healthz") // the connection before was accepted
	ctx, cancel := context.WithTimeout(t.Context(), headerTime/4)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown waits: %v", err)
	}
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is still open")
	}
}

// socket serves the world on a real socket, too, and returns a connection to it
// over which one request was answered.
func (w *world) socket() net.Conn {
	w.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- w.server.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		conn.Close()
		stop, done := context.WithTimeout(context.Background(), 10*time.Second)
		defer done()
		if err := errors.Join(w.server.Shutdown(stop), <-served); err != nil {
			w.t.Error(err)
		}
	})
	w.say(conn, "GET /healthz HTTP/1.1\r\n", "\r\n")
	if resp, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%v %v", resp, err)
	}
	return conn
}

// say writes a request with the key between its first line and the rest.
func (w *world) say(conn net.Conn, first, rest string) {
	w.t.Helper()
	if _, err := io.WriteString(conn, first+"Host: x\r\nAuthorization: "+testKey+"\r\n"+rest); err != nil {
		w.t.Fatal(err)
	}
}

// begin sends the head of a submit, and returns once its body is waited for.
func (w *world) begin(conn net.Conn, size int) {
	w.t.Helper()
	w.say(conn, "POST /v2/endpoints/ep/runasync HTTP/1.1\r\n", fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d\r\n\r\n", size))
	const want = "HTTP/1.1 100 Continue\r\n\r\n"
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		w.t.Fatalf("%q, %v", got, err)
	}
}

// Shutdown is over soon also where a peer would have minutes by its route.
func TestShutdownCutsPeersThatTakeTheirTime(t *testing.T) {
	const size = 24 << 20 // more than the buffers of two sockets
	for name, slow := range map[string]func(w *world, conn net.Conn){
		"half a header": func(w *world, conn net.Conn) { w.say(conn, "GET /v2/jobs HTTP/1.1\r\n", "X-More: ") },
		"half a body": func(w *world, conn net.Conn) {
			w.begin(conn, 100_000)
			_, _ = io.WriteString(conn, `{"input": "`)
		},
		"an answer that is not read": func(w *world, conn net.Conn) {
			sum, _, err := w.server.deps.Blobs.Put(t.Context(), bytes.NewReader(make([]byte, size)), nil, size)
			if err != nil {
				t.Fatal(err)
			}
			w.say(conn, fmt.Sprintf("GET %s%x HTTP/1.1\r\n", protocol.PathBlob, sum), "\r\n")
			if _, err := conn.Read(make([]byte, 1)); err != nil { // it is being sent
				t.Fatal(err)
			}
		},
		"an agent's sync that is held": func(w *world, conn net.Conn) {
			id := w.submit("ep", `{"input": {}}`)
			w.say(conn, "GET /v2/jobs/"+id.String()+"/status?wait=60s HTTP/1.1\r\n", "\r\n")
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.endpoint("ep", "")
			w.server.cutAfter = 20 * time.Millisecond
			slow(w, w.socket())
			ctx, cancel := context.WithTimeout(t.Context(), headerTime/2)
			defer cancel()
			if err := w.server.Shutdown(ctx); err != nil {
				t.Errorf("shutdown waits: %v", err)
			}
			waitFor(t, func() bool { // nobody's connection is remembered
				w.server.conns.mu.Lock()
				defer w.server.conns.mu.Unlock()
				return len(w.server.conns.open) == 0
			})
		})
	}
}

// A request that comes in time is answered: nothing is cut while it runs.
func TestShutdownLetsABodyArrive(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	conn := w.socket()
	w.begin(conn, 20_000)
	stopped := make(chan error)
	go func() { stopped <- w.server.Shutdown(t.Context()) }()
	<-w.server.base.Done()
	if _, err := io.WriteString(conn, strings.Repeat(" ", 20_000-13)+`{"input": {}}`); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("%d", resp.StatusCode)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// The library still cleans up after a request that left it, by the connection's
// identity, when the next one of the same connection may have begun: then it
// would take a waiting connection for a busy one, and its shutdown would wait.
func TestTheLibraryGetsAConnectionAnewEachTime(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	w.server.waiting.Add(maxWaiting) // from here on a request leaves its handler at once
	defer w.server.waiting.Add(-maxWaiting)
	conn := w.socket()
	br := bufio.NewReader(conn)
	seen := make(map[net.Conn]bool)
	for range 3 {
		w.say(conn, "GET /v2/jobs/"+id.String()+"/status?wait=20ms HTTP/1.1\r\n", "\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool {
			w.server.mu.Lock()
			defer w.server.mu.Unlock()
			for h := range w.server.handed {
				if !seen[h] {
					seen[h] = true
					_, twice := h.Conn.(*handed)
					return !twice
				}
			}
			return false
		})
	}
}

// A server may be told to stop before it was scheduled to accept.
func TestServeReturnsAfterShutdown(t *testing.T) {
	w := newWorld(t)
	if err := w.server.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := w.server.Serve(ln); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}

// A line that was dialed while the server stopped is nobody's to close later.
func TestNoLineIsTakenAfterTheEnd(t *testing.T) {
	w, _, c := pair(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w.server.lines.run(ctx)
	leader, err := c.Turn(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	if ln, err := w.server.lines.take(t.Context(), leader, true); err == nil {
		t.Errorf("it got %v", ln)
	}
}
