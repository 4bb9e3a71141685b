package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

// events opens a stream and returns a function for its next event.
func (w *world) events(id protocol.JobID, last string) (*http.Response, func() (protocol.Event, error)) {
	w.t.Helper()
	req, err := http.NewRequest("GET", "http://windlass.test/v2/jobs/"+id.String()+"/status/stream", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", testKey)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	resp, err := w.http.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { resp.Body.Close() })
	r := protocol.NewEventReader(resp.Body)
	return resp, r.Next
}

func mustNext(t *testing.T, next func() (protocol.Event, error)) protocol.Event {
	t.Helper()
	e, err := next()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func statusOf(t *testing.T, e protocol.Event) protocol.JobStatus {
	t.Helper()
	var doc protocol.JobStatus
	if e.Type != protocol.EventStatus || json.Unmarshal(e.Data, &doc) != nil || (e.ID != "" && e.ID != doc.Revision) {
		t.Fatalf("not a status frame: %+v %s", e, e.Data)
	}
	return doc
}

// rest reads a stream to its end: the chunks' text, the number of log lines and
// the last event.
func rest(t *testing.T, next func() (protocol.Event, error)) (text string, lines int, last protocol.Event) {
	t.Helper()
	for {
		e, err := next()
		if err != nil {
			return text, lines, last
		}
		last = e
		switch e.Type {
		case protocol.EventOutput:
			var out protocol.OutputEvent
			var chunk string
			if json.Unmarshal(e.Data, &out) != nil || json.Unmarshal(out.Chunk, &chunk) != nil || out.Restart {
				t.Errorf("%s", e.Data)
			}
			text += chunk
		case protocol.EventLog:
			lines++
		}
	}
}

func TestStreamToTheEnd(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	resp, next := w.events(id, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	if doc := statusOf(t, mustNext(t, next)); doc.Status != protocol.StatusQueued {
		t.Errorf("first frame: %+v", doc)
	}
	a := w.agent()
	got := a.take()
	a.update(got, protocol.AttemptUpdate{StartedMs: 1, Progress: &protocol.Progress{Percent: ptr(10.0)},
		Chunks: []json.RawMessage{json.RawMessage(`"Once"`), json.RawMessage(`" upon"`)},
		Logs:   []protocol.LogLine{{Time: 1, Source: "stderr", Line: "hello"}}})
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"n":1}`), RunMs: 5,
		Chunks: json.RawMessage(`["Once"," upon"," a time"]`),
		Logs:   json.RawMessage(`[{"time":"2024-01-01T00:00:00.000Z","source":"stderr","line":"hello"},{"time":"2024-01-01T00:00:00.000Z","source":"stderr","line":"bye"}]`)})
	text, lines, last := rest(t, next)
	doc := statusOf(t, last)
	if doc.Status != protocol.StatusCompleted || string(doc.Output) != `{"n":1}` || text != "Once upon a time" || lines != 2 {
		t.Errorf("last %+v, text %q, %d lines", doc, text, lines)
	}
	if resp, _ := w.events(id, last.ID); resp.StatusCode != 204 {
		t.Errorf("reconnect past the end: %d", resp.StatusCode)
	}
	for _, old := range []string{"1.0.0", "rubbish", ""} {
		resp, next := w.events(id, old)
		text, lines, last := rest(t, next)
		if doc := statusOf(t, last); resp.StatusCode != 200 || doc.Status != protocol.StatusCompleted || text != "Once upon a time" || lines != 2 {
			t.Errorf("reconnect from %q: %d %+v, text %q, %d lines", old, resp.StatusCode, doc, text, lines)
		}
	}
	waitFor(t, func() bool { return w.board.Stats().Streams == 0 })
}

func TestStreamResumesWithoutAHole(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	send := func(from uint64, text string) {
		a.update(got, protocol.AttemptUpdate{StartedMs: 1, ChunkFrom: from, Chunks: []json.RawMessage{json.RawMessage(text)}})
	}
	send(0, `"zero"`)
	resp, next := w.events(id, "")
	var at string
	for at == "" {
		at = mustNext(t, next).ID
	}
	resp.Body.Close()
	send(1, `"one"`)
	send(1, `"one"`) // sent twice by an agent that missed the answer
	_, next = w.events(id, at)
	for {
		e := mustNext(t, next)
		if e.Type == protocol.EventOutput {
			var out protocol.OutputEvent
			if json.Unmarshal(e.Data, &out) != nil || out.Seq != 1 || string(out.Chunk) != `"one"` {
				t.Errorf("%s", e.Data)
			}
			break
		}
	}
}

// The end of the job comes between the break of a stream and its next request.
func TestStreamResumesBehindTheEnd(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	a.update(got, protocol.AttemptUpdate{StartedMs: 1, Chunks: []json.RawMessage{json.RawMessage(`"zero"`)}})
	resp, next := w.events(id, "")
	var at string
	for at == "" {
		at = mustNext(t, next).ID
	}
	resp.Body.Close()
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`1`), RunMs: 1, Chunks: json.RawMessage(`["zero"," one"]`)})
	_, next = w.events(id, at)
	if text, _, last := rest(t, next); !strings.HasSuffix(text, " one") || statusOf(t, last).Status != protocol.StatusCompleted {
		t.Errorf("text %q, last %s", text, last.Data)
	}
}

func TestStreamCoalesces(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	a.update(got, protocol.AttemptUpdate{StartedMs: 1})
	f := &follower{s: w.server, job: id}
	start := time.Now()
	if out, _, _ := f.step(nil, start); len(out) == 0 {
		t.Fatal("no first frame")
	}
	a.update(got, protocol.AttemptUpdate{Progress: &protocol.Progress{Percent: ptr(5.0)}})
	out, wait, _ := f.step(nil, start.Add(100*time.Millisecond))
	if len(out) != 0 || wait != frameGap-100*time.Millisecond {
		t.Errorf("%d bytes, wait %v", len(out), wait)
	}
	if out, wait, _ = f.step(nil, start.Add(frameGap)); len(out) == 0 || wait != 0 {
		t.Errorf("%d bytes, wait %v", len(out), wait)
	}
	if out, wait, done := f.step(nil, start.Add(time.Hour)); len(out) != 0 || wait != 0 || done {
		t.Errorf("a frame without a change: %d bytes", len(out))
	}
}

func TestStreamsOfGoneReadersEnd(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	for range 20 {
		resp, next := w.events(id, "")
		mustNext(t, next)
		resp.Body.Close()
	}
	got := a.take()
	for i := range 3 {
		a.update(got, protocol.AttemptUpdate{StartedMs: 1, LogFrom: uint64(i), Logs: []protocol.LogLine{{Line: "x"}}})
	}
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`1`), RunMs: 1})
	waitFor(t, func() bool { return w.board.Stats().Streams == 0 && w.board.Stats().Attempts == 0 })
}
