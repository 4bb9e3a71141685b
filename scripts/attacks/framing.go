package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// inner is a request that must never be answered when it is hidden in another.
const inner = "GET /v2/agents HTTP/1.1\r\nHost: inner\r\n\r\n"

// framings are requests whose length two programs could read differently.
func framings(key string) []string {
	head := "POST /v2/endpoints/ep_echo/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + key + "\r\n"
	body := `{"input": {}}`
	var out []string
	for _, framing := range []string{
		"Content-Length: 13\r\nContent-Length: 50", "Content-Length: +13", "Content-Length: 0x0d", "Content-Length: -1", "Content-Length: 13, 13",
		"Content-Length: 99999999999999999999", "Content-Length : 13", "Content-Length: 1 3", "Content-Length:\r\n 13",
		"Transfer-Encoding: chunked\r\nContent-Length: 4", "Content-Length: 4\r\nTransfer-Encoding: chunked",
		"Transfer-Encoding: xchunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "Transfer-Encoding: chunked, identity", "Transfer-Encoding:\x0bchunked",
		"X-A: b\r\n folded: c\r\nContent-Length: 13", "X-A: b\x00c\r\nContent-Length: 13", "X-A: b\rc\r\nContent-Length: 13", "X A: b\r\nContent-Length: 13",
		" X-A: b\r\nContent-Length: 13", "Host: y\r\nContent-Length: 13",
	} {
		out = append(out, head+framing+"\r\n\r\n"+body+inner)
	}
	chunked := head + "Transfer-Encoding: chunked\r\n\r\n"
	for _, chunks := range []string{"d;a=\n\r\n" + body + "\r\n0\r\n\r\n", "0x0d\r\n" + body + "\r\n0\r\n\r\n", "d \r\n" + body + "\r\n0\r\n\r\n", "-1\r\n" + body + "\r\n0\r\n\r\n", "ffffffffffffffff\r\n" + body + "\r\n0\r\n\r\n", "d\n" + body + "\n0\n\n", "d\r\n" + body + "X\r\n0\r\n\r\n"} {
		out = append(out, chunked+chunks+inner)
	}
	many := strings.Repeat("X-Empty:\r\n", 1900)
	return append(out,
		"POST /v2/endpoints/ep_echo/runasync HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nd\r\n"+body+"\r\n0\r\n\r\n"+inner,
		"GET /v2/jobs HTTP/1.1\r\n\r\n"+inner, "GET  /v2/jobs HTTP/1.1\r\nHost: x\r\n\r\n", "GET /v2/jobs\r\n\r\n"+inner, "GET /v2/jobs HTTP/9.9\r\nHost: x\r\n\r\n"+inner,
		"GET /v2/jobs HTTP/1.1\r\nHost: x\r\n"+many+"\r\n", "GET /v2/jobs HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("a", 9<<10)+"\r\n\r\n",
		fmt.Sprintf("GET /v2/openapi.json HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		fmt.Sprintf("GET /v2/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(inner), inner),
		"GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+inner,
		"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"+inner,
	)
}

func smuggle(_ context.Context, v *victim) (int, error) {
	list := framings(v.key)
	for _, text := range list {
		got, err := v.raw(text)
		if err != nil {
			return len(list), err
		}
		// One answer at most, and the hidden request is not among those that were heard.
		if n := strings.Count(got, "HTTP/1.1 "); n > 1 {
			return len(list), fmt.Errorf("%d answers to %.120q", n, text)
		}
	}
	return len(list), nil
}

func twistPaths(_ context.Context, v *victim) (int, error) {
	paths := []string{
		"/v2/%2e%2e/metrics", "/v2/../metrics", "/v2/jobs/..%2f..%2fmetrics", "/v2%2fagents", "/v2/jobs/%00", "/v2/./agents", "/v2/%2E/agents", "/v2/jobs%5c..%5cagents",
		"/v2/%zz", `/v2/jobs\..\agents`, "/v2/jobs/x%2f..%2f..%2fagents/status", "/healthz/../v2/agents", "/healthz%2f..%2fv2%2fagents", "/v2/agents;x=/healthz", "/healthz;/../v2/agents", "//healthz/../v2/agents", "/v2/openapi.json/../agents",
	}
	for _, path := range paths {
		got, err := v.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if err != nil {
			return len(paths), err
		}
		if strings.HasPrefix(got, "HTTP/1.1 200") {
			return len(paths), fmt.Errorf("%s without a key is answered with 200", path)
		}
	}
	for _, absolute := range []string{"http://127.0.0.1/healthz", "http://x@y/v2/agents"} {
		got, err := v.raw("GET " + absolute + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if err != nil {
			return len(paths), err
		}
		if strings.Contains(absolute, "agents") && strings.HasPrefix(got, "HTTP/1.1 200") {
			return len(paths), fmt.Errorf("%s without a key is answered with 200", absolute)
		}
	}
	return len(paths) + 2, nil
}

// What slow senders may cost together.
const (
	slowSenders = 500
	slowBudget  = 32 << 20
)

func sendSlowly(ctx context.Context, v *victim) (int, error) {
	before, err := v.resident()
	if err != nil {
		return 0, err
	}
	conns := make([]net.Conn, 0, slowSenders)
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range slowSenders {
		conn, err := v.dial()
		if err != nil {
			return len(conns), err
		}
		conns = append(conns, conn)
		if _, err := io.WriteString(conn, "POST /v2/endpoints/ep_echo/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+v.key+"\r\nContent-Length: 1048576\r\n\r\n{"); err != nil {
			return len(conns), err
		}
	}
	select {
	case <-time.After(3 * time.Second): // they hold what they hold
	case <-ctx.Done():
		return len(conns), ctx.Err()
	}
	started := time.Now()
	if a := v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", `{"input": {}}`); a.status != http.StatusOK {
		return len(conns), fmt.Errorf("another client is answered with %s", a)
	}
	waited := time.Since(started)
	after, err := v.resident()
	if err != nil {
		return len(conns), err
	}
	if after-before > slowBudget {
		return len(conns), fmt.Errorf("they cost %d MiB, allowed are %d", (after-before)>>20, slowBudget>>20)
	}
	if waited > 2*time.Second {
		return len(conns), fmt.Errorf("another client waited %v", waited)
	}
	return len(conns), nil
}
