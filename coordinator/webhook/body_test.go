package webhook

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"windlass/coordinator/command"
	"windlass/coordinator/output"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// text is the whole body of a job's webhook.
func (w *world) text(id protocol.JobID) string {
	w.t.Helper()
	body, err := NewBody(w.store.Job(id), secret)
	if err != nil {
		w.t.Fatal(err)
	}
	r, err := body.Open(w.t.Context(), w.blobs)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	if err != nil {
		w.t.Fatal(err)
	}
	if int64(len(b)) != body.Size() || !json.Valid(b) {
		w.t.Errorf("the body has %d bytes, announced %d: %s", len(b), body.Size(), b)
	}
	return string(b)
}

// TestGoldenBodies: the bytes are signed, and made again for each attempt, maybe by
// a later version: they never change for a row.
func TestGoldenBodies(t *testing.T) {
	w := newWorld(t)
	tags := func(s *command.Submit) {
		s.Tags = []*command.Tag{{Key: "projectId", Value: "proj_report_gen"}, {Key: "userId", Value: "user_12345 <&> \u2028\r\n"}}
	}
	end := `"timestamp":"2023-11-14T22:18:07.500Z","endpointId":"ep_echo","taskId":"`
	id := w.completed("https://example.com/hook", &command.Payload{Inline: []byte(`{ "pages": 50, "a":"<\u0041>" }`)})
	if got, want := w.text(id), `{"jobId":"`+id.String()+`","status":"completed","output":{ "pages": 50, "a":"<\u0041>" },"executionTime":287.5,`+
		`"completedAt":"2023-11-14T22:18:07.500Z","type":"job.completed",`+end+id.String()+`"}`; got != want {
		t.Errorf("completed:\n got %s\nwant %s", got, want)
	}
	id = w.completed("https://example.com/hook", nil, func(f *command.Finish) {
		f.Outcome, f.ErrorCode, f.ErrorMessage, f.ErrorDetails = "failed", "RESOURCE_EXHAUSTED", "it \"broke\"", []byte(`{"step":"video_encoding"}`)
		f.Partial, f.Retryable = []byte(`{"processedFrames":1}`), false
	})
	if got, want := w.text(id), `{"jobId":"`+id.String()+`","status":"failed","error":{"code":"RESOURCE_EXHAUSTED","message":"it \"broke\"",`+
		`"details":{"step":"video_encoding"}},"partialResults":{"processedFrames":1},"executionTime":287.5,`+
		`"failedAt":"2023-11-14T22:18:07.500Z","type":"job.failed",`+end+id.String()+`"}`; got != want {
		t.Errorf("failed:\n got %s\nwant %s", got, want)
	}
	id = w.submit("https://example.com/hook", tags)
	w.cancel(id)
	j := *w.store.Job(id)
	out := *j.Outcome
	out.EndedMs, j.Outcome, j.Cost = 1_700_000_000_000, &out, 750_000_000
	body, err := NewBody(&j, secret)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(body.head), `{"jobId":"`+id.String()+`","status":"cancelled","error":{"code":"CANCELLED","message":"The job was cancelled"},`+
		`"cancelledAt":"2023-11-14T22:13:20.000Z","cost":0.75,"tags":{"projectId":"proj_report_gen","userId":"user_12345 <&> \u2028\r\n"},`+
		`"type":"job.cancelled","timestamp":"2023-11-14T22:13:20.000Z","endpointId":"ep_echo","taskId":"`+id.String()+`"}`; got != want {
		t.Errorf("cancelled:\n got %s\nwant %s", got, want)
	}
}

var secret = output.Secret{7} //nolint:gochecknoglobals // a constant

