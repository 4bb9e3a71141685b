package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"windlass/protocol"
)

// TestRequestsDoNotLeakIntoEachOther sends requests that each carry a mark over
// shared connections, and looks for a foreign mark in every answer and row (D9).
func TestRequestsDoNotLeakIntoEachOther(t *testing.T) {
	const callers, rounds = 8, 40
	w := newWorld(t)
	w.endpoint("ep", "")
	var wg sync.WaitGroup
	for n := range callers {
		wg.Go(func() {
			for i := range rounds {
				// Lengths differ, so that a reused buffer shows its old end.
				mark := fmt.Sprintf("canary-%d-%d-%s", n, i, strings.Repeat(string(rune('a'+n)), (i*7+n)%50))
				body := fmt.Sprintf(`{"input": {"m": %q}, "tags": {"m": %q}, "callbackUrl": "https://a.test/%s", "idempotencyKey": %q}`, mark, mark, mark, mark)
				a := w.post("/v2/endpoints/ep/runasync", body, "X-Request-Id", fmt.Sprintf("req-%d-%d", n, i))
				var out protocol.SubmitResponse
				a.json(t, &out)
				if out.Tags["m"] != mark || a.header.Get("X-Request-Id") != fmt.Sprintf("req-%d-%d", n, i) {
					t.Errorf("%s was answered %s", mark, a.body)
				}
				row := w.store.Job(out.JobID)
				if string(row.Input.Inline) != fmt.Sprintf(`{"m": %q}`, mark) || row.Extra.CallbackURL != "https://a.test/"+mark || row.Extra.IdempotencyKey != mark {
					t.Errorf("%s is stored as %s %+v", mark, row.Input.Inline, row.Extra)
				}
				missing := w.get("/v2/jobs/" + mark + "/status").fault(t)
				if missing.Details["jobId"] != mark {
					t.Errorf("%s: %+v", mark, missing)
				}
			}
		})
	}
	wg.Wait()
}

// TestShutdownEndsHeldRequests parks a poll and a stream and expects nothing to
// be left behind.
func TestShutdownEndsHeldRequests(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Run("serve", func(t *testing.T) {
		w := newWorld(t)
		w.endpoint("ep", "")
		id := w.submit("ep", `{"input": {}}`)
		_, next := w.events(id, "")
		mustNext(t, next)
		held := make(chan protocol.JobStatus)
		go func() { held <- w.jobStatus(id, "?wait=60s") }()
		waitFor(t, func() bool { return w.board.Stats().Streams == 2 })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := w.server.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if got := <-held; got.Status != protocol.StatusQueued {
			t.Errorf("the held request was answered %+v", got)
		}
		if _, err := next(); err == nil {
			t.Error("the stream goes on")
		}
	})
	// fasthttp's worker pool and date clock end by themselves later.
	goleak.VerifyNone(t, before, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"))
}

// TestHeldConnectionsGoOn holds requests longer than a handler waits, several
// times on one connection.
func TestHeldConnectionsGoOn(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	for range 3 {
		a.seq++
		var resp protocol.SyncResponse
		a.call(protocol.PathSync, protocol.SyncRequest{Agent: a.id, Incarnation: a.life, Seq: a.seq, HoldMs: 300}, &resp)
		if resp.Seq != a.seq {
			t.Errorf("%+v", resp)
		}
		if doc := w.jobStatus(id, "?wait=150ms"); doc.JobID != id {
			t.Errorf("%+v", doc)
		}
	}
}

func TestPipelinedRequestSurvivesAHold(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	head := " HTTP/1.1\r\nHost: x\r\nAuthorization: " + testKey + "\r\n"
	got := w.raw("GET /v2/jobs/" + id.String() + "/status?wait=300ms" + head + "\r\n" + "GET /healthz" + head + "Connection: close\r\n\r\n")
	if strings.Count(got, "HTTP/1.1 200 OK") != 2 || !strings.Contains(got, `"status":"ok"`) {
		t.Errorf("%s", got)
	}
}

// TestShutdownClosesIdleConnectionsThatHeld keeps a connection open after its
// held request was answered, as an agent that stopped does.
func TestShutdownClosesIdleConnectionsThatHeld(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	// A real socket: a deadline does not wake a reader of the one in memory.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- w.server.Serve(ln) }()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request := "GET /v2/jobs/" + id.String() + "/status?wait=300ms HTTP/1.1\r\nHost: x\r\nAuthorization: " + testKey + "\r\n\r\n"
	if _, err := io.WriteString(conn, request); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v %v", resp, err)
	}
	waitFor(t, func() bool {
		w.server.mu.Lock()
		defer w.server.mu.Unlock()
		return len(w.server.handed) == 1
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}
