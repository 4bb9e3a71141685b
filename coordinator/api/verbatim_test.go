package api

import (
	"encoding/json"
	"testing"

	"windlass/protocol"
)

// markup has what encoding/json escapes for HTML pages unless told otherwise.
const markup = `{"html":"<a href=\"x\">&"}`

func TestPayloadsKeepTheirBytes(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": { "html" : "<a href=\"x\">&" }, "tags": {"a": "<&>"}}`)
	a := w.agent()
	got := a.take()
	if string(got.Input) != markup {
		t.Errorf("the agent was sent %s", got.Input)
	}
	raw := json.RawMessage(markup)
	a.update(got, protocol.AttemptUpdate{StartedMs: 1, Progress: &protocol.Progress{Metadata: raw, Step: "<step>"}, Chunks: []json.RawMessage{raw}})
	_, next := w.events(id, "")
	for e := mustNext(t, next); e.Type != protocol.EventOutput; e = mustNext(t, next) {
	}
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: raw, RunMs: 1,
		Progress: &protocol.Progress{Metadata: raw}, Chunks: json.RawMessage("[" + markup + "," + markup + "]")})
	outputs, terminal := 1, protocol.Event{}
	for {
		e, err := next()
		if err != nil {
			break
		}
		terminal = e
		if e.Type == protocol.EventOutput {
			outputs++
			var out protocol.OutputEvent
			if json.Unmarshal(e.Data, &out) != nil || string(out.Chunk) != markup {
				t.Errorf("chunk %s", e.Data)
			}
		}
	}
	if doc := statusOf(t, terminal); outputs != 2 || string(doc.Output) != markup || string(doc.Metadata) != markup {
		t.Errorf("%d outputs, terminal frame %s", outputs, terminal.Data)
	}
	if doc := w.jobStatus(id, ""); string(doc.Output) != markup || string(doc.Metadata) != markup {
		t.Errorf("output %s, metadata %s", doc.Output, doc.Metadata)
	}
	if a := w.get("/v2/jobs/" + id.String() + "/output"); string(a.body) != markup {
		t.Errorf("/output is %s", a.body)
	}
}