// TestLargeOutputs: an output in the blob store is part of the body up to a bound,
// and a URL above it.
func TestLargeOutputs(t *testing.T) {
	w := newWorld(t)
	large := append(append([]byte{'"'}, bytes.Repeat([]byte("x"), maxOutput-2)...), '"')
	id := w.completed("https://example.com/hook", w.stored(large))
	if got := w.text(id); !strings.Contains(got, `"output":`+string(large)+`,"executionTime":287.5`) {
		t.Errorf("the output is not in the body of %d bytes", len(got))
	}
	id = w.completed("https://example.com/hook", w.stored(append(large, ' ')))
	url := output.URL(secret, "https://windlass.example.com", w.store.Job(id), output.Whole, 0)
	if got := w.text(id); !strings.Contains(got, `,"output":{"outputUrl":"`+url+`","size":"960KB","sizeBytes":983041,"format":"json"},"executionTime"`) {
		t.Errorf("the body is %.2000s", got)
	}
}

// TestFilesAreURLs: files are linked, by the same URLs as in a status.
func TestFilesAreURLs(t *testing.T) {
	w := newWorld(t)
	files := func(f *command.Finish) {
		f.Files = []*command.File{{Name: "report_abc123.pdf", Sha256: bytes.Repeat([]byte{1}, 32), Size: 2_516_582}}
	}
	id := w.completed("https://example.com/hook", &command.Payload{Inline: []byte(`{"pages":50}`)}, files)
	url := output.URL(secret, "https://windlass.example.com", w.store.Job(id), 0, 0)
	if got := w.text(id); !strings.Contains(got, `"output":{"pages":50,"outputUrl":"`+url+`","size":"2.4MB","sizeBytes":2516582,"format":"pdf","files":[`) {
		t.Errorf("the body is %.2000s", got)
	}
	id = w.completed("https://example.com/hook", nil, files, func(f *command.Finish) {
		f.Outcome, f.ErrorCode, f.Partial = "failed", "X", []byte(`{"processedFrames":1}`)
	})
	url = output.URL(secret, "https://windlass.example.com", w.store.Job(id), 0, 0)
	if got := w.text(id); !strings.Contains(got, `"partialResults":{"processedFrames":1,"outputFiles":["`+url+`"]}`) {
		t.Errorf("the body is %.2000s", got)
	}
}

// TestBadPartsAreLeftOut: what an agent sent that is no JSON does not spoil the whole.
func TestBadPartsAreLeftOut(t *testing.T) {
	w := newWorld(t)
	id := w.completed("https://example.com/hook", nil, func(f *command.Finish) {
		f.Outcome, f.ErrorCode, f.ErrorDetails, f.Partial = "failed", "X", []byte(`[1]`), []byte(`{"a"`)
	})
	if got := w.text(id); strings.Contains(got, "details") || strings.Contains(got, "partial") {
		t.Error(got)
	}
}

// TestSignatures verifies both as their specifications say, with two secrets.
func TestSignatures(t *testing.T) {
	older, newer := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	s := newSigner("msg_1", 1_700_000_000, []state.WebhookSecret{{Key: older}, {Key: newer}})
	body := []byte(`{"a":1}`)
	if err := s.read(bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	h := make(http.Header)
	s.header(h)
	sum := func(key []byte, text string) []byte {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(text))
		return m.Sum(nil)
	}
	standard := func(key []byte) string {
		return "v1," + base64.StdEncoding.EncodeToString(sum(key, "msg_1.1700000000."+string(body)))
	}
	for name, want := range map[string]string{
		"webhook-id": "msg_1", "webhook-timestamp": "1700000000", "webhook-signature": standard(newer) + " " + standard(older),
		// As in seed S0: the secret's text is the key. The older one signs until it has gone.
		"x-webhook-signature": "sha256=" + hex.EncodeToString(sum([]byte("whsec_"+base64.StdEncoding.EncodeToString(older)), string(body))),
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// TestStandardVector is the example of the Standard Webhooks specification's libraries.
func TestStandardVector(t *testing.T) {
	key, err := base64.StdEncoding.DecodeString("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, []state.WebhookSecret{{Key: key}})
	if err := s.read(strings.NewReader(`{"test": 2432232314}`)); err != nil {
		t.Fatal(err)
	}
	h := make(http.Header)
	s.header(h)
	if got, want := h.Get(protocol.HeaderWebhookSignature), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signed %s, want %s", got, want)
	}
}
