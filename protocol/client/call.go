package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"windlass/protocol"
	"windlass/protocol/retry"
)

// repeat says when a call may be sent again.
type repeat uint8

const (
	// repeatSafe: the call has the same effect however often it arrives.
	repeatSafe repeat = iota
	// repeatUnsent: only while it surely had no effect: never sent, or refused
	// by the rate limit.
	repeatUnsent
	// repeatNever: one pass round the addresses without waiting. The agent's
	// session decides when it comes back, because a lost poll must wait the
	// spread that the coordinator told.
	repeatNever
)

type request struct {
	method string
	path   string
	query  url.Values
	header http.Header
	body   []byte
	stream io.Reader // instead of body: sent once, or repeatedly if it is an io.Seeker
	size   int64     // of stream
	repeat repeat
}

// Bounds of what is read from an answer.
const (
	maxErrorBody  = 64 << 10 // an error document; a proxy's page is cut here
	maxRetryAfter = 30 * time.Second
	// maxDocument bounds a JSON answer: a page of 1000 jobs with inline outputs.
	maxDocument = 256 << 20
)

// do sends r round the addresses until one answers with success. The caller
// closes the body.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	for failures := 0; ; failures++ {
		resp, err := c.pass(ctx, r)
		if err == nil {
			return resp, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		wait, again := backoff(r, err, failures)
		if !again || failures+1 >= c.tries || r.rewind() != nil {
			return nil, unwrapAfter(err)
		}
		if retry.Sleep(ctx, wait) != nil {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			return nil, unwrapAfter(err)
		}
	}
}

// pass tries each address once and returns the last error. An answer that
// speaks for the cluster (anything but 502, 503, 504) ends the pass.
func (c *Client) pass(ctx context.Context, r request) (*http.Response, error) {
	var last error
	for _, addr := range c.candidates() {
		if last != nil && r.rewind() != nil {
			return nil, last
		}
		resp, err := c.send(ctx, addr, r)
		if err == nil {
			c.answered(addr)
			return resp, nil
		}
		last = err
		switch {
		case neverSent(err):
			c.unreachable(addr)
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			c.silent(addr)
		}
		if ctx.Err() != nil || !movesOn(r, err) {
			return nil, err
		}
	}
	return nil, last
}

// movesOn reports whether the next address may be asked at once after err.
func movesOn(r request, err error) bool {
	var e *protocol.Error
	if errors.As(err, &e) {
		return r.repeat != repeatUnsent && gatewayStatus(e.Status)
	}
	return r.repeat == repeatSafe || neverSent(err)
}

// backoff decides whether a whole failed pass is worth another, and after which wait.
func backoff(r request, err error, failures int) (time.Duration, bool) {
	if r.repeat == repeatNever {
		return 0, false
	}
	wait := retry.Backoff{}.Delay(failures)
	var e *protocol.Error
	if !errors.As(err, &e) {
		return wait, r.repeat == repeatSafe || neverSent(err)
	}
	var after *afterError
	if errors.As(err, &after) {
		if after.wait > maxRetryAfter {
			return 0, false
		}
		// Jitter on top: everybody was told the same second.
		wait += after.wait
	}
	if e.Status == http.StatusTooManyRequests {
		return wait, true
	}
	return wait, gatewayStatus(e.Status) && r.repeat == repeatSafe
}

func gatewayStatus(status int) bool {
	return status == http.StatusBadGateway || status == http.StatusServiceUnavailable || status == http.StatusGatewayTimeout
}

// neverSent reports whether the request surely reached nobody.
func neverSent(err error) bool {
	var op *net.OpError
	var dns *net.DNSError
	return errors.As(err, &dns) || (errors.As(err, &op) && op.Op == "dial")
}

func (r request) rewind() error {
	if r.stream == nil {
		return nil
	}
	s, ok := r.stream.(io.Seeker)
	if !ok {
		return errors.New("cannot send the body again: it was read already")
	}
	_, err := s.Seek(0, io.SeekStart)
	return err
}

// send makes one exchange with one address.
func (c *Client) send(ctx context.Context, addr string, r request) (*http.Response, error) {
	req, err := c.newRequest(ctx, addr, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrUnreachable, addr, plainCause(err))
	}
	if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNoContent {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(resp, addr)
}

