package api

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

const pricedEndpoint = `{"kind": "Endpoint", "id": "ep_priced", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true},
	"price": {"gpuSecond": 0.5}, "policy": {"executionTimeout": "10s"}}`

// TestCredits: a submit keeps back what the job may cost, and says what is
// missing (DESIGN 4).
func TestCredits(t *testing.T) {
	w := newWorld(t)
	w.write(t.Context(), &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: command.FeatureAPI}}})
	w.do("PUT", "/v2/endpoints/ep_priced", pricedEndpoint)
	if a := w.do("PUT", "/v2/orgs/org_default", `{"name": "Default", "weight": 1, "credits": {"enabled": true}}`); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	submit := func() answer { return w.post("/v2/endpoints/ep_priced/runasync", `{"input": {}}`) }
	a := submit()
	e := a.fault(t)
	if a.status != 402 || e.Code != protocol.CodeCredits || e.Details["balance"] != 0.0 || e.Details["required"] != 5.0 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for range 2 { // one grant, repeated
		if a := w.post("/v2/orgs/org_default/credits", `{"amount": 7.5}`, "Idempotency-Key", "invoice-1"); a.status != 200 {
			t.Fatalf("%d %s", a.status, a.body)
		}
	}
	if a := submit(); a.status != 200 {
		t.Fatalf("%d %s", a.status, a.body)
	}
	var org protocol.Org
	w.get("/v2/orgs/org_default").json(t, &org)
	if org.Credits.Balance != 7_500_000_000 || org.Credits.Reserved != 5_000_000_000 {
		t.Errorf("%+v", org.Credits)
	}
	if e := submit().fault(t); e.Details["balance"] != 2.5 {
		t.Errorf("%+v", e)
	}
	for _, bad := range []string{`{}`, `{"amount": "x"}`, `{"amount": 1e30}`, `{"amont": 1}`} {
		if a := w.post("/v2/orgs/org_default/credits", bad); a.status != 422 && a.status != 400 {
			t.Errorf("%s: %d %s", bad, a.status, a.body)
		}
	}
	if a := w.post("/v2/orgs/org_nobody/credits", `{"amount": 1}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
