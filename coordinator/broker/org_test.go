package broker

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const otherTenant = "org_other"

// tenantEndpoint makes an endpoint of another organisation with the usual id.
func (w *world) tenantEndpoint() {
	w.t.Helper()
	doc, err := json.Marshal(protocol.Endpoint{Kind: protocol.EndpointKind, ID: testEndpoint, Runtime: protocol.RuntimeSpec{Kind: "command"}})
	if err != nil {
		w.t.Fatal(err)
	}
	put := &command.PutEndpoint{Org: otherTenant, Id: testEndpoint, Doc: doc}
	if r := w.do(&command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: put}}); r[0].Code != "" {
		w.t.Fatalf("cannot put endpoint: %+v", r[0])
	}
}

func (w *world) submitFor(org string) protocol.JobID {
	w.t.Helper()
	s := newSubmit(protocol.PriorityNormal)
	s.Org = org
	r, err := w.broker.Submit(context.Background(), s)
	if err != nil || r.Code != "" {
		w.t.Fatalf("cannot submit: %+v %v", r, err)
	}
	return r.Job
}

// tenantAgent registers an agent with a key of another organisation.
func (w *world) tenantAgent(held ...protocol.HeldAttempt) *testAgent {
	w.t.Helper()
	<-time.After(time.Millisecond)
	a := &testAgent{w: w, id: protocol.NewAgentID(time.Now()), inc: protocol.NewIncarnation(time.Now())}
	r, err := w.broker.Register(context.Background(), protocol.RegisterRequest{Agent: a.id, Name: "agent", Incarnation: a.inc, Held: held, Facts: plain(), Org: otherTenant})
	if err != nil || len(r.Current)+len(r.Adopted) > 0 {
		w.t.Fatalf("%+v %v", r, err)
	}
	return a
}

func (a *testAgent) syncAs(org string, free int, held ...protocol.HeldAttempt) <-chan syncResult {
	req := a.request(free, held...)
	req.Org = org
	return a.send(context.Background(), req)
}

func TestAgentsServe(t *testing.T) {
	for _, c := range []struct {
		of    string
		allow []string
		org   string
		want  bool
	}{
		{protocol.OrgDefault, nil, protocol.OrgDefault, true}, {protocol.OrgDefault, nil, "org_a", true},
		{protocol.OrgDefault, []string{"org_a"}, "org_a", true}, {protocol.OrgDefault, []string{"org_a"}, "org_b", false},
		{"org_a", nil, "org_a", true}, {"org_a", nil, "org_b", false}, {"org_a", []string{"org_b"}, "org_b", false},
		{"org_a", nil, protocol.OrgDefault, false}, {"org_a", []string{"org_b"}, "org_a", false},
	} {
		a := &state.Agent{Org: c.of, Facts: protocol.AgentFacts{Orgs: c.allow}}
		if serves(a, c.org) != c.want {
			t.Errorf("an agent of %s that allows %v serves %s: %t", c.of, c.allow, c.org, !c.want)
		}
	}
}

// TestAgentsOfAnOrganisationGetItsJobs: two organisations have an endpoint of the
// same name.
func TestAgentsOfAnOrganisationGetItsJobs(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		w.tenantEndpoint()
		a := w.tenantAgent()
		ch := a.syncAs(otherTenant, 2)
		w.submit(protocol.PriorityNormal)
		w.parked(ch)
		job := w.submitFor(otherTenant)
		if got := w.assigned(ch); got.Job != job {
			t.Fatalf("assigned %s, want %s", got.Job, job)
		}
		// Its own credential opens an agent, and no other does.
		if r := <-a.sync(1); protocol.CodeOf(r.err) != protocol.CodeUnknownAgent {
			t.Fatalf("another organisation's sync was answered %+v", r)
		}
		if _, err := a.report(1, nil); protocol.CodeOf(err) != protocol.CodeUnknownAgent {
			t.Fatalf("another organisation's report was answered %v", err)
		}
	})
}

// TestDocumentsOfTwoOrganisationsAreApart: what an agent knows of an endpoint is
// not taken for another organisation's of the same name, and neither is what it
// has warm.
func TestDocumentsOfTwoOrganisationsAreApart(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		w.tenantEndpoint()
		first, _ := w.agent(plain())
		req := first.request(1)
		req.Endpoints = map[string]uint64{testEndpoint: 1}
		ch := first.send(context.Background(), req)
		w.submitFor(otherTenant)
		r := w.answered(ch)
		if len(r.Assign) != 1 || len(r.Endpoints) != 1 || r.Endpoints[0].Org != otherTenant {
			t.Fatalf("handed out %+v with documents %+v", r.Assign, r.Endpoints)
		}
		warm, _ := w.agent(plain())
		req = warm.request(1)
		req.Warm = []protocol.WarmInstance{{Endpoint: protocol.EndpointName(otherTenant, testEndpoint), Revision: 1, Free: 1}}
		ch = warm.send(context.Background(), req)
		job := w.submit(protocol.PriorityNormal)
		w.assigned(ch)
		if reason := w.job(job).Lease.Reason; reason == "warm" {
			t.Errorf("the job of another organisation was leased because of %q", reason)
		}
	})
}

// TestNobodyAdoptsTheJobOfOthers: a run that was given back is continued by an
// agent that serves its organisation, and whoever else says that it has it learns
// what it would learn of a job that never was.
func TestNobodyAdoptsTheJobOfOthers(t *testing.T) {
	run(t, func(w *world) {
		w.endpoint(protocol.Endpoint{ID: testEndpoint})
		a, _ := w.agent(plain())
		ch := a.sync(1)
		job := w.submit(protocol.PriorityNormal)
		h := w.assigned(ch)
		a.register(plain()) // without the attempt: it is given back
		if !w.job(job).Adoptable {
			t.Fatal("the run was not given back")
		}
		<-time.After(time.Hour) // the id is old enough to be unknown
		none := protocol.HeldAttempt{Job: protocol.NewJobID(time.Now().Add(-time.Hour)), Attempt: h.Attempt}
		b := w.tenantAgent(h, none)
		r := w.answered(b.syncAs(otherTenant, 1, h, none))
		if len(r.Assign) != 0 || !slices.Equal(reasons(r.Stop), []protocol.StopReason{protocol.StopStale, protocol.StopStale}) {
			t.Errorf("answered %+v", r)
		}
		if !w.job(job).Adoptable {
			t.Error("the run was taken")
		}
	})
}

func reasons(stops []protocol.StopAttempt) []protocol.StopReason {
	var out []protocol.StopReason
	for _, s := range stops {
		out = append(out, s.Reason)
	}
	return out
}
