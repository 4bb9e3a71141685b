package api

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

// maxHeaders is several times what browsers and proxies send; fasthttp itself
// takes some 1,900 empty ones (reliability.md S1).
const maxHeaders = 100

// headerReceived gives each route its body limit and its time, before the body
// is read.
func (s *Server) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	uri := h.RequestURI()
	if i := bytes.IndexByte(uri, '?'); i >= 0 {
		uri = uri[:i]
	}
	p, err := parsePath(uri)
	if err != nil {
		return fasthttp.RequestConfig{}
	}
	route, _, _ := s.router.find(string(h.Method()), &p)
	if route == nil {
		return fasthttp.RequestConfig{}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: max(route.body, 1), ReadTimeout: route.patience, WriteTimeout: route.patience}
}

// checkHeader refuses what fasthttp accepts and proxies read differently:
// folded lines, names that are no tokens, two framings of one body, and headers
// without number. The caller closes the connection.
func checkHeader(h *fasthttp.RequestHeader) *protocol.Error {
	lines, length, chunked := 0, false, false
	for raw := h.RawHeaders(); len(raw) > 0; lines++ {
		line := raw
		if i := bytes.IndexByte(raw, '\n'); i >= 0 {
			line, raw = raw[:i], raw[i+1:]
		} else {
			raw = nil
		}
		if len(line) == 0 {
			continue
		}
		if line[0] == ' ' || line[0] == '\t' {
			return badHeader("Header lines must not be folded")
		}
		name, _, ok := bytes.Cut(line, []byte{':'})
		if len(line) > 1 && (!ok || !isToken(name)) { // one byte is the carriage return of the last line
			return badHeader("A header's name must be a token")
		}
		switch {
		case len(name) == len(fasthttp.HeaderContentLength) && bytes.EqualFold(name, []byte(fasthttp.HeaderContentLength)):
			length = true
		case len(name) == len(fasthttp.HeaderTransferEncoding) && bytes.EqualFold(name, []byte(fasthttp.HeaderTransferEncoding)):
			chunked = true
		}
	}
	if length && chunked {
		return badHeader("Content-Length and Transfer-Encoding must not come together")
	}
	if lines > maxHeaders {
		e := badHeader("At most 100 header lines are taken")
		e.Status = fasthttp.StatusRequestHeaderFieldsTooLarge
		return e
	}
	return nil
}

// Which of the first 128 characters a token may hold (RFC 9110 5.6.2), a bit each.
const (
	tokenLow  = 0x03ff_6cfa_0000_0000 // !#$%&'*+-. and digits
	tokenHigh = 0x57ff_ffff_c7ff_fffe // letters, ^_`|~
)

func isToken(name []byte) bool {
	for _, c := range name {
		if c >= 0x80 || c < 0x40 && tokenLow>>c&1 == 0 || c >= 0x40 && tokenHigh>>(c-0x40)&1 == 0 {
			return false
		}
	}
	return len(name) > 0
}

func badHeader(why string) *protocol.Error {
	return protocol.NewError(protocol.CodeMalformed, "The request's header cannot be used").With("field", "header").With("reason", why)
}

// refuse answers what the library could not read as a request; it closes the
// connection afterwards.
func (s *Server) refuse(ctx *fasthttp.RequestCtx, err error) {
	e := badHeader("The request is not well-formed HTTP/1.1")
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		e.Status, e.Details["reason"] = fasthttp.StatusRequestHeaderFieldsTooLarge, "The header is longer than 8 KiB"
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		e = protocol.NewError(protocol.CodeTooLarge, "The request body is too large")
	case errors.As(err, &timeout) && timeout.Timeout():
		e.Status, e.Details["reason"] = fasthttp.StatusRequestTimeout, "The request did not arrive in time"
	}
	id := protocol.NewRequestID(time.Now()).String()
	s.errorReply("refused", id, e).fill(&ctx.Response, id)
}
