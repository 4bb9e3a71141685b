// Package api serves the HTTP API of a coordinator: one table of routes over
// fasthttp, the native dialect, the agents' protocol, and event streams. See
// DESIGN.md.
package api

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/valyala/fasthttp"

	"windlass/docs"
	"windlass/protocol"
)

// Bounds of the server (reliability.md 4).
const (
	// maxConns is one connection for each of tens of thousands of agents and
	// clients; it stays below the usual limit of file descriptors of a service.
	maxConns = 60_000
	// headerBuffer is the longest header that is taken; 9 KB are answered 431.
	headerBuffer = 8 << 10
	// headerTime cuts a client that sends its header byte by byte.
	headerTime = 20 * time.Second
	// idleTime keeps the connection of an agent over its beats and syncs.
	idleTime = 2 * time.Minute
	// cutTime is what requests in progress get when the server stops: theirs are
	// bodies and answers of which most arrive at once, and a slow peer is not
	// waited for as long as its route would.
	cutTime = 4 * time.Second
	// keepAlivePeriod finds peers that vanished without a word.
	keepAlivePeriod = 30 * time.Second
)

// Server answers the API on any number of listeners.
type Server struct {
	deps     Deps
	router   *router
	fast     *fasthttp.Server
	base     context.Context // ended by Shutdown
	stop     context.CancelFunc
	schemas  *schemas
	estimate *estimator
	metrics  *metrics
	held     atomic.Int64 // requests that wait for something to happen
	waiting  atomic.Int64 // those of them that are still in their handler
	lines    *lines       // to the leader
	conns    conns
	cutAfter time.Duration // cutTime; tests shorten it
	drains   drains        // of the classic streams
	openapi  []byte        // the description of the API, as JSON

	mu      sync.Mutex
	closing bool
	streams int                  // SSE streams
	handed  map[*handed]struct{} // connections that went back to the library after a held request
	work    sync.WaitGroup       // goroutines that outlive their handler

	listeners []net.Listener
}

// New returns a server that serves once Serve is called.
func New(deps Deps) (*Server, error) {
	s := &Server{deps: deps, schemas: newSchemas(), estimate: newEstimator(), cutAfter: cutTime, handed: make(map[*handed]struct{})}
	s.base, s.stop = context.WithCancel(context.Background())
	s.lines = newLines(s)
	routes := s.routes()
	s.router = newRouter(routes)
	m, err := newMetrics(s, routes)
	if err != nil {
		return nil, err
	}
	s.metrics = m
	if s.openapi, err = openAPIJSON(docs.OpenAPI()); err != nil {
		return nil, err
	}
	s.fast = &fasthttp.Server{
		Handler:                       s.handle,
		ErrorHandler:                  s.refuse,
		HeaderReceived:                s.headerReceived,
		Logger:                        fastLog{deps.Log},
		Concurrency:                   maxConns,
		ReadBufferSize:                headerBuffer,
		ReadTimeout:                   headerTime,
		IdleTimeout:                   idleTime,
		MaxRequestBodySize:            smallBody,
		StreamRequestBody:             true,
		DisablePreParseMultipartForm:  true,
		KeepHijackedConns:             true,
		NoDefaultServerHeader:         true,
		NoDefaultContentType:          true,
		SecureErrorLogMessage:         true,
		CloseOnShutdown:               true,
		ConnState:                     s.conns.note,
		TCPKeepalive:                  true,
		TCPKeepalivePeriod:            keepAlivePeriod,
		DisableHeaderNamesNormalizing: false,
	}
	s.enter(func() { s.estimate.run(s.base, deps.Store) })
	s.enter(func() { s.lines.run(s.base) })
	return s, nil
}

// Serve answers requests on ln, which it closes, until Shutdown; then it returns
// nil, also when Shutdown came first.
func (s *Server) Serve(ln net.Listener) error {
	s.mu.Lock()
	closing := s.closing
	s.listeners = append(s.listeners, ln)
	s.mu.Unlock()
	if closing {
		_ = ln.Close()
		return nil
	}
	return s.fast.Serve(ln)
}

// ServePeers is Serve for connections from other coordinators, which relay
// requests over them.
func (s *Server) ServePeers(ln net.Listener) error { return s.Serve(peerListener{ln}) }

