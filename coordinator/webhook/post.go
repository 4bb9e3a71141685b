package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/protocol/netguard"
)

const (
	// attemptTime bounds an attempt until the receiver's status (Standard Webhooks:
	// 15 to 30 s).
	attemptTime = 15 * time.Second

	// answerTime bounds the reading of an answer after its status has decided: who
	// answers a byte a second does not hold a place for it.
	answerTime = 2 * time.Second

	// maxAnswer is how much of an answer is read, so that the connection can be used
	// again. What is longer costs the connection.
	maxAnswer = 64 << 10

	// maxRetryAfter is the longest wait that a receiver may ask for.
	maxRetryAfter = time.Hour
)

// errOurs says that an attempt could not be made for a reason of ours: it does not
// count.
var errOurs = errors.New("the webhook cannot be sent at the moment")

// message is one attempt to be made.
type message struct {
	id      string
	url     string
	body    *Body
	secrets []state.WebhookSecret // that sign, oldest first
	at      time.Time
}

// outcome is how an attempt went.
type outcome struct {
	status     int    // of HTTP; 0: there was no answer
	err        string // why it is no success; empty after a 2xx
	answer     string // the begin of the receiver's answer
	retryAfter time.Duration
	latency    time.Duration
}

func (o *outcome) ok() bool { return o.err == "" }

// poster sends attempts.
type poster struct {
	client *http.Client
	blobs  blob.Store
	agent  string // User-Agent

	attempt, answer time.Duration // attemptTime and answerTime, unless a test has others
}

func newPoster(rule *netguard.Rule, blobs blob.Store, version string) *poster {
	agent := "Windlass"
	if version != "" {
		agent += "/" + version
	}
	return &poster{client: (&netguard.Guard{Rule: rule}).Client(), blobs: blobs, agent: agent, attempt: attemptTime, answer: answerTime}
}

// post makes an attempt. An error is errOurs, blob.ErrNotFound, or the context's; what
// the receiver does is an outcome.
func (p *poster) post(ctx context.Context, m *message) (outcome, error) {
	req, err := p.request(ctx, m)
	if err != nil {
		return outcome{}, err
	}
	began := time.Now()
	// The timer goes on for a moment after the status, for the answer.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	deadline := time.AfterFunc(p.attempt, func() { cancel(context.DeadlineExceeded) })
	defer deadline.Stop()
	resp, err := p.client.Do(req.WithContext(ctx))
	latency := time.Since(began)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.DeadlineExceeded) {
			return outcome{}, cause
		}
		if errors.Is(err, errOurs) {
			return outcome{}, err
		}
		return outcome{err: reason(err), latency: latency}, nil
	}
	defer resp.Body.Close()
	deadline.Reset(p.answer)
	o := outcome{status: resp.StatusCode, answer: readAnswer(resp.Body), latency: latency}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		o.err = fmt.Sprintf("the receiver answered %d", resp.StatusCode)
		if resp.StatusCode >= 300 && resp.StatusCode <= 399 {
			o.err += ", and redirects are not followed"
		}
		o.retryAfter = retryAfter(resp.Header.Get("Retry-After"), m.at)
	}
	return o, nil
}

// request signs the body and builds the request that sends the same bytes.
func (p *poster) request(ctx context.Context, m *message) (*http.Request, error) {
	sign := newSigner(m.id, m.at.Unix(), m.secrets)
	if err := p.sign(ctx, sign, m.body); err != nil {
		return nil, ours(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, m.url, nil)
	if err != nil {
		return nil, ours(err)
	}
	open := func() (io.ReadCloser, error) { return p.open(ctx, m.body) }
	if req.Body, err = open(); err != nil {
		return nil, ours(err)
	}
	req.GetBody, req.ContentLength = open, m.body.Size()
	sign.header(req.Header)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", p.agent)
	// Not sent, but it lets the transport repeat the request on a new connection when
	// a kept one was closed by the receiver just then. The id makes that safe.
	req.Header["Idempotency-Key"] = []string{}
	return req, nil
}

func (p *poster) sign(ctx context.Context, s *signer, b *Body) error {
	ctx, cancel := context.WithTimeout(ctx, attemptTime)
	defer cancel()
	body, err := p.open(ctx, b)
	if err != nil {
		return err
	}
	return errors.Join(s.read(body), body.Close())
}

// open wraps what goes wrong while a body is read, so that it can be told from what
// goes wrong while it is sent.
func (p *poster) open(ctx context.Context, b *Body) (io.ReadCloser, error) {
	r, err := b.Open(ctx, p.blobs)
	if err != nil {
		return nil, err
	}
	return &ownReader{r}, nil
}

type ownReader struct{ io.ReadCloser }

// Read implements io.Reader.
func (r *ownReader) Read(b []byte) (int, error) {
	n, err := r.ReadCloser.Read(b)
	if err != nil && err != io.EOF {
		err = ours(err)
	}
	return n, err
}

func ours(err error) error {
	if errors.Is(err, errOurs) {
		return err
	}
	return fmt.Errorf("%w: %w", errOurs, err)
}

// readAnswer returns the begin of an answer as text, and reads some more of it.
func readAnswer(r io.Reader) string {
	var head strings.Builder
	_, err := io.CopyN(&head, r, protocol.WebhookAnswer)
	if err == nil {
		_, _ = io.CopyN(io.Discard, r, maxAnswer-protocol.WebhookAnswer)
	}
	return clip(strings.ToValidUTF8(head.String(), "\uFFFD"), protocol.WebhookAnswer)
}

// clip cuts a text to at most n bytes, between characters.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// retryAfter reads the header in both its forms; 0 when it says nothing.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	d := time.Duration(0)
	if n, err := strconv.ParseUint(v, 10, 31); err == nil {
		d = time.Duration(n) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}

// reason is why an attempt had no answer, for the job's owner. It names no address:
// what a name resolves to inside is nobody's business outside.
func reason(err error) string {
	var denied *netguard.Denied
	var dns *net.DNSError
	var unknown *tls.CertificateVerificationError
	var alert tls.AlertError
	var header tls.RecordHeaderError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &denied):
		return clip("the receiver's address may not be reached: "+denied.Reason, protocol.WebhookError)
	case errors.As(err, &dns) && !dns.IsTimeout:
		return "the receiver's name cannot be resolved"
	case errors.As(err, &unknown):
		return "the receiver's certificate is not valid for its name, or nobody known signed it"
	case errors.As(err, &alert), errors.As(err, &header):
		return "the receiver speaks no TLS 1.2 or later"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled), errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("the receiver did not answer within %s", attemptTime)
	case errors.Is(err, syscall.ECONNREFUSED):
		return "the receiver refused the connection"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "the receiver cannot be reached"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "the receiver closed the connection without an answer"
	}
	return "the receiver did not answer as a web server"
}
