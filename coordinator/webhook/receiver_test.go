package webhook

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"windlass/protocol"
)

// The receivers of fault F22, on the loopback interface and in real time. Each is a
// way to be broken; the schedule is a hundred times shorter.

// quick makes the sender's waits short.
func (w *world) quick() {
	w.send.waits = []time.Duration{20 * time.Millisecond, 40 * time.Millisecond, 80 * time.Millisecond, 160 * time.Millisecond}
}

// raw serves connections by hand.
func (w *world) raw(t *testing.T, serve func(net.Conn)) string {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer conn.Close()
				serve(conn)
			})
		}
	})
	t.Cleanup(func() {
		w.send.poster.client.CloseIdleConnections()
		_ = ln.Close()
		work.Wait()
	})
	return "http://" + ln.Addr().String() + "/hook"
}

// readRequest reads a request whole and returns false at the connection's end.
func readRequest(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// reset closes a connection with a RST.
func reset(conn net.Conn) {
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

// broken are the receivers by what is wrong with them; the sound one counts.
func (w *world) broken(t *testing.T, served *atomic.Int32) map[string]string {
	var seen sync.Map // webhooks, and "reset"
	bomb := zipped(t, 64<<20)
	metadata := w.raw(t, func(net.Conn) { t.Error("a redirect was followed") })
	return map[string]string{
		"redirects to itself": handler(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusMovedPermanently)
		}),
		"redirects to metadata": handler(t, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, metadata, http.StatusMovedPermanently)
		}),
		"resets first": w.raw(t, func(conn net.Conn) {
			if _, before := seen.LoadOrStore("reset", true); !before {
				reset(conn)
				return
			}
			if readRequest(bufio.NewReader(conn)) {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			}
		}),
		"never stops answering": w.raw(t, func(conn net.Conn) {
			if !readRequest(bufio.NewReader(conn)) {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
			junk := make([]byte, 1<<20)
			for {
				if _, err := conn.Write(junk); err != nil {
					return
				}
			}
		}),
		"endless headers": w.raw(t, func(conn net.Conn) {
			if !readRequest(bufio.NewReader(conn)) {
				return
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n")
			for {
				if _, err := fmt.Fprintf(conn, "X: %s\r\n", strings.Repeat("x", 4000)); err != nil {
					return
				}
			}
		}),
		"gzip bomb": handler(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			for range 1 << 10 { // a terabyte, as far as it is read
				if _, err := w.Write(bomb); err != nil {
					return
				}
			}
		}),
		"closes kept connections": w.raw(t, func(conn net.Conn) {
			// It promises to keep the connection, and closes it after one answer.
			if readRequest(bufio.NewReader(conn)) {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n")
			}
		}),
		"half 500": handler(t, func(w http.ResponseWriter, r *http.Request) {
			if _, before := seen.LoadOrStore(r.Header.Get(protocol.HeaderWebhookID), true); !before {
				w.WriteHeader(http.StatusInternalServerError)
			}
		}),
		"no web server": w.raw(t, func(conn net.Conn) { fmt.Fprint(conn, "220 mail.example ESMTP\r\n") }),
		"nobody":        unused(t),
		"sound":         handler(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }),
	}
}