// Shutdown stops accepting, ends held requests and streams, and waits for the
// handlers and for every goroutine of the server, or for ctx. After cutTime it
// closes what peers still keep open.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	s.closing = true
	for conn := range s.handed {
		conn.end()
	}
	s.mu.Unlock()
	s.stop()
	s.conns.closeQuiet()
	var cutting sync.WaitGroup
	patient, enough := context.WithTimeout(ctx, s.cutAfter)
	cutting.Go(func() { s.cut(patient) })
	defer cutting.Wait()
	defer enough()
	err := s.fast.ShutdownWithContext(ctx)
	s.mu.Lock()
	for _, ln := range s.listeners {
		_ = ln.Close() // the library does not know those that it is about to accept on
	}
	s.mu.Unlock()
	done := make(chan struct{})
	go func() {
		s.work.Wait()
		close(done)
	}()
	select {
	case <-done:
		return err
	case <-ctx.Done():
		return errors.Join(err, ctx.Err())
	}
}

// cut closes every connection when patient has passed.
func (s *Server) cut(patient context.Context) {
	<-patient.Done()
	if !errors.Is(patient.Err(), context.DeadlineExceeded) {
		return
	}
	if n := s.conns.closeAll(); n > 0 {
		s.deps.Log.Info().Str("component", "api").Int("connections", n).Msg("closed connections whose peers took too long while this coordinator stops")
	}
}

// enter runs fn in a goroutine that Shutdown waits for; false when it is too late.
func (s *Server) enter(fn func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.work.Go(fn)
	return true
}

// handle is the way of every request: route, key, permission, handler.
func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	start := time.Now()
	if ctx.ConnRequestNum() == 1 {
		s.conns.spoke(ctx.Conn())
	}
	c := &call{s: s, ctx: ctx, id: requestID(ctx), began: start}
	err := s.guard(c)
	if err != nil {
		ctx.Response.Reset()
		operation := "unknown"
		if c.route != nil {
			operation = c.route.operation
		}
		c.write(s.errorReply(operation, c.id, err))
	}
	if c.held { // counted when it is answered
		if c.close {
			ctx.Response.SetConnectionClose()
		}
		return
	}
	s.metrics.observe(c.route, ctx.Response.StatusCode(), time.Since(start))
	switch {
	case c.unread():
		c.linger()
	case c.close:
		ctx.Response.SetConnectionClose()
	}
}

// guard dispatches and turns a panic into an error: the library would let it
// end the process.
func (s *Server) guard(c *call) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = s.panicked(c.id, p)
		}
	}()
	return s.dispatch(c)
}

// panicked logs a recovered panic and returns what the caller is told.
func (s *Server) panicked(requestID string, p any) error {
	s.deps.Log.Error().Str("component", "api").Str("requestId", requestID).Str("error", fmt.Sprint(p)).
		Bytes("stack", debug.Stack()).Msg("handler panicked")
	return protocol.NewError(protocol.CodeInternal, hidden)
}

// hidden is all that a caller learns of a fault of ours.
const hidden = "Something went wrong on the server; its log has the cause under this request id"

func (s *Server) dispatch(c *call) error {
	if err := checkHeader(&c.ctx.Request.Header); err != nil {
		c.close = true
		return err
	}
	p, perr := parsePath(c.ctx.URI().PathOriginal())
	if perr != nil {
		return perr
	}
	route, args, allow := s.router.find(string(c.ctx.Method()), &p)
	c.route, c.args = route, args
	c.readRelay()
	c.readDialect()
	if route == nil || route.permission != open {
		if err := c.authenticate(); err != nil {
			return err
		}
	}
	switch {
	case route == nil && allow != "":
		return protocol.NewError(protocol.CodeMethodNotAllowed, "This path does not know that method").With("allow", allow)
	case route == nil:
		return protocol.NewError(protocol.CodeNotFound, "There is no such path; the API is described in docs/openapi.yaml")
	}
	if err := c.authorise(); err != nil {
		return err
	}
	if err := c.admit(); err != nil {
		return err
	}
	if err := c.readConsistency(); err != nil {
		return err
	}
	err := route.handle(c)
	if errors.Is(err, errElsewhere) {
		return c.relay()
	}
	return err
}

// requestID takes the caller's id when it is harmless, or makes one.
func requestID(ctx *fasthttp.RequestCtx) string {
	const maxRequestID = 64
	given := ctx.Request.Header.Peek(protocol.HeaderRequestID)
	if len(given) == 0 || len(given) > maxRequestID {
		return protocol.NewRequestID(time.Now()).String()
	}
	for _, b := range given {
		if (b < 'a' || b > 'z') && (b < 'A' || b > 'Z') && (b < '0' || b > '9') && b != '-' && b != '_' && b != '.' {
			return protocol.NewRequestID(time.Now()).String()
		}
	}
	return string(given)
}

// fastLog takes the library's own lines, which name connections and no content.
type fastLog struct{ log zerolog.Logger }

// Printf implements fasthttp.Logger.
func (l fastLog) Printf(format string, args ...any) {
	l.log.Debug().Str("component", "api").Msgf(format, args...)
}
