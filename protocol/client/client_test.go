package client

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass/protocol"
)

// answers serves one handler after the other; the last one stays.
type answers struct {
	mu       sync.Mutex
	handlers []http.HandlerFunc
	requests []*http.Request
	bodies   []string
}

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.mu.Lock()
	a.requests = append(a.requests, r)
	a.bodies = append(a.bodies, string(body))
	h := a.handlers[0]
	if len(a.handlers) > 1 {
		a.handlers = a.handlers[1:]
	}
	a.mu.Unlock()
	h(w, r)
}

func (a *answers) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.requests)
}

func reply(status int, doc any) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(doc)
	}
}

func refuse(code protocol.Code) http.HandlerFunc {
	return reply(code.HTTPStatus(), protocol.NewError(code, "no"))
}

// cut ends the connection without an answer.
func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func serve(t *testing.T, handlers ...http.HandlerFunc) (*answers, string) {
	t.Helper()
	a := &answers{handlers: handlers}
	s := httptest.NewServer(a)
	t.Cleanup(s.Close)
	return a, s.URL
}

func newClient(t *testing.T, addrs ...string) *Client {
	t.Helper()
	c, err := New(Config{Addrs: addrs, Key: "secret"})
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	t.Cleanup(c.Close)
	return c
}

// deadAddr is an address where nobody listens.
func deadAddr(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.NotFoundHandler())
	s.Close()
	return s.URL
}

func job() protocol.JobID { return protocol.JobID{1, 2, 3} }

func accepted() protocol.SubmitResponse {
	return protocol.SubmitResponse{JobID: job(), TaskID: job(), Status: protocol.StatusQueued, Priority: protocol.PriorityNormal}
}

