package api

import (
	"strings"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

// tenant is an organisation of a test, with an endpoint and a job that has ended.
type tenant struct {
	w     *world
	org   string
	admin string // a key with every permission but cluster:admin
	job   protocol.JobID
}

// within returns every permission that an organisation gives its own people.
func within() []auth.Permission {
	var out []auth.Permission
	for _, p := range auth.Permissions() {
		if p != auth.ClusterAdmin {
			out = append(out, p)
		}
	}
	return out
}

// tenant makes an organisation, or takes the first one.
func (w *world) tenant(org, endpoint string) *tenant {
	w.t.Helper()
	if org != protocol.OrgDefault {
		if a := w.post("/v2/orgs", `{"id": "`+org+`"}`); a.status != 200 {
			w.t.Fatalf("%d %s", a.status, a.body)
		}
	}
	n := &tenant{w: w, org: org}
	n.admin = w.key(protocol.KeyRequest{Org: org, Permissions: within()}).Key
	if a := w.do("PUT", "/v2/endpoints/"+endpoint, `{"runtime": {"kind": "builtin", "handler": "echo"}}`, "Authorization", n.admin); a.status != 200 {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
	n.job = n.submit(endpoint)
	w.post("/v2/jobs/"+n.job.String()+"/cancel", "", "Authorization", n.admin)
	return n
}

func (n *tenant) submit(endpoint string) protocol.JobID {
	n.w.t.Helper()
	var out protocol.SubmitResponse
	a := n.w.post("/v2/endpoints/"+endpoint+"/runasync", `{"input": {}}`, "Authorization", n.admin)
	if a.json(n.w.t, &out); a.status != 200 {
		n.w.t.Fatalf("%d %s", a.status, a.body)
	}
	return out.JobID
}

// key makes a key with the bootstrap key.
func (w *world) key(req protocol.KeyRequest) protocol.Key {
	w.t.Helper()
	body, err := protocol.EncodeJSON(req)
	if err != nil {
		w.t.Fatal(err)
	}
	var out protocol.Key
	a := w.post("/v2/keys", string(body))
	if a.json(w.t, &out); a.status != 200 || out.Key == "" {
		w.t.Fatalf("%d %s", a.status, a.body)
	}
	return out
}

// fill names the given things in a route's pattern.
func fill(pattern string, things map[string]string) string {
	named := things[subjectOf(pattern)]
	return strings.NewReplacer("{endpointId}", things[subjectEndpoint], "{path...}", "x", "{id}", named, "{sha}", strings.Repeat("0", 64)).Replace(pattern)
}
