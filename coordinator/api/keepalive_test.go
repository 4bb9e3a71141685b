package api

import (
	"context"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"windlass/protocol/client"
)

// countedListener counts the connections that it accepted.
type countedListener struct {
	net.Listener
	accepted atomic.Int64
}

func (l *countedListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Add(1)
	}
	return conn, err
}

// TestHeldPollsShareOneConnection polls with the transport of agents and
// clients: every request leaves its handler, and the next one comes on the same
// connection.
func TestHeldPollsShareOneConnection(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	w.server.waiting.Add(maxWaiting) // from here on a request leaves its handler at once
	defer w.server.waiting.Add(-maxWaiting)
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln := &countedListener{Listener: tcp}
	served := make(chan error)
	go func() { served <- w.server.Serve(ln) }()
	transport := client.NewTransport()
	for range 20 {
		req, err := http.NewRequest("GET", "http://"+tcp.Addr().String()+"/v2/jobs/"+id.String()+"/status?wait=20ms", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", testKey)
		resp, err := transport.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%d, %v", resp.StatusCode, err)
		}
		resp.Body.Close()
	}
	if n := ln.accepted.Load(); n != 1 {
		t.Errorf("20 held polls used %d connections, want 1", n)
	}
	waitFor(t, func() bool { // the last one did leave its handler
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.handed) == 1
	})
	transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
