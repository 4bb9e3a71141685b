package api

import (
	"encoding/json"
	"math"
	"testing"

	"windlass/protocol"
)

// TestCostIsOneNumber: what accrues, what is told at the end, and what the row
// says are one amount (acceptance 107, 138).
func TestCostIsOneNumber(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", `, "price": {"gpuSecond": 0.0004}`)
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	if doc := w.jobStatus(id, ""); doc.Execution != nil {
		t.Errorf("before it started: %+v", doc.Execution)
	}
	a.update(got, protocol.AttemptUpdate{StartedMs: 10_000, Progress: &protocol.Progress{Metrics: map[string]float64{"tokensProcessed": 125000, "apiCalls": 1247}}})
	x := w.jobStatus(id, "").Execution
	if x == nil || x.CostAccrued == nil || *x.CostAccrued < 4_000_000 || *x.CostAccrued > 8_000_000 || *x.TokensProcessed != 125000 || *x.APICalls != 1247 {
		t.Fatalf("while it runs: %+v", x)
	}
	a.finish(got, protocol.Finish{
		Outcome: protocol.OutcomeCompleted, RunMs: 870_500, Output: json.RawMessage(`{}`),
		Progress: &protocol.Progress{Metrics: map[string]float64{"documentsGenerated": 50, "itemsProcessed": 50, "tokensProcessed": 9}},
		Metrics:  json.RawMessage(`{"wordsGenerated":45000,"languages":["en"]}`),
	})
	answer := w.get("/v2/jobs/" + id.String() + "/status")
	var doc protocol.JobStatus
	answer.json(t, &doc)
	want := protocol.Money(348_200_000)
	if *doc.Execution.CostAccrued != want || w.store.Job(id).Cost != want || *doc.Execution.TokensProcessed != 9 {
		t.Errorf("at the end: %s", answer.body)
	}
	var raw struct {
		FinalMetrics json.RawMessage `json:"finalMetrics"`
	}
	answer.json(t, &raw)
	if got := string(raw.FinalMetrics); got != `{"averageLatency":17.41,"documentsGenerated":50,"itemsProcessed":50,"languages":["en"],"totalCost":0.3482,"wordsGenerated":45000}` {
		t.Errorf("finalMetrics %s", got)
	}
}

func TestWithoutAPriceNothingIsCharged(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	a.update(got, protocol.AttemptUpdate{StartedMs: 10})
	if x := w.jobStatus(id, "").Execution; x == nil || x.CostAccrued != nil || x.TokensProcessed != nil || x.APICalls != nil {
		t.Errorf("%+v", x)
	}
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 10, Output: json.RawMessage(`1`)})
	if doc := w.jobStatus(id, ""); doc.Execution.CostAccrued != nil || doc.FinalMetrics != nil {
		t.Errorf("%+v", doc)
	}
}

// TestCancelledRunShowsWhatItDid: nobody asks its agent any more.
func TestCancelledRunShowsWhatItDid(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", `, "price": {"gpuSecond": 1}`)
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	a.update(a.take(), protocol.AttemptUpdate{StartedMs: 5_000, Progress: &protocol.Progress{Percent: ptr(45.0), Step: "encoding"}})
	w.post("/v2/jobs/"+id.String()+"/cancel", "")
	doc := w.jobStatus(id, "")
	if doc.Status != protocol.StatusCancelled || doc.StartedAt.IsZero() || *doc.Progress != 45 || doc.CurrentStep != "encoding" ||
		*doc.ExecutionTime < 5 || *doc.Execution.CostAccrued != protocol.Money(math.Round(*doc.ExecutionTime*1e9)) {
		t.Errorf("%+v", doc)
	}
}

func TestColdStartAddsUp(t *testing.T) {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	a := w.agent()
	cold := func(c, d, m float64) *protocol.ColdStart {
		w.submit("ep", `{"input": {}}`)
		got := a.take()
		a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 10, Output: json.RawMessage(`1`), ColdStart: &protocol.ColdStart{
			Occurred: true, Duration: c + d + m, CacheHit: ptr(false), Phases: &protocol.ColdStartPhases{ContainerStart: c, DependencyLoad: d, ModelLoad: m},
		}})
		return w.jobStatus(got.Job, "").ColdStart
	}
	for _, c := range [][3]float64{{12.5, 4.6, 28.1}, {0.0004, 0.0004, 0.0004}, {0.1, 0.2, 0.3}, {1.0005, 2.0005, 3.0005}, {0.013847354, 0.000065748, 0.023430194}} {
		got := cold(c[0], c[1], c[2])
		ms := millis(got.Phases.ContainerStart) + millis(got.Phases.DependencyLoad) + millis(got.Phases.ModelLoad)
		if ms != millis(got.Duration) || float64(ms)/1000 != got.Duration {
			t.Errorf("%v adds up to %v: %+v", c, got.Duration, got.Phases)
		}
	}
	for want, c := range map[string][3]float64{
		"Optimize model size or use quantized versions":                            {12.5, 4.6, 28.1},
		"Load fewer dependencies before the model, or load them from a local disk": {1, 9, 2},
		"Use a smaller image or a program that starts faster":                      {9, 1, 2},
		"": {0.1, 0.1, 0.7},
	} {
		got := cold(c[0], c[1], c[2]).Suggestions
		switch {
		case want == "" && got != nil:
			t.Errorf("%v: %q", c, got)
		case want != "" && (len(got) != 2 || got[0] != "Consider using warm pools for frequently accessed models" || got[1] != want):
			t.Errorf("%v: %q", c, got)
		}
	}
	// With a warm pool there is nothing to suggest about one.
	w.endpoint("ep", `, "warm": {"min": 1}`)
	if got := cold(12.5, 4.6, 28.1).Suggestions; len(got) != 1 {
		t.Errorf("with a warm pool: %q", got)
	}
}
