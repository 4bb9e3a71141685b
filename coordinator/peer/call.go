package peer

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"windlass/protocol"
)

// errStalled is the cause of a transfer that was given up.
var errStalled = errors.New("no byte moved for too long")

// Call sends in to a method of another coordinator and decodes its answer into
// out. Both may be nil; a value that implements encoding.BinaryMarshaler or
// BinaryUnmarshaler travels in that form, others as JSON. ctx bounds all of it;
// when it ends, the handler's ctx ends. Errors are the other side's
// *protocol.Error as it was, or *Unreachable.
func (p *Port) Call(ctx context.Context, to Address, method string, in, out any) error {
	raw, kind, err := encode(in)
	if err != nil {
		return &Unreachable{To: to, Err: err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, sent, err := p.do(ctx, cancel, to, method, nil, bytes.NewReader(raw), int64(len(raw)), kind)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := readMessage(resp.Body, resp.ContentLength)
	if err == nil && out != nil {
		err = decode(answer, out)
	}
	if err != nil {
		return &Unreachable{To: to, Sent: sent, Err: cause(ctx, err)}
	}
	return nil
}

// Stream sends size bytes of body to a method (-1: as many as there are; nil:
// none) and returns what it streams back, and how much that is (-1: not
// known). There is no time limit beside ctx's, which holds until the returned
// reader is closed; a transfer over which no byte moves is given up. Errors are
// as those of Call, also while reading. body is not read after an error, nor
// after the reader was closed: both wait for a Read of it that is under way, so
// body must have an end of its own when its source hangs.
func (p *Port) Stream(ctx context.Context, to Address, method string, query url.Values, body io.Reader, size int64) (io.ReadCloser, int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	w := &watch{limit: p.cfg.limits.stall, give: func() { cancel(errStalled) }}
	up := &upload{r: body, watch: w}
	var send io.Reader = up
	if body == nil || size == 0 {
		send, size = http.NoBody, 0
	}
	w.arm()
	resp, sent, err := p.do(ctx, cancel, to, method, query, send, size, typeBinary)
	if err != nil {
		w.end()
		cancel(nil)
		up.end()
		return nil, 0, err
	}
	w.disarm()
	d := &download{body: resp.Body, watch: w, wrap: func(err error) error {
		return &Unreachable{To: to, Sent: sent, Err: cause(ctx, err)}
	}}
	d.close = func() error {
		w.end()
		err := resp.Body.Close()
		cancel(nil)
		up.end()
		return err
	}
	return d, resp.ContentLength, nil
}

// cause prefers why we stopped over how the library noticed.
func cause(ctx context.Context, err error) error {
	if c := context.Cause(ctx); c != nil {
		return c
	}
	return err
}

// do sends one request and returns the answer's head when it is a success.
func (p *Port) do(ctx context.Context, cancel context.CancelCauseFunc, to Address, method string, query url.Values, body io.Reader, size int64, kind string) (*http.Response, bool, error) {
	var sent atomic.Bool
	fail := func(err error) (*http.Response, bool, error) {
		return nil, false, &Unreachable{To: to, Sent: sent.Load(), Err: cause(ctx, err)}
	}
	stop := context.AfterFunc(p.base, func() { cancel(net.ErrClosed) })
	u := url.URL{Scheme: "http", Host: poolKey(to, p.cfg.Self().Cluster), Path: "/" + method, RawQuery: query.Encode()}
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { sent.Store(true) }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), http.MethodPost, u.String(), body)
	if err != nil {
		stop()
		return fail(err)
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", kind)
	resp, err := p.client.RoundTrip(req)
	if err != nil {
		stop()
		var u *Unreachable
		if errors.As(err, &u) && !sent.Load() {
			err = u.Err
		}
		return fail(err)
	}
	resp.Body = &released{ReadCloser: resp.Body, release: stop}
	if resp.StatusCode == http.StatusOK {
		return resp, true, nil
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := readMessage(resp.Body, resp.ContentLength)
	if err != nil {
		return fail(err)
	}
	if resp.Header.Get(headerRefused) != "" {
		sent.Store(false)
		return fail(&Refused{Status: StatusWrongCluster, Reason: strings.TrimSpace(string(raw))})
	}
	known := &protocol.Error{}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber() // the text of a number in details stays as it was
	if err := dec.Decode(known); err != nil || known.Code == "" {
		return fail(fmt.Errorf("it answered HTTP %d without an error document", resp.StatusCode))
	}
	return nil, true, known
}

// released lets go of the port's end of life when a response is done with.
type released struct {
	io.ReadCloser
	release func() bool
}

// Close implements io.Closer.
func (r *released) Close() error {
	r.release()
	return r.ReadCloser.Close()
}

func (p *Port) newClient() *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, _, key string) (net.Conn, error) {
			to, cluster, err := parseKey(key)
			if err != nil {
				return nil, err
			}
			if cluster != p.cfg.Self().Cluster {
				return nil, errors.New("this coordinator entered a cluster meanwhile")
			}
			if !p.begin() { // the library may dial on after the call that wanted it
				return nil, net.ErrClosed
			}
			defer p.work.Done()
			return p.Dial(ctx, KindRPC, to)
		},
		MaxIdleConnsPerHost:    maxIdle,
		IdleConnTimeout:        idleClient,
		DisableCompression:     true,
		MaxResponseHeaderBytes: maxHeader,
	}
}

// poolKey makes an address and our cluster one host name, which is what the
// library keeps connections by: one that was made before we entered a cluster
// speaks for nobody in it.
func poolKey(to Address, cluster string) string {
	return hex.EncodeToString([]byte(to.String() + "|" + cluster))
}

func parseKey(hostPort string) (Address, string, error) {
	host, _, _ := strings.Cut(hostPort, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return Address{}, "", err
	}
	text, cluster, _ := strings.Cut(string(raw), "|")
	to, err := ParseAddress(text)
	return to, cluster, err
}

// watch gives a transfer up when it waited for the other side for limit.
type watch struct {
	limit time.Duration
	give  func()

	mu    sync.Mutex
	timer *time.Timer
	ended bool
}

// arm starts the wait anew.
func (w *watch) arm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
	case w.timer == nil:
		w.timer = time.AfterFunc(w.limit, w.give)
	default:
		w.timer.Reset(w.limit)
	}
}

// disarm says that it is our turn.
func (w *watch) disarm() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) end() {
	w.disarm()
	w.mu.Lock()
	w.ended = true
	w.mu.Unlock()
}

// upload is a body on its way. The library may read it for a moment after the
// call has returned; end waits for that and forbids more.
type upload struct {
	watch *watch

	mu sync.Mutex
	r  io.Reader // nil after end
}

// Read implements io.Reader.
func (u *upload) Read(b []byte) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.r == nil {
		return 0, net.ErrClosed
	}
	u.watch.disarm() // while our own source is slow
	n, err := u.r.Read(b)
	u.watch.arm()
	return n, err
}

func (u *upload) end() {
	u.mu.Lock()
	u.r = nil
	u.mu.Unlock()
}

// download is the answer of a Stream.
type download struct {
	body  io.Reader
	watch *watch
	wrap  func(error) error
	close func() error
}

// Read implements io.Reader.
func (d *download) Read(b []byte) (int, error) {
	d.watch.arm()
	n, err := d.body.Read(b)
	d.watch.disarm()
	if err != nil && !errors.Is(err, io.EOF) {
		err = d.wrap(err)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error { return d.close() }
