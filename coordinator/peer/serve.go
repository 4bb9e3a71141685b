package peer

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"windlass/protocol"
)

// maxMessage bounds a call's body and its answer; beyond it is a Stream. A batch
// of forwarded commands is a few megabytes at most.
const maxMessage = 32 << 20

const (
	typeJSON   = "application/json"
	typeBinary = "application/octet-stream"

	// headerRefused marks an answer that came before any handler: nothing happened.
	headerRefused = "Windlass-Refused"

	// headerSize is the size of a streamed body, where it is known.
	headerSize = "Content-Length"
)

// Request is one call as a handler sees it.
type Request struct {
	From  Identity // who the caller said it is
	Query url.Values
	Body  io.Reader // ends with an error when no byte comes for a while
	Size  int64     // of Body; -1 when the caller does not know it
}

// Decode reads the whole body into v: by UnmarshalBinary where v has it, else as
// JSON. The error is a *protocol.Error.
func (r *Request) Decode(v any) error {
	raw, err := readMessage(r.Body, r.Size)
	if err == nil {
		err = decode(raw, v)
	}
	if err != nil {
		return protocol.NewError(protocol.CodeMalformed, err.Error())
	}
	return nil
}

// Blob is a result that is streamed; Size is -1 when it is not known. The port
// closes it, when the caller leaves also in the middle of a Read.
type Blob struct {
	io.ReadCloser
	Size int64
}

// Handler answers a call. ctx ends when the caller gave up or the port closes.
// The result is sent by MarshalBinary where it has it, as it is when it is a
// Blob, else as JSON; nil sends nothing. A *protocol.Error reaches the caller as
// it is; any other error is logged here and INTERNAL there.
type Handler func(ctx context.Context, r *Request) (any, error)

type connKey struct{}

func (p *Port) newServer() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(p.serveHTTP),
		ReadHeaderTimeout: p.cfg.limits.stall,
		IdleTimeout:       idleServer,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          log.New(debugLog{p.cfg.Log}, "", 0),
		BaseContext:       func(net.Listener) context.Context { return p.base },
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		ConnState: p.count,
	}
}

// debugLog takes the library's own lines, which are about broken connections.
type debugLog struct{ log zerolog.Logger }

// Write implements io.Writer.
func (l debugLog) Write(b []byte) (int, error) {
	l.log.Debug().Str("source", "http").Msg(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// count makes Close wait for the server's goroutines, one for each connection.
func (p *Port) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		p.work.Add(1)
	case http.StateClosed, http.StateHijacked:
		p.work.Done()
	}
}

func (p *Port) serveHTTP(w http.ResponseWriter, r *http.Request) {
	c, _ := r.Context().Value(connKey{}).(*conn)
	name := strings.TrimPrefix(r.URL.Path, "/")
	m, known := p.methods[name] // not written after Serve
	switch {
	case c == nil || r.Method != http.MethodPost:
		refuse(w, "only calls of coordinators are served here")
		return
	case !known:
		refuse(w, fmt.Sprintf("it does not know %s: run versions that are neighbours", clip(name)))
		return
	case !m.open && c.to == "":
		refuse(w, fmt.Sprintf("%s must name the server that it is meant for", name))
		return
	case !m.open && (c.other.Cluster == "" || c.other.Cluster != p.cfg.Self().Cluster):
		refuse(w, fmt.Sprintf("%s is answered only inside one cluster: the caller is in %q, this coordinator in %q", name, c.other.Cluster, p.cfg.Self().Cluster))
		return
	}
	rc := http.NewResponseController(w)
	req := &Request{From: c.other, Query: r.URL.Query(), Body: &stallReader{r: r.Body, rc: rc, stall: p.cfg.limits.stall}, Size: r.ContentLength}
	result, err := p.guard(r.Context(), name, m.handle, req)
	if err != nil {
		p.sendError(r.Context(), w, name, err)
		return
	}
	if err := send(r.Context(), w, rc, result); err != nil {
		if r.Context().Err() == nil {
			p.cfg.Log.Warn().Str("method", name).Str("server", c.other.Server).Err(err).Msg("answer to a peer ended early")
		}
		panic(http.ErrAbortHandler) // the caller must not take what it has for the whole
	}
}

// guard turns a panic of a handler into an error.
func (p *Port) guard(ctx context.Context, name string, h Handler, r *Request) (result any, err error) {
	defer func() {
		if v := recover(); v != nil {
			p.cfg.Log.Error().Str("method", name).Str("error", fmt.Sprint(v)).Bytes("stack", debug.Stack()).Msg("peer handler panicked")
			result, err = nil, internal()
		}
	}()
	return h(ctx, r)
}

