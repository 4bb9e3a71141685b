package api

import (
	"net"

	"github.com/valyala/fasthttp"
)

// ServePlain answers every request on ln with a short text until ln is closed.
// It is what the library does without us: "windlass bench" shows it beside each
// result, so that the distance to the limit is seen.
func ServePlain(ln net.Listener) error {
	s := &fasthttp.Server{
		NoDefaultServerHeader: true,
		Handler:               func(ctx *fasthttp.RequestCtx) { ctx.SetBodyString("ok") },
	}
	return s.Serve(ln)
}
