package api

import (
	"errors"
	"io"
	"maps"
	"strconv"

	"github.com/valyala/fasthttp"

	"windlass/protocol"
)

const typeJSON = "application/json"

// reply is one answer, built apart from the request so that a held request can
// be answered after the library has let go of it.
type reply struct {
	status int
	header [][2]string
	body   []byte
	kind   string
	// stream is sent instead of body, and closed; it has size bytes.
	stream io.ReadCloser
	size   int
}

// drop lets go of a reply that is not sent.
func (r reply) drop() {
	if r.stream != nil {
		r.stream.Close()
	}
}

// answer turns what a handler returned into a reply. An error that is not for
// callers is logged, with the request's id, and hidden.
func (s *Server) answer(operation, requestID string, v any, err error) reply {
	if err == nil {
		body, merr := protocol.EncodeJSON(v)
		if merr == nil {
			return reply{status: fasthttp.StatusOK, body: body, kind: typeJSON}
		}
		err = merr
	}
	return s.errorReply(operation, requestID, err)
}

func (s *Server) errorReply(operation, requestID string, err error) reply {
	var e *protocol.Error
	if !errors.As(err, &e) {
		s.deps.Log.Error().Str("component", "api").Str("operation", operation).Str("requestId", requestID).Err(err).Msg("request failed")
		e = protocol.NewError(protocol.CodeInternal, hidden)
	}
	shown := *e
	shown.Details = maps.Clone(e.Details)
	shown.RequestID = requestID
	body, merr := protocol.EncodeJSON(&shown)
	if merr != nil {
		// A detail that is no JSON, such as an infinite number: the rest still helps.
		shown.Details = nil
		body, _ = protocol.EncodeJSON(&shown)
	}
	r := reply{status: e.Code.HTTPStatus(), body: body, kind: typeJSON}
	if e.Status != 0 {
		r.status = e.Status
	}
	if after, ok := retryAfter(e.Details); ok {
		r.header = append(r.header, [2]string{fasthttp.HeaderRetryAfter, strconv.FormatInt(after, 10)})
	}
	if allow, ok := e.Details["allow"].(string); ok {
		r.header = append(r.header, [2]string{fasthttp.HeaderAllow, allow})
	}
	if e.Code == protocol.CodeUnauthorized {
		r.header = append(r.header, [2]string{fasthttp.HeaderWWWAuthenticate, "Bearer"})
	}
	return r
}

// retryAfter reads the detail that the Retry-After header repeats, in seconds.
func retryAfter(details map[string]any) (int64, bool) {
	switch v := details["retryAfter"].(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case float64:
		return int64(v), true
	}
	return 0, false
}

// write sends r as the answer of a handler.
func (c *call) write(r reply) {
	resp := &c.ctx.Response
	r.header = append(r.header, c.label...)
	r.fill(resp, c.id)
}

// fill writes a reply into a response of the library.
func (r reply) fill(resp *fasthttp.Response, requestID string) {
	resp.SetStatusCode(r.status)
	if r.kind != "" {
		resp.Header.SetContentType(r.kind)
	}
	resp.Header.Set(protocol.HeaderRequestID, requestID)
	resp.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	for _, h := range r.header {
		resp.Header.Set(h[0], h[1])
	}
	if r.stream != nil {
		resp.SetBodyStream(r.stream, r.size)
		return
	}
	resp.SetBodyRaw(r.body)
}

// json answers with v; success is exactly 200 (DESIGN 4).
func (c *call) json(v any, headers ...[2]string) error {
	body, err := protocol.EncodeJSON(v)
	if err != nil {
		return err
	}
	c.write(reply{status: fasthttp.StatusOK, header: headers, body: body, kind: typeJSON})
	return nil
}