func internal() *protocol.Error {
	return protocol.NewError(protocol.CodeInternal, "Something went wrong on another coordinator; its log has the cause")
}

func (p *Port) sendError(ctx context.Context, w http.ResponseWriter, name string, err error) {
	var known *protocol.Error
	if !errors.As(err, &known) {
		if ctx.Err() != nil {
			panic(http.ErrAbortHandler) // we stop: no answer is the honest one
		}
		p.cfg.Log.Error().Str("method", name).Err(err).Msg("peer call failed")
		known = internal()
	}
	raw, err := json.Marshal(known)
	if err != nil {
		raw, _ = json.Marshal(internal()) // two strings always encode
	}
	w.Header().Set("Content-Type", typeJSON)
	w.WriteHeader(max(known.Code.HTTPStatus(), http.StatusBadRequest))
	_, _ = w.Write(raw) // a caller that left hears nothing
}

// refuse answers a call that no handler saw.
func refuse(w http.ResponseWriter, reason string) {
	w.Header().Set(headerRefused, "1")
	http.Error(w, reason, http.StatusMisdirectedRequest)
}

// send writes a result. An error means that the caller did not get all of it.
func send(ctx context.Context, w http.ResponseWriter, rc *http.ResponseController, result any) error {
	blob, ok := result.(Blob)
	if !ok {
		raw, kind, err := encode(result)
		if err != nil {
			return err
		}
		w.Header().Set("Content-Type", kind)
		w.Header().Set(headerSize, strconv.Itoa(len(raw)))
		if _, err := w.Write(raw); err != nil {
			return err
		}
		return rc.Flush()
	}
	w.Header().Set("Content-Type", typeBinary)
	if blob.Size >= 0 {
		w.Header().Set(headerSize, strconv.FormatInt(blob.Size, 10))
	}
	shut := sync.OnceValue(blob.Close)
	defer context.AfterFunc(ctx, func() { _ = shut() })() // its source may be slow, too
	err := rc.Flush()                                     // the caller learns that it was found before the first byte is read
	if err == nil {
		_, err = io.Copy(flusher{w, rc}, blob)
	}
	return errors.Join(err, shut())
}

// flusher sends every piece at once: a stream may pause for long.
type flusher struct {
	w  io.Writer
	rc *http.ResponseController
}

// Write implements io.Writer.
func (f flusher) Write(b []byte) (int, error) {
	n, err := f.w.Write(b)
	if err == nil {
		err = f.rc.Flush()
	}
	return n, err
}

// stallReader bounds the wait for each piece of a body, and for nothing else: a
// deadline that stayed would look like a caller that left.
type stallReader struct {
	r     io.Reader
	rc    *http.ResponseController
	stall time.Duration
}

// Read implements io.Reader.
func (s *stallReader) Read(b []byte) (int, error) {
	if err := s.rc.SetReadDeadline(time.Now().Add(s.stall)); err != nil {
		return 0, err
	}
	n, err := s.r.Read(b)
	if e := s.rc.SetReadDeadline(time.Time{}); err == nil && e != nil {
		err = e
	}
	return n, err
}

func encode(v any) (raw []byte, kind string, err error) {
	switch t := v.(type) {
	case nil:
		return nil, typeJSON, nil
	case encoding.BinaryMarshaler:
		raw, err = t.MarshalBinary()
		kind = typeBinary
	default:
		raw, err = json.Marshal(v)
		kind = typeJSON
	}
	if err != nil {
		return nil, "", fmt.Errorf("cannot encode message: %w", err)
	}
	return raw, kind, nil
}

func decode(raw []byte, v any) error {
	var err error
	if b, ok := v.(encoding.BinaryUnmarshaler); ok {
		err = b.UnmarshalBinary(raw)
	} else {
		err = json.Unmarshal(raw, v)
	}
	if err != nil {
		return fmt.Errorf("cannot decode message: %w", err)
	}
	return nil
}

// readMessage reads a whole body of at most maxMessage bytes. size is what was
// announced; it is believed only as a bound.
func readMessage(r io.Reader, size int64) ([]byte, error) {
	if size > maxMessage {
		return nil, fmt.Errorf("cannot read message: %d bytes are more than %d", size, maxMessage)
	}
	raw, err := io.ReadAll(io.LimitReader(r, maxMessage+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read message: %w", err)
	}
	if len(raw) > maxMessage {
		return nil, fmt.Errorf("cannot read message: it is longer than %d bytes", maxMessage)
	}
	return raw, nil
}
