package api

import (
	"testing"

	"windlass/protocol"
)

func TestOrganisationRoutes(t *testing.T) {
	w := newWorld(t)
	var o protocol.Org
	w.get("/v2/orgs/org_default").json(t, &o)
	if o.ID != protocol.OrgDefault || o.Weight != 1 || o.Revision != 1 {
		t.Errorf("the first organisation is %+v", o)
	}
	a := w.post("/v2/orgs", `{"id": "org_acme", "name": "Acme", "queueLimit": 5}`)
	if a.json(t, &o); a.status != 200 || o.Revision != 1 || o.QueueLimit != 5 || o.CreatedAt == 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.post("/v2/orgs", `{"id": "org_acme", "name": "Other"}`); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, body := range []string{`{"id": "acme"}`, `{"id": "org_b", "weight": 0}`, `{"id": "org_b", "color": 1}`, `{"id": "org_b", "name": "a\nb"}`} {
		if a := w.post("/v2/orgs", body); a.status != 422 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := w.do("PUT", "/v2/orgs/org_acme", `{"weight": 3, "revision": 7}`); a.status != 409 {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = w.do("PUT", "/v2/orgs/org_acme", `{"weight": 3, "revision": 1}`)
	if a.json(t, &o); a.status != 200 || o.Weight != 3 || o.Revision != 2 || o.QueueLimit != 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var page protocol.Page[protocol.Org]
	if w.get("/v2/orgs").json(t, &page); len(page.Data) != 2 || page.Data[0].ID != "org_acme" {
		t.Errorf("%+v", page)
	}
	if a := w.do("DELETE", "/v2/orgs/org_acme", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, method := range []string{"GET", "DELETE"} {
		if a := w.do(method, "/v2/orgs/org_acme", ""); a.status != 404 || a.fault(t).Code != protocol.CodeOrgNotFound {
			t.Errorf("%s: %d %s", method, a.status, a.body)
		}
	}
	if a := w.do("PUT", "/v2/orgs/org_none", `{}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
}
