package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"windlass/protocol"
	"windlass/protocol/retry"
)

// streamSilence is how long a stream may say nothing before it counts as lost:
// three of the coordinator's 15 s comments.
const streamSilence = 45 * time.Second

// Watch follows a job's event stream: the current status first, then status,
// output and log events until the job has ended. A lost connection is taken up
// again where it broke. The sequence ends after the terminal status, or with
// one error.
func (c *Client) Watch(ctx context.Context, job protocol.JobID) iter.Seq2[protocol.Event, error] {
	return func(yield func(protocol.Event, error) bool) {
		w := watch{c: c, job: job}
		for {
			done, err := w.stream(ctx, yield)
			if done {
				return
			}
			if err = w.rest(ctx, err); err != nil {
				yield(protocol.Event{}, err)
				return
			}
		}
	}
}

type watch struct {
	c        *Client
	job      protocol.JobID
	last     string // id of the last event
	failures int    // since the last event
}

// stream reads one connection; done means that nothing more is to come, or
// that the consumer has left.
func (w *watch) stream(ctx context.Context, yield func(protocol.Event, error) bool) (done bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	header := http.Header{"Accept": {"text/event-stream"}}
	if w.last != "" {
		header.Set(protocol.HeaderLastEventID, w.last)
	}
	resp, err := w.c.do(ctx, request{method: http.MethodGet, path: jobPath(w.job) + "/status/stream", header: header})
	if err != nil {
		return false, finalError{err}
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNoContent {
		return true, nil
	}
	silence := time.AfterFunc(streamSilence, cancel)
	defer silence.Stop()
	events := protocol.NewEventReader(&aliveReader{r: resp.Body, alive: func() { silence.Reset(streamSilence) }})
	for {
		e, err := events.Next()
		if err != nil {
			return false, err
		}
		w.failures = 0
		if e.ID != "" {
			w.last = e.ID
		}
		if !yield(e, nil) || terminal(e) {
			return true, nil
		}
	}
}

// rest waits before the next connection; it returns the error that ends the watch.
func (w *watch) rest(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var final finalError
	if errors.As(err, &final) {
		return final.error
	}
	w.failures++
	if w.failures >= w.c.tries {
		return fmt.Errorf("%w: the event stream broke %d times in a row: %w", ErrUnreachable, w.failures, err)
	}
	return retry.Backoff{}.Wait(ctx, w.failures-1)
}

// finalError is one that do has already repeated as often as it is worth.
type finalError struct{ error }

func terminal(e protocol.Event) bool {
	if e.Type != protocol.EventStatus {
		return false
	}
	var s struct {
		Status protocol.Status `json:"status"`
	}
	return json.Unmarshal(e.Data, &s) == nil && s.Status.Terminal()
}

// aliveReader tells about every byte, comments included.
type aliveReader struct {
	r     io.Reader
	alive func()
}

func (a *aliveReader) Read(p []byte) (int, error) {
	n, err := a.r.Read(p)
	if n > 0 {
		a.alive()
	}
	return n, err
}
