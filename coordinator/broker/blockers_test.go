package broker

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"windlass/protocol"
)

// blocked requires that a job waits with so many jobs ahead, and for one reason
// besides these.
func (w *world) blocked(id protocol.JobID, ahead int, why protocol.BlockerCode) protocol.Explain {
	w.t.Helper()
	x := w.broker.Explain(w.job(id))
	var codes []protocol.BlockerCode
	for _, b := range x.Blocking {
		if b.Code != protocol.BlockedBehindQueue {
			codes = append(codes, b.Code)
		}
		if b.Message == "" || b.Owner == "" || !slices.Contains(x.Reasons, b.Message) {
			w.t.Errorf("%+v in %q", b, x.Reasons)
		}
	}
	if x.Ahead != ahead || !slices.Equal(codes, []protocol.BlockerCode{why}) || x.Summary == "" {
		w.t.Fatalf("%d ahead, want %d; %v, want %v; %q", x.Ahead, ahead, codes, why, x.Summary)
	}
	w.t.Logf("%s %+v", x.Summary, x.Blocking)
	return x
}

func TestExplainCountsAgents(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint, Pool: "a"})
		id := w.submit(protocol.PriorityNormal)
		if x := w.blocked(id, 0, protocol.BlockedNoAgent); !x.Never || *x.Agents != (protocol.AgentFunnel{}) {
			t.Errorf("without agents: %+v", x)
		}
		far, _ := w.agent(plain())
		w.parked(far.sync(1))
		if x := w.blocked(id, 0, protocol.BlockedPool); !x.Never || *x.Agents != (protocol.AgentFunnel{Connected: 1}) {
			t.Errorf("with one of another pool: %+v", x)
		}
		near, _ := w.agent(protocol.AgentFacts{Kinds: []string{"command"}, Pool: "a", Slots: 1})
		first := w.assigned(near.sync(1))
		if first.Job != id {
			t.Fatalf("%s was assigned", first.Job)
		}
		next := w.submit(protocol.PriorityNormal)
		w.parked(near.sync(0, first))
		x := w.broker.Explain(w.job(next))
		if x.Never || *x.Agents != (protocol.AgentFunnel{Connected: 2, Suitable: 1}) || len(x.Blocking) != 2 {
			t.Fatalf("with a busy one: %+v", x)
		}
		if busy := x.Blocking[1]; busy.Code != protocol.BlockedSlotsBusy || busy.Count != 1 || len(busy.Agents) != 1 {
			t.Errorf("%+v", busy)
		}
		if !strings.Contains(x.Summary, "Next in the queue") {
			t.Errorf("%q", x.Summary)
		}
	})
}

// TestExplainOfANewJob: the place that it would have is the one that it gets.
func TestExplainOfANewJob(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		for _, p := range []protocol.Priority{
			protocol.PriorityLow, protocol.PriorityHigh, protocol.PriorityNormal, protocol.PriorityCritical, protocol.PriorityNormal,
		} {
			before := w.broker.ExplainNew(protocol.OrgDefault, testEndpoint, p)
			x := w.broker.Explain(w.job(w.submit(p)))
			if before.Position != x.Position || before.Ahead != x.Ahead || before.Summary != x.Summary {
				t.Errorf("%v: %+v would be, %+v is", p, before, x)
			}
			sum := 0
			for name, n := range x.AheadBy {
				var ahead protocol.Priority
				if err := ahead.UnmarshalText([]byte(name)); err != nil || ahead > p {
					t.Errorf("%d of %s go before one of %v", n, name, p)
				}
				sum += n
			}
			if sum != x.Ahead {
				t.Errorf("%d ahead are %v", x.Ahead, x.AheadBy)
			}
		}
	})
}

func TestExplainOfAPausedJob(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		w.parked(a.sync(0))
		id := w.submit(protocol.PriorityNormal)
		synctest.Wait()
		job := *w.job(id)
		job.Status = protocol.StatusPaused
		x := w.broker.Explain(&job)
		if len(x.Blocking) != 1 || x.Blocking[0].Code != protocol.BlockedJobPaused || x.Blocking[0].Fix == "" {
			t.Errorf("%+v", x)
		}
	})
}

// TestExplainNamesFewAgents: a large fleet does not make a large answer.
func TestExplainNamesFewAgents(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint, Pool: "a"})
		id := w.submit(protocol.PriorityNormal)
		for range shownAgents + 5 {
			a, _ := w.agent(plain())
			w.parked(a.send(context.Background(), a.request(1)))
		}
		x := w.blocked(id, 0, protocol.BlockedPool)
		if b := x.Blocking[0]; b.Count != shownAgents+5 || len(b.Agents) != shownAgents {
			t.Errorf("%d counted, %d named", b.Count, len(b.Agents))
		}
	})
}
