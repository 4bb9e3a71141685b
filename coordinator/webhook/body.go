package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"

	"windlass/coordinator/blob"
	"windlass/coordinator/output"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// maxOutput is the largest output that a webhook carries itself (seed S3: the full
// result); a larger one, and one with files, is shown as a status shows it. With everything else the body stays below 1 MiB, which is what common
// servers take unless they are told otherwise.
const maxOutput = 960 << 10

// Body is what a webhook says: JSON, the same bytes every time that it is made
// from one row. A large output is between head and tail and is read from the blob
// store when it is sent, so that a body costs no memory of its size.
type Body struct {
	head, tail []byte
	output     state.Payload
}

// NewBody returns the body that tells how the run of an ended job ended: seed S0's
// fields in S0's order, then those of Standard Webhooks. It depends on nothing but
// the row, which does not change until the job is run again, and the cluster's
// secret, which never does: the URLs of files are signed as a status shows them.
func NewBody(row *state.Job, secret output.Secret) (*Body, error) {
	out := row.Outcome
	view := output.View{Secret: secret, Base: row.Extra.CallbackBase, NowMs: out.EndedMs, Inline: maxOutput}
	w := jsonWriter{b: make([]byte, 0, 512)}
	w.value("jobId", row.ID)
	w.value("status", row.Status)
	body := &Body{}
	if row.Status == protocol.StatusCompleted {
		switch ref := out.Output.Ref; {
		case ref != nil && ref.Size <= maxOutput && len(out.Files) == 0:
			w.name("output")
			body.output = out.Output
			body.head, w.b = w.b, nil
		default:
			if shown := view.Document(row); len(shown) > 0 {
				w.raw("output", shown)
			}
		}
	} else {
		w.failure(out, view.Partial(row))
	}
	if out.StartedMs > 0 {
		w.raw("executionTime", strconv.AppendFloat(nil, float64(max(out.EndedMs-out.StartedMs, 0))/1000, 'f', -1, 64))
	}
	w.value(endName(row.Status), protocol.Time(out.EndedMs))
	if row.Cost > 0 {
		w.value("cost", row.Cost)
	}
	if tags := row.Extra.Tags; len(tags) > 0 {
		m := make(map[string]string, len(tags))
		for _, t := range tags {
			m[t.Key] = t.Value
		}
		w.value("tags", m) // encoded in the order of the keys
	}
	w.value("type", eventType(row.Status))
	w.value("timestamp", protocol.Time(out.EndedMs))
	w.value("endpointId", row.Target)
	w.value("taskId", row.ID)
	w.b = append(w.b, '}')
	if w.err != nil {
		return nil, fmt.Errorf("cannot write the webhook of job %s: %w", row.ID, w.err)
	}
	if body.head == nil {
		body.head = w.b
	} else {
		body.tail = w.b
	}
	return body, nil
}

func eventType(s protocol.Status) string {
	switch s {
	case protocol.StatusCompleted:
		return protocol.WebhookCompleted
	case protocol.StatusCancelled:
		return protocol.WebhookCancelled
	case protocol.StatusTimeout:
		return protocol.WebhookTimeout
	}
	return protocol.WebhookFailed
}

// endName is what a status calls the time of that end (seed S2).
func endName(s protocol.Status) string {
	switch s {
	case protocol.StatusCompleted:
		return "completedAt"
	case protocol.StatusCancelled:
		return "cancelledAt"
	case protocol.StatusTimeout:
		return "timedOutAt"
	}
	return "failedAt"
}

// Size is the length of the body in bytes.
func (b *Body) Size() int64 {
	n := int64(len(b.head) + len(b.tail))
	if b.output.Ref != nil {
		n += b.output.Ref.Size
	}
	return n
}

// Open returns a reader of the body, which must be closed. Errors are those of the
// blob store; the reader of a damaged output ends with one before its end.
func (b *Body) Open(ctx context.Context, blobs blob.Store) (io.ReadCloser, error) {
	if b.output.Ref == nil {
		return io.NopCloser(bytes.NewReader(b.head)), nil
	}
	output, size, err := blobs.Get(ctx, b.output.Ref.SHA256)
	if err != nil {
		return nil, err
	}
	if size != b.output.Ref.Size {
		_ = output.Close()
		return nil, blob.ErrCorrupt
	}
	return struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(b.head), output, bytes.NewReader(b.tail)), output}, nil
}

// jsonWriter appends the members of one object; after an error it goes on and
// what it wrote is worthless.
type jsonWriter struct {
	b     []byte
	begun bool
	err   error
}

func (w *jsonWriter) name(name string) {
	sep := byte(',')
	if !w.begun {
		sep, w.begun = '{', true
	}
	w.b = append(append(append(w.b, sep, '"'), name...), '"', ':')
}

func (w *jsonWriter) value(name string, v any) {
	w.name(name)
	text, err := protocol.EncodeJSON(v)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.b = append(w.b, text...)
}

func (w *jsonWriter) raw(name string, value []byte) {
	w.name(name)
	w.b = append(w.b, value...)
}

// failure is the error object of seed S2, and what there is of a result. What the
// agent sent is JSON, or it is left out: a part must not spoil the whole.
func (w *jsonWriter) failure(out *state.Outcome, partial json.RawMessage) {
	if out.ErrCode != "" {
		e := protocol.JobError{Code: out.ErrCode, Message: out.ErrMessage}
		if json.Unmarshal(out.ErrDetails, &e.Details) != nil {
			e.Details = nil
		}
		w.value("error", &e)
	}
	if len(partial) > 0 && json.Valid(partial) {
		w.raw("partialResults", partial)
	}
}
