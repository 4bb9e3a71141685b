package api

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"windlass/coordinator/auth"
)

func TestEveryRouteNeedsAPermission(t *testing.T) {
	w := newWorld(t)
	seen := map[string]bool{}
	for _, r := range w.server.routes() {
		if seen[r.operation] {
			t.Errorf("two routes are called %s", r.operation)
		}
		seen[r.operation] = true
		isOpen := slices.Contains([]string{"/healthz", "/readyz", "/v2/openapi.json", "/v2/outputs/{job}/{name}"}, r.pattern)
		if isOpen != (r.permission == open) || (!isOpen && r.permission != anyKey && !slices.Contains(auth.Permissions(), r.permission)) || (r.permission == anyKey) != (r.operation == "ownKey") {
			t.Errorf("%s %s has permission %q", r.method, r.pattern, r.permission)
		}
		path := strings.NewReplacer("{id}", "x", "{sha}", "x").Replace(r.pattern)
		for _, key := range []string{"", "Bearer wrong-wrong-wrong-wrong", testKey[:len(testKey)-1]} {
			want := 401
			switch {
			case r.operation == "getOutput":
				want = 404 // the signature is its key
			case isOpen:
				want = 200
			}
			a := w.do(r.method, path, "", "Authorization", key)
			if a.status != want {
				t.Errorf("%s %s with key %q: %d", r.method, path, key, a.status)
			}
		}
		if a := w.do(r.method, path, "", "Authorization", testKey); a.status == 401 {
			t.Errorf("%s %s refuses the bare key", r.method, path)
		}
	}
}

func TestUnknownPathsNeedAKey(t *testing.T) {
	w := newWorld(t)
	for _, path := range []string{"/", "/v2", "/v3/jobs", "/debug/pprof", "/v2/jobs/x/y/z", "/healthz/x"} {
		if a := w.do("GET", path, "", "Authorization", ""); a.status != 401 {
			t.Errorf("%s without a key: %d", path, a.status)
		}
		if a := w.get(path); a.status != 404 {
			t.Errorf("%s: %d", path, a.status)
		}
	}
	a := w.do("DELETE", "/v2/jobs", "")
	if a.status != 405 || a.header.Get("Allow") != "GET" {
		t.Errorf("%d, Allow %q", a.status, a.header.Get("Allow"))
	}
}

func TestPathTricks(t *testing.T) {
	w := newWorld(t)
	send := func(path string) string {
		return w.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: " + testKey + "\r\n\r\n")
	}
	for _, path := range []string{"/v2/%2e%2e/metrics", "/v2/../metrics", "/v2%2fjobs", "/v2/jobs/%00", "/v2/./jobs", "/v2/%2E/jobs", "/v2/jobs%5c", "/v2/%zz", "/v2/jobs\\x"} {
		if got := send(path); !strings.HasPrefix(got, "HTTP/1.1 400") {
			t.Errorf("%s: %.40s", path, got)
		}
	}
	for _, path := range []string{"//v2//jobs", "/v2/jobs/", "http://elsewhere/v2/jobs", "/v2/%6aobs"} {
		if got := send(path); !strings.HasPrefix(got, "HTTP/1.1 200") {
			t.Errorf("%s: %.40s", path, got)
		}
	}
}

func TestHeaderTricks(t *testing.T) {
	w := newWorld(t)
	auth := "Host: x\r\nAuthorization: " + testKey + "\r\n"
	for name, c := range map[string]struct{ request, status string }{
		"two framings": {"POST /v2/jobs/status/batch HTTP/1.1\r\n" + auth + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "400"},
		"folded":       {"GET /v2/jobs HTTP/1.1\r\n" + auth + "X-A: b\r\n c\r\n\r\n", "400"},
		"many":         {"GET /v2/jobs HTTP/1.1\r\n" + auth + strings.Repeat("X: y\r\n", 200) + "\r\n", "431"},
		"long":         {"GET /v2/jobs HTTP/1.1\r\n" + auth + "X: " + strings.Repeat("y", 9000) + "\r\n\r\n", "431"},
		"garbage":      {"\x16\x03\x01 hello\r\n\r\n", "400"},
		"two lengths":  {"POST /v2/jobs/status/batch HTTP/1.1\r\n" + auth + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
	} {
		got := w.raw(c.request)
		if !strings.HasPrefix(got, "HTTP/1.1 "+c.status) || strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, `"error":"`) {
			t.Errorf("%s: %.300s", name, got)
		}
	}
}

// TestTheBodyOfAReadIsNoRequest: a proxy that passes it on must not have it
// answered as one.
func TestTheBodyOfAReadIsNoRequest(t *testing.T) {
	w := newWorld(t)
	inner := "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
	for _, method := range []string{"GET", "HEAD"} {
		got := w.raw(fmt.Sprintf("%s /v2/jobs HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", method, testKey, len(inner), inner))
		if strings.Count(got, "HTTP/1.1 ") != 1 || !strings.Contains(got, "Connection: close") {
			t.Errorf("%s: %s", method, got)
		}
	}
}

func TestPanicIsAnswered(t *testing.T) {
	w := newWorld(t)
	w.server.deps.Barrier = nil // a call of it panics
	a := w.get("/v2/jobs")
	if e := a.fault(t); a.status != 500 || e.RequestID == "" || strings.Contains(string(a.body), "nil pointer") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.get("/healthz"); a.status != 200 {
		t.Errorf("the server is gone: %d", a.status)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(w.logged.String(), "handler panicked") || strings.Contains(w.logged.String(), testKey) {
		t.Errorf("log: %s", w.logged.String())
	}
}

func FuzzParsePath(f *testing.F) {
	for _, s := range []string{"/v2/jobs", "//a//b", "/%2e%2e/x", "/a%20b", "/a/../b", "", "x", "/%", "/a%00"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := parsePath(raw)
		if err != nil {
			return
		}
		for _, seg := range p.seg[:p.n] {
			if seg == "" || seg == "." || seg == ".." || strings.ContainsAny(seg, "/\\\x00\r\n") {
				t.Fatalf("%q gave segment %q", raw, seg)
			}
		}
	})
}