func TestParseAddr(t *testing.T) {
	for in, want := range map[string]string{
		"http://a:7400":         "http://a:7400",
		"http://a:7400/":        "http://a:7400",
		"http://a:7400/v2":      "http://a:7400",
		"https://a/base/v2/":    "https://a/base",
		"a:7400":                "http://a:7400",
		"  http://[::1]:7400  ": "http://[::1]:7400",
	} {
		if got, err := ParseAddr(in); err != nil || got != want {
			t.Errorf("ParseAddr(%q) = %q, %v; want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"", "ftp://a", "http://", "http://a?x=1", "http://u:p@a"} {
		if got, err := ParseAddr(in); err == nil {
			t.Errorf("ParseAddr(%q) = %q, want an error", in, got)
		}
	}
}

func TestSubmitIsRepeatedUnderOneKey(t *testing.T) {
	a, addr := serve(t, cut, refuse(protocol.CodeNoLeader), reply(200, accepted()))
	r, err := newClient(t, addr).Submit(t.Context(), "ep_x", protocol.SubmitRequest{Input: json.RawMessage(`{"a":1}`)})
	if err != nil || r.JobID != job() {
		t.Fatalf("Submit = %v, %v", r, err)
	}
	if a.count() != 3 {
		t.Fatalf("%d requests, want 3", a.count())
	}
	keys := make(map[string]bool)
	for i, r := range a.requests {
		keys[r.Header.Get(protocol.HeaderIdempotencyKey)] = true
		if r.URL.Path != "/v2/endpoints/ep_x/runasync" || a.bodies[i] != `{"input":{"a":1}}` {
			t.Errorf("request %d: %s %s", i, r.URL.Path, a.bodies[i])
		}
		if r.Header.Get("Authorization") != "Bearer secret" {
			t.Errorf("request %d carries no key", i)
		}
	}
	if len(keys) != 1 || keys[""] {
		t.Fatalf("keys %v: want one, not empty", keys)
	}
}

func TestCallerKeyIsKept(t *testing.T) {
	a, addr := serve(t, reply(200, accepted()))
	if _, err := newClient(t, addr).Submit(t.Context(), "ep_x", protocol.SubmitRequest{IdempotencyKey: "mine"}); err != nil {
		t.Fatal(err)
	}
	if h := a.requests[0].Header.Get(protocol.HeaderIdempotencyKey); h != "" {
		t.Errorf("header %q beside the key of the body", h)
	}
	if !strings.Contains(a.bodies[0], `"idempotencyKey":"mine"`) {
		t.Errorf("body %s", a.bodies[0])
	}
}

func TestRetryOfAJobIsNotRepeatedOnceSent(t *testing.T) {
	a, addr := serve(t, cut)
	_, err := newClient(t, addr).Retry(t.Context(), job())
	if !errors.Is(err, ErrUnreachable) {
		t.Fatalf("Retry = %v", err)
	}
	// net/http may repeat a request that surely reached nobody; a cut answer is not that.
	if a.count() != 1 {
		t.Fatalf("%d requests, want 1", a.count())
	}
}

func TestTheAddressThatAnswersIsRemembered(t *testing.T) {
	a, addr := serve(t, reply(200, protocol.JobStatus{JobID: job(), Status: protocol.StatusQueued, Priority: protocol.PriorityNormal}))
	c := newClient(t, deadAddr(t), addr)
	for range 2 {
		if _, err := c.Status(t.Context(), job(), StatusOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if c.Addr() != addr || a.count() != 2 {
		t.Fatalf("Addr() = %s after %d requests", c.Addr(), a.count())
	}
}

func TestNothingThere(t *testing.T) {
	c, err := New(Config{Addrs: []string{deadAddr(t)}, Tries: 2})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(t.Context(), job(), StatusOptions{}); !errors.Is(err, ErrUnreachable) {
		t.Fatalf("Status = %v, want ErrUnreachable", err)
	}
}

func TestErrorsAreDocuments(t *testing.T) {
	_, addr := serve(t, reply(422, protocol.Invalid("policy.ttl", 5, "too short")))
	_, err := newClient(t, addr).Submit(t.Context(), "ep_x", protocol.SubmitRequest{})
	var e *protocol.Error
	if !errors.As(err, &e) || e.Status != 422 || e.Code != protocol.CodeValidation || e.Details["field"] != "policy.ttl" {
		t.Fatalf("error %#v", err)
	}
}

func TestAForeignAnswerIsAnErrorToo(t *testing.T) {
	_, addr := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<html>\n blocked </html>")
	})
	_, err := newClient(t, addr).Status(t.Context(), job(), StatusOptions{})
	var e *protocol.Error
	if !errors.As(err, &e) || e.Status != 403 || e.Code != protocol.CodeAccessDenied || !strings.Contains(e.Message, "<html> blocked") {
		t.Fatalf("error %#v", err)
	}
}

func TestRetryAfter(t *testing.T) {
	limited := func(after string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Retry-After", after)
			refuse(protocol.CodeRateLimit)(w, r)
		}
	}
	t.Run("a short one is waited for", func(t *testing.T) {
		a, addr := serve(t, limited("0"), reply(200, accepted()))
		if _, err := newClient(t, addr).Submit(t.Context(), "ep_x", protocol.SubmitRequest{}); err != nil || a.count() != 2 {
			t.Fatalf("%v after %d requests", err, a.count())
		}
	})
	t.Run("a long one is the caller's", func(t *testing.T) {
		a, addr := serve(t, limited("3600"))
		_, err := newClient(t, addr).Submit(t.Context(), "ep_x", protocol.SubmitRequest{})
		if protocol.CodeOf(err) != protocol.CodeRateLimit || a.count() != 1 {
			t.Fatalf("%v after %d requests", err, a.count())
		}
	})
	t.Run("one beyond the deadline is not waited for", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		_, addr := serve(t, limited("20"))
		_, err := newClient(t, addr).Submit(ctx, "ep_x", protocol.SubmitRequest{})
		if protocol.CodeOf(err) != protocol.CodeRateLimit || ctx.Err() != nil {
			t.Fatalf("%v, context %v", err, ctx.Err())
		}
	})
}

func TestListReadsAllPages(t *testing.T) {
	a, addr := serve(t,
		reply(200, protocol.Page[protocol.Endpoint]{Data: []protocol.Endpoint{{ID: "a"}}, NextCursor: "c1"}),
		reply(200, protocol.Page[protocol.Endpoint]{Data: []protocol.Endpoint{{ID: "b"}}}))
	rows, err := newClient(t, addr).Endpoints(t.Context())
	if err != nil || len(rows) != 2 || rows[1].ID != "b" {
		t.Fatalf("Endpoints = %v, %v", rows, err)
	}
	if got := a.requests[1].URL.Query().Get("cursor"); got != "c1" {
		t.Fatalf("second page asked with cursor %q", got)
	}
}

func TestInputKeepsItsBytes(t *testing.T) {
	const input = `{"html":"<a href=\"x\">&"}`
	a, addr := serve(t, reply(http.StatusOK, accepted()))
	if _, err := newClient(t, addr).Submit(t.Context(), "ep", protocol.SubmitRequest{Input: json.RawMessage(input)}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(a.bodies[0], input) {
		t.Errorf("sent %s", a.bodies[0])
	}
}
