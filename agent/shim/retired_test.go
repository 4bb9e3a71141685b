package shim

import (
	"context"
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
	s := newServer(t.TempDir(), Spec{}, State{}, zerolog.Nop())
	s.inst = wornInstance{inst}
	job := inference.Job{ID: protocol.NewJobID(time.Now()).String(), Attempt: 1}
	s.runs["run"] = &shimRun{id: "run", record: &Record{}, job: job, ended: true}

	r := newRemote(nil, "", Spec{}, State{}, nil)
	var _ inference.Retirer = r
	for range 2 { // every connection is told
		c := &conn{cursors: make(map[string]Cursor), results: make(map[string]bool)}
		batch, _ := s.collect(c)
		told := false
		for _, m := range batch {
			told = told || m.Type == msgRetired
			if m.Type == msgResult && !told {
				t.Error("a slot is free before the agent knows that the instance is retired")
			}
			r.handle(m)
		}
		if again, _ := s.collect(c); !told || len(again) != 0 {
			t.Errorf("told %t, then %d more messages", told, len(again))
		}
	}
	if !r.Retired() {
		t.Error("the agent's side is not retired")
	}
	if err := inst.Stop(context.Background()); err != nil {
		t.Error(err)
	}
}
