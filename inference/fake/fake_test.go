package fake_test

import (
	"encoding/json"
	"testing"
	"time"

	"windlass/inference"
	"windlass/inference/fake"
	"windlass/inference/runtimetest"
	"windlass/protocol"
)

func script(job inference.Job) []fake.Step {
	progress := inference.Event{Type: inference.EventProgress, Progress: &protocol.Progress{Percent: new(50.0)}}
	switch string(job.Input) {
	case `"long"`:
		return []fake.Step{{Event: progress}, {Wait: time.Hour}}
	case `"progress"`:
		return []fake.Step{{Event: progress}, {Output: json.RawMessage("1")}}
	case `"chunks"`:
		return []fake.Step{{Event: inference.Event{Type: inference.EventChunk, Chunk: json.RawMessage("1")}}}
	case `"log"`:
		return []fake.Step{{Event: inference.Event{Type: inference.EventLog, Source: "stdout", Line: "windlass"}}}
	case `"fail"`:
		return []fake.Step{{Fail: &inference.Failure{Code: "CUSTOM_CODE", Retryable: true}}}
	case `"crash"`:
		return []fake.Step{{Crash: true}}
	}
	return []fake.Step{{Output: job.Input}}
}

func starts(_ int, spec inference.Spec) []fake.Step {
	if spec.Endpoint == "broken" {
		return []fake.Step{{Fail: &inference.Failure{Code: protocol.CodeRuntimeStart, Message: "no such model"}}}
	}
	return []fake.Step{{Event: inference.Event{Type: inference.EventPhase, Phase: inference.PhaseModelLoad, Seconds: 1}}}
}

func TestConformance(t *testing.T) {
	text := func(s string) json.RawMessage { return json.RawMessage(`"` + s + `"`) }
	runtimetest.Run(t, runtimetest.Config{
		New:    func() inference.Runtime { return fake.New(fake.Config{Start: starts, Job: script}) },
		Spec:   func(*testing.T) inference.Spec { return inference.Spec{Endpoint: "works"} },
		Broken: func(*testing.T) inference.Spec { return inference.Spec{Endpoint: "broken"} },
		Quick:  text("quick"), Long: text("long"), Progress: text("progress"), Chunks: text("chunks"),
		Log: text("log"), Fail: text("fail"), Crash: text("crash"), Slots: 3, CancelWarm: true,
	})
}