func (c *Client) newRequest(ctx context.Context, addr string, r request) (*http.Request, error) {
	u := addr + r.path
	if len(r.query) > 0 {
		u += "?" + r.query.Encode()
	}
	var body io.Reader
	switch {
	case r.stream != nil:
		// NopCloser: a failed exchange must not close a file that is sent again.
		body = io.NopCloser(r.stream)
	case r.body != nil:
		body = bytes.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, r.method, u, body)
	if err != nil {
		return nil, fmt.Errorf("cannot make request: %w", err)
	}
	for k, v := range r.header {
		req.Header[k] = v
	}
	if r.stream != nil {
		req.ContentLength = r.size
		req.Header.Set("Content-Type", "application/octet-stream")
	} else if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	req.Header.Set("User-Agent", c.userAgent)
	return req, nil
}

// plainCause drops the method and URL that net/http repeats around an error.
func plainCause(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}

// afterError carries Retry-After beside the error that the caller sees.
type afterError struct {
	answer *protocol.Error
	wait   time.Duration
}

func (e *afterError) Error() string { return e.answer.Error() }

func (e *afterError) Unwrap() error { return e.answer }

func unwrapAfter(err error) error {
	var after *afterError
	if errors.As(err, &after) {
		return after.answer
	}
	return err
}

func readError(resp *http.Response, addr string) error {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	e := &protocol.Error{}
	if json.Unmarshal(body, e) != nil || e.Code == "" {
		e = &protocol.Error{Code: codeOfStatus(resp.StatusCode), Message: foreignMessage(resp, addr, body)}
	}
	e.Status = resp.StatusCode
	if e.RequestID == "" {
		e.RequestID = resp.Header.Get(protocol.HeaderRequestID)
	}
	if wait, ok := retryAfter(resp.Header.Get("Retry-After")); ok {
		return &afterError{answer: e, wait: wait}
	}
	return e
}

// foreignMessage describes an answer that no coordinator wrote: a proxy's page.
func foreignMessage(resp *http.Response, addr string, body []byte) string {
	const maxQuoted = 120 // a line of a terminal
	text := strings.Join(strings.Fields(string(body)), " ")
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "..."
	}
	if text == "" {
		return fmt.Sprintf("%s answered %s", addr, resp.Status)
	}
	return fmt.Sprintf("%s answered %s: %s", addr, resp.Status, text)
}

func codeOfStatus(status int) protocol.Code {
	switch status {
	case http.StatusUnauthorized:
		return protocol.CodeUnauthorized
	case http.StatusForbidden:
		return protocol.CodeAccessDenied
	case http.StatusNotFound:
		return protocol.CodeNotFound
	case http.StatusMethodNotAllowed:
		return protocol.CodeMethodNotAllowed
	case http.StatusConflict:
		return protocol.CodeConflict
	case http.StatusRequestEntityTooLarge:
		return protocol.CodeTooLarge
	case http.StatusUnprocessableEntity:
		return protocol.CodeValidation
	case http.StatusTooManyRequests:
		return protocol.CodeRateLimit
	case http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return protocol.CodeUnavailable
	default:
		if status < http.StatusInternalServerError {
			return protocol.CodeMalformed
		}
		return protocol.CodeInternal
	}
}

// retryAfter reads both forms of the header.
func retryAfter(value string) (time.Duration, bool) {
	if value == "" {
		return 0, false
	}
	if s, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(s) * time.Second, true
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	return max(0, time.Until(at)), true
}

// call sends in as JSON and decodes the answer into out; either may be nil.
func (c *Client) call(ctx context.Context, r request, in, out any) error {
	if in != nil {
		body, err := protocol.EncodeJSON(in)
		if err != nil {
			return fmt.Errorf("cannot encode request: %w", err)
		}
		r.body = body
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	return decode(resp, out)
}

func decode(resp *http.Response, out any) error {
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument))
	if err != nil {
		return fmt.Errorf("%w in full: %w", ErrUnreachable, err)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(body, out); err != nil {
		return fmt.Errorf("cannot read the answer of %s: %w; is this address a Windlass coordinator?", resp.Request.URL.Host, err)
	}
	return nil
}
