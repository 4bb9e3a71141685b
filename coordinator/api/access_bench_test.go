package api

import (
	"bytes"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// BenchmarkSubmitWithAKey is a whole submit of 1 KiB behind the library, with a
// replicated key and a limit, and with a log that costs nothing; the second metric
// is what authentication, permission and limit are of it.
func BenchmarkSubmitWithAKey(b *testing.B) {
	w := newWorld(b)
	n := w.tenant("org_a", "ep")
	const many = 1 << 30
	w.limit(many, many)
	for range 500 { // neighbours, among which the key is looked for
		w.key(protocol.KeyRequest{Org: "org_a", Permissions: within()[:1]})
	}
	body := []byte(`{"input": {"prompt": "` + strings.Repeat("x", 1000) + `"}, "priority": "high"}`)
	request := func() *fasthttp.RequestCtx {
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/v2/endpoints/ep/runasync")
		req.Header.Set("Authorization", "Bearer "+n.admin)
		ctx := &fasthttp.RequestCtx{}
		ctx.Init(&req, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, nil)
		ctx.Request.SetBodyStream(bytes.NewReader(body), len(body))
		return ctx
	}
	b.ReportAllocs()
	for b.Loop() {
		ctx := request()
		if w.server.handle(ctx); ctx.Response.StatusCode() != fasthttp.StatusOK {
			b.Fatalf("%d %s", ctx.Response.StatusCode(), ctx.Response.Body())
		}
	}
	submit := b.Elapsed() / time.Duration(b.N)
	c := &call{s: w.server, ctx: request(), id: "x"}
	p, _ := parsePath([]byte("/v2/endpoints/ep/runasync"))
	c.route, c.args, _ = w.server.router.find("POST", &p)
	began := time.Now()
	const rounds = 20_000
	for range rounds {
		c.label = nil
		for _, step := range []func() error{c.authenticate, c.authorise, c.admit} {
			if err := step(); err != nil {
				b.Fatal(err)
			}
		}
	}
	access := time.Since(began) / rounds
	b.ReportMetric(float64(access.Nanoseconds()), "ns-access/op")
	b.ReportMetric(100*float64(access)/float64(submit), "%-of-submit")
}
