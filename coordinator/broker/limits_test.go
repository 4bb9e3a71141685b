package broker

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/synctest"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// organisation creates or changes an organisation with an endpoint of its own.
func (w *world) organisation(id string, weight, maxRunning uint32) {
	w.t.Helper()
	doc, err := json.Marshal(protocol.Endpoint{Kind: protocol.EndpointKind, ID: testEndpoint, Runtime: protocol.RuntimeSpec{Kind: "command"}})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range []*command.Command{
		{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureAPI}}},
		{Op: &command.Command_PutOrg{PutOrg: &command.PutOrg{Id: id, Weight: weight, MaxRunning: maxRunning, Create: w.store.View().Org(id) == nil}}},
		{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{Org: id, Id: testEndpoint, Doc: doc}}},
	} {
		if r := w.do(c); r[0].Code != "" {
			w.t.Fatalf("%T: %+v", c.GetOp(), r[0])
		}
	}
}

// TestOrganisationsAreServedByWeight: two organisations at 3:1 with a thousand
// jobs each are served within 5% of that while both wait.
func TestOrganisationsAreServedByWeight(t *testing.T) {
	run(t, func(w *world) {
		w.organisation("org_large", 3, 0)
		w.organisation("org_small", 1, 0)
		const each = 1000
		for range each {
			w.submitFor("org_small")
			w.submitFor("org_large")
		}
		a, _ := w.agent(protocol.AgentFacts{Kinds: []string{"command"}, Slots: 1})
		served := map[string]int{}
		var held []protocol.HeldAttempt
		for served["org_large"] < each && served["org_small"] < each {
			got := w.assigned(a.sync(1, held...))
			served[w.job(got.Job).Org]++
			a.finish(1, completed(got))
		}
		ratio := float64(served["org_large"]) / float64(served["org_small"])
		if math.Abs(ratio-3) > 3*0.05 {
			t.Errorf("served %v, a ratio of %.3f", served, ratio)
		}
	})
}

// TestMaxRunningOfAnOrganisation: its jobs wait and say why, others go on, and a
// raised limit lets them run at once.
func TestMaxRunningOfAnOrganisation(t *testing.T) {
	run(t, func(w *world) {
		w.organisation("org_held", 1, 1)
		w.organisation("org_other", 1, 0)
		first := w.submitFor("org_held")
		a, _ := w.agent(protocol.AgentFacts{Kinds: []string{"command"}, Slots: 4})
		got := w.assigned(a.sync(4))
		if got.Job != first {
			t.Fatalf("%s was assigned first", got.Job)
		}
		waiting := w.submitFor("org_held")
		other := w.submitFor("org_other")
		next := w.assigned(a.sync(3, got))
		if next.Job != other {
			t.Fatalf("%s was assigned beside the first", next.Job)
		}
		x := w.broker.Explain(w.job(waiting))
		if !strings.Contains(strings.Join(x.Reasons, "; "), "organisation is at its maxRunning") {
			t.Errorf("%+v", x)
		}
		parked := a.sync(2, got, next)
		w.parked(parked)
		w.organisation("org_held", 1, 2)
		synctest.Wait()
		if last := w.assigned(parked); last.Job != waiting {
			t.Errorf("%s was assigned after the limit was raised", last.Job)
		}
	})
}
