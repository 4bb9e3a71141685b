package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

// call is one request on its way through a handler. What a handler takes from
// it by the methods below is a copy: the library reuses its buffers for the
// next request of the connection.
type call struct {
	s     *Server
	ctx   *fasthttp.RequestCtx
	route *route
	args  params
	who   auth.Identity
	id    string // of the request
	held  bool   // the answer is given outside of the handler
	read  bool   // the body was read to its end
	close bool   // the connection ends with this answer
	raw   []byte // the body, once body has returned it

	began    time.Time     // when it came
	classic  bool          // the classic dialect: the endpoint comes first in the path, answers are due sooner
	deadline time.Time     // when it must be answered; zero: see context and outgoing
	relayed  bool          // another coordinator relays the request
	waited   time.Duration // for how long it has
	once     bool          // when it is relayed and the answer is lost, its sender decides
	holds    time.Duration // for how long the leader may hold it
	turn     string        // names it among relayed requests
	ended    localAnswer   // answers here once the leader says that the job has ended
	stale    bool          // consistency=stale
	label    [][2]string   // headers of a stale answer
}

// writeTime bounds a write that waits for the log: longer than an election, and
// shorter than the patience of the clients' own time limits.
const writeTime = 15 * time.Second

// context returns a context that ends with the server or after writeTime, in the
// classic dialect after quickTime.
func (c *call) context() (context.Context, context.CancelFunc) {
	if c.classic {
		return context.WithDeadline(c.s.base, c.began.Add(quickTime))
	}
	return context.WithTimeout(c.s.base, writeTime)
}

// jobText is the job's id as the path has it.
func (c *call) jobText() string {
	if c.classic {
		return c.args[1]
	}
	return c.args[0]
}

func (c *call) header(name string) string { return string(c.ctx.Request.Header.Peek(name)) }

func (c *call) query(name string) string { return string(c.ctx.QueryArgs().Peek(name)) }

// queryList returns the values of a parameter that may be repeated, and may
// hold several values with commas between them.
func (c *call) queryList(names ...string) []string {
	var out []string
	for _, name := range names {
		for _, raw := range c.ctx.QueryArgs().PeekMulti(name) {
			for v := range strings.SplitSeq(string(raw), ",") {
				if v = strings.TrimSpace(v); v != "" {
					out = append(out, v)
				}
			}
		}
	}
	return out
}

// firstRead is what is allocated before any of a body has arrived; a larger
// body grows with what was really sent, whatever length it declared.
const firstRead = 64 << 10

// body reads the whole body, within the route's limit. The result is the
// caller's own.
func (c *call) body() ([]byte, error) {
	b, err := c.readBody()
	c.raw = b
	return b, err
}

func (c *call) readBody() ([]byte, error) {
	limit, declared := c.route.body, c.ctx.Request.Header.ContentLength()
	if declared > limit {
		return nil, c.tooLarge()
	}
	stream := c.ctx.RequestBodyStream()
	if stream == nil || declared == 0 {
		c.read = true
		return nil, nil
	}
	first := declared + 1 // one more byte, so that the end is seen at once
	if declared < 0 || declared >= firstRead {
		first = firstRead
	}
	b := make([]byte, 0, first)
	for {
		n, err := stream.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if len(b) > limit {
			return nil, c.tooLarge()
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, c.broken(err)
		}
		if len(b) == cap(b) {
			grown := make([]byte, len(b), min(2*cap(b), limit+1))
			copy(grown, b)
			b = grown
		}
	}
	c.read = true
	return b, nil
}

// bodyStream returns the body for a handler that stores it as it comes.
func (c *call) bodyStream() (io.Reader, error) {
	if c.ctx.Request.Header.ContentLength() > c.route.body {
		return nil, c.tooLarge()
	}
	stream := c.ctx.RequestBodyStream()
	if stream == nil {
		return bytes.NewReader(nil), nil
	}
	return &bodyReader{c: c, r: stream}, nil
}

// bodyReader notes that the body was read to its end.
type bodyReader struct {
	c *call
	r io.Reader
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if errors.Is(err, io.EOF) {
		b.c.read = true
	}
	return n, err
}

func (c *call) tooLarge() error {
	return protocol.NewError(protocol.CodeTooLarge, "The request body is too large").
		With("field", "body").With("limit", c.route.body).
		With("reason", "Must be at most "+strconv.Itoa(c.route.body)+" bytes")
}

func (c *call) broken(err error) error {
	e := protocol.NewError(protocol.CodeMalformed, "The request body did not arrive").
		With("field", "body").With("reason", "The connection broke or was too slow")
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		e.Status = fasthttp.StatusRequestTimeout
	}
	return e
}

// baseURL returns the base of URLs in the answer.
func (c *call) baseURL() string {
	if u := c.s.deps.PublicURL(); u != "" {
		return strings.TrimSuffix(u, "/")
	}
	return c.scheme() + "://" + string(c.ctx.Host())
}

// scheme is that of the client's connection, wherever it ends.
func (c *call) scheme() string {
	if c.relayed {
		if given := c.header(fasthttp.HeaderXForwardedProto); given != "" {
			return given
		}
	}
	if c.ctx.IsTLS() {
		return "https"
	}
	return "http"
}

// unread reports whether bytes of the body may still be on the connection, so
// that it cannot carry a further request.
func (c *call) unread() bool {
	declared := c.ctx.Request.Header.ContentLength()
	if c.ctx.IsGet() || c.ctx.IsHead() {
		// The library takes such a request to have no body, and what the client sent as
		// one for its next request.
		return declared > 0 || declared == -1
	}
	// The library reads up to prefetch bytes of a body of known length itself.
	return !c.read && (declared > prefetch || declared == -1)
}

// prefetch is how much of a body fasthttp reads before it calls the handler.
const prefetch = 8 << 10
