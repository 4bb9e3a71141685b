package shim

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

func TestPayloadsKeepTheirBytes(t *testing.T) {
	const markup = `{"html":"<a href=\"x\">&"}`
	line, err := encode(message{Type: msgInvoke, Job: &inference.Job{Input: json.RawMessage(markup)}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := newReader(bytes.NewReader(line)).next()
	if err != nil || string(m.Job.Input) != markup {
		t.Errorf("the shim reads %s, %v", line, err)
	}
	r := &Record{}
	now := time.Unix(1, 0)
	for _, e := range []inference.Event{
		{Type: inference.EventChunk, Chunk: json.RawMessage(markup)},
		{Type: inference.EventLog, Line: markup},
	} {
		if err := r.Apply(e, now); err != nil {
			t.Fatal(err)
		}
	}
	k := Key{Job: protocol.NewJobID(now), Attempt: 1}
	f := protocol.Finish{Job: k.Job, Attempt: k.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(markup)}
	r.Complete(&f, now)
	dir := t.TempDir()
	if err := WriteEntry(dir, Entry{Finish: f}); err != nil {
		t.Fatal(err)
	}
	e, err := ReadEntry(dir, k)
	if err != nil {
		t.Fatal(err)
	}
	if string(e.Finish.Output) != markup || string(e.Finish.Chunks) != "["+markup+"]" || bytes.Contains(e.Finish.Logs, []byte(`\u003c`)) {
		t.Errorf("journaled output %s, chunks %s, logs %s", e.Finish.Output, e.Finish.Chunks, e.Finish.Logs)
	}
}