// TestBrokenReceivers: all at once, and a sound one beside them. Everything that can
// be delivered is; memory stays bounded.
func TestBrokenReceivers(t *testing.T) {
	w := newWorld(t)
	w.quick()
	var served atomic.Int32
	receivers := w.broken(t, &served)
	const each = 8
	ids := make(map[string][]protocol.JobID)
	for name, url := range receivers {
		for range each {
			ids[name] = append(ids[name], w.ended(url))
		}
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	end := w.lead()
	w.settled()
	end()
	runtime.GC()
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 16<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	lost := map[string]bool{"redirects to itself": true, "redirects to metadata": true, "endless headers": true, "no web server": true, "nobody": true}
	for name, list := range ids {
		for _, id := range list {
			d := w.webhook(id)
			want := protocol.DeliveryDelivered
			if lost[name] {
				want = protocol.DeliveryFailed
			}
			if d.State != want {
				t.Errorf("%s: %s after %d attempts, the last: %+v", name, d.State, d.Attempt, d.Log[len(d.Log)-1])
				break
			}
			if last := d.Log[len(d.Log)-1]; len(last.Answer) > protocol.WebhookAnswer || lost[name] && (d.Attempt != 5 || last.Error == "") {
				t.Errorf("%s: %+v", name, last)
			}
		}
	}
	if served.Load() != each {
		t.Errorf("the sound one was served %d times, want %d", served.Load(), each)
	}
}

func handler(t *testing.T, fn http.HandlerFunc) string {
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return s.URL + "/hook"
}

// unused is the address of a port that nobody listens at.
func unused(t *testing.T) string {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return "http://" + ln.Addr().String() + "/hook"
}

// zipped is so many zeros, a thousand times smaller.
func zipped(t *testing.T, n int64) []byte {
	var out bytes.Buffer
	z, err := gzip.NewWriterLevel(&out, gzip.BestSpeed)
	if err == nil {
		_, err = io.CopyN(z, zeros{}, n)
	}
	if err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

type zeros struct{}

// Read implements io.Reader.
func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestSlowReceivers: one that answers byte by byte after its status, one that sends
// its status so slowly, and one that never answers. They end by the sender's limits.
func TestSlowReceivers(t *testing.T) {
	w := newWorld(t)
	w.send.waits = nil // one attempt
	w.send.poster.attempt, w.send.poster.answer = time.Second, time.Second/4
	stop := make(chan struct{})
	defer close(stop)
	drip := func(conn net.Conn, text string) {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for i := range text {
			if _, err := io.WriteString(conn, text[i:i+1]); err != nil {
				return
			}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}
	ids := map[string]protocol.JobID{
		"slow answer": w.ended(w.raw(t, func(conn net.Conn) {
			if readRequest(bufio.NewReader(conn)) {
				fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
				drip(conn, strings.Repeat("x", 1000))
			}
		})),
		"slow status": w.ended(w.raw(t, func(conn net.Conn) {
			if readRequest(bufio.NewReader(conn)) {
				drip(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			}
		})),
		"silent": w.ended(w.raw(t, func(net.Conn) { <-stop })),
	}
	end := w.lead()
	w.settled()
	end()
	for name, want := range map[string]protocol.DeliveryState{
		"slow answer": protocol.DeliveryDelivered, "slow status": protocol.DeliveryFailed, "silent": protocol.DeliveryFailed,
	} {
		if d := w.webhook(ids[name]); d.State != want || d.Log[0].LatencyMs > attemptTime.Milliseconds() {
			t.Errorf("%s: %s, %+v", name, d.State, d.Log)
		}
	}
}

// TestStopEndsAttempts: a leadership ends while receivers hang, without waiting for
// them.
func TestStopEndsAttempts(t *testing.T) {
	w := newWorld(t)
	arrived := make(chan struct{}, 100)
	stop := make(chan struct{})
	defer close(stop)
	url := w.raw(t, func(conn net.Conn) {
		if readRequest(bufio.NewReader(conn)) {
			arrived <- struct{}{}
			<-stop
		}
	})
	for range 10 {
		w.ended(url)
	}
	end := w.lead()
	for range 10 {
		<-arrived
	}
	end() // the test's own limit ends it otherwise
	if n := w.store.View().Owed(); n != 10 {
		t.Errorf("%d are owed, want 10: nothing was answered", n)
	}
}

// TestConnectionsAreKept: deliveries to one receiver share connections.
func TestConnectionsAreKept(t *testing.T) {
	w := newWorld(t)
	var opened atomic.Int32
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	for range 200 {
		w.ended(s.URL)
	}
	end := w.lead()
	w.settled()
	end()
	if n := opened.Load(); n > 150 {
		t.Errorf("%d connections for 200 webhooks", n)
	}
}

// TestDeniedAddressIsNotNamed: what a name resolves to is not told outside.
func TestDeniedAddressIsNotNamed(t *testing.T) {
	w := newWorld(t)
	w.quick()
	id := w.ended("https://10.11.12.13/hook")
	end := w.lead()
	w.settled()
	end()
	d := w.webhook(id)
	if d.State != protocol.DeliveryFailed || d.Log[0].Error != "the receiver's address may not be reached: it is private" {
		t.Errorf("the delivery is %+v", d)
	}
}
