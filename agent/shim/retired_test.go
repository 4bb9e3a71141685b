package shim

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/inference"
	"windlass/inference/fake"
	"windlass/protocol"
)

// wornInstance lost a slot to a job that ignored its cancel.
type wornInstance struct{ inference.Instance }

func (wornInstance) Retired() bool { return true }

func TestRetirementIsToldBeforeTheResult(t *testing.T) {
	inst, err := fake.New(fake.Config{}).Start(t.Context(), inference.Spec{Concurrency: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := newServer(dir, Spec{Journal: dir}, State{}, zerolog.Nop())
	s.ready(wornInstance{inst})
	job := inference.Job{ID: protocol.NewJobID(time.Now()).String(), Attempt: 1, Input: json.RawMessage("1")}
	s.invoke(message{Run: "run", Job: &job})
	s.wg.Wait()

	r := newRemote(nil, "", Spec{}, State{}, nil)
	var _ inference.Retirer = r
	for range 2 { // every connection is told
		c := &conn{cursors: make(map[string]Cursor), results: make(map[string]bool)}
		told, results := false, 0
		for batch, _ := s.collect(c); len(batch) > 0; batch, _ = s.collect(c) {
			for _, m := range batch {
				told = told || m.Type == msgRetired
				if m.Type == msgResult {
					results++
				}
				if m.Type == msgResult && !told {
					t.Error("a slot is free before the agent knows that the instance is retired")
				}
				r.handle(m)
			}
		}
		if !told || results != 1 {
			t.Errorf("told %t, %d results", told, results)
		}
	}
	if !r.Retired() {
		t.Error("the agent's side is not retired")
	}
	if err := inst.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
