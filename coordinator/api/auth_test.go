package api

import (
	"bufio"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

// TestRoutesByPermission holds every route against keys of one permission each:
// one that has the route's permission passes, every other is refused, with what
// it lacks. The routes come from the table, so that none is forgotten.
func TestRoutesByPermission(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	for _, p := range auth.Permissions() {
		key := w.key(protocol.KeyRequest{Org: n.org, Permissions: []auth.Permission{p}})
		for _, r := range w.server.routes() {
			if r.operation == "deleteEndpoint" { // a live job keeps it there for the rest
				w.post("/v2/jobs/"+n.job.String()+"/retry", "", "Authorization", n.admin)
			} else if r.operation == "listJobs" { // and an ended one is not waited for
				w.post("/v2/jobs/"+n.job.String()+"/cancel", "", "Authorization", n.admin)
			}
			spare := w.key(protocol.KeyRequest{Org: n.org, Permissions: []auth.Permission{auth.AgentsManage}})
			path := fill(r.pattern, map[string]string{
				subjectJob: n.job.String(), subjectEndpoint: "ep", subjectOrg: n.org, subjectKey: spare.ID, subjectSecret: n.secret(),
			})
			a := w.do(r.method, path, "", "Authorization", "Bearer "+key.Key)
			if r.permission == open || r.permission == anyKey || r.permission == p {
				if a.status == 403 && a.fault(t).Details["requiredPermission"] == string(r.permission) || a.status == 401 {
					t.Errorf("%s %s with %s: %d %s", r.method, r.pattern, p, a.status, a.body)
				}
				continue
			}
			var e struct {
				Error   protocol.Code
				Details struct {
					JobID              string
					RequiredPermission auth.Permission
					UserPermissions    []auth.Permission
				}
			}
			a.json(t, &e)
			if a.status != 403 || e.Error != protocol.CodeAccessDenied || e.Details.RequiredPermission != r.permission ||
				!slices.Equal(e.Details.UserPermissions, []auth.Permission{p}) || (e.Details.JobID == n.job.String()) != (subjectOf(r.pattern) == subjectJob) {
				t.Errorf("%s %s with %s: %d %s", r.method, r.pattern, p, a.status, a.body)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !strings.Contains(w.logged.String(), `"action":"denied"`) {
		t.Error("refusals are not in the audit log")
	}
}

// TestDeniedIsOnlyAboutOnesOwn: who lacks a permission is told so about what
// exists in its organisation, and about nothing else.
func TestDeniedIsOnlyAboutOnesOwn(t *testing.T) {
	w := newWorld(t)
	a, b := w.tenant("org_a", "ep_a"), w.tenant("org_b", "ep_b")
	poor := w.key(protocol.KeyRequest{Org: "org_a", Permissions: []auth.Permission{auth.AgentsManage}}).Key
	for path, want := range map[string]int{
		"/v2/jobs/" + a.job.String() + "/status": 403, "/v2/jobs/" + b.job.String() + "/status": 404, "/v2/jobs/job_none/status": 404,
		"/v2/endpoints/ep_a": 403, "/v2/endpoints/ep_b": 404, "/v2/orgs/org_a": 403, "/v2/orgs/org_b": 404, "/v2/jobs": 403,
	} {
		if got := w.get(path, "Authorization", poor); got.status != want {
			t.Errorf("%s: %d %s, want %d", path, got.status, got.body, want)
		}
	}
	got := w.get("/v2/jobs/"+a.job.String()+"/status", "Authorization", poor)
	if e := got.fault(t); e.Message != "You don't have permission to view this job" || e.Details["requiredPermission"] != "jobs:read" {
		t.Errorf("%s", got.body)
	}
}

// TestBoundKeys: other endpoints, and their jobs, read like unknown ones.
func TestBoundKeys(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep_a")
	w.do("PUT", "/v2/endpoints/ep_b", `{"runtime": {"kind": "builtin"}}`, "Authorization", n.admin)
	other := n.submit("ep_b")
	bound := w.key(protocol.KeyRequest{Org: "org_a", Permissions: within(), Endpoints: []string{"ep_a"}})
	as := func(method, path, body string) answer { return w.do(method, path, body, "Authorization", bound.Key) }
	if a := as("GET", "/v2/jobs/"+n.job.String()+"/status", ""); a.status != 200 {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, c := range [][3]string{
		{"GET", "/v2/jobs/" + other.String() + "/status"}, {"POST", "/v2/jobs/" + other.String() + "/cancel"},
		{"GET", "/v2/jobs/" + other.String() + "/explain"}, {"GET", "/v2/jobs/" + other.String() + "/status/stream"},
		{"GET", "/v2/endpoints/ep_b"}, {"DELETE", "/v2/endpoints/ep_b"}, {"PUT", "/v2/endpoints/ep_b", `{"runtime": {"kind": "builtin"}}`},
		{"POST", "/v2/endpoints", `{"id": "ep_new", "runtime": {"kind": "builtin"}}`}, {"POST", "/v2/endpoints/ep_b/runasync", `{"input": {}}`},
	} {
		if a := as(c[0], c[1], c[2]); a.status != 404 {
			t.Errorf("%s %s: %d %s", c[0], c[1], a.status, a.body)
		}
	}
	var jobs protocol.Page[protocol.JobStatus]
	if as("GET", "/v2/jobs", "").json(t, &jobs); len(jobs.Data) != 1 || jobs.Data[0].JobID != n.job {
		t.Errorf("the list shows %+v", jobs.Data)
	}
	var endpoints protocol.Page[protocol.Endpoint]
	if as("GET", "/v2/endpoints", "").json(t, &endpoints); len(endpoints.Data) != 1 {
		t.Errorf("the list shows %+v", endpoints.Data)
	}
	batch := as("POST", "/v2/jobs/status/batch", `{"jobIds": ["`+n.job.String()+`", "`+other.String()+`"]}`)
	var states protocol.BatchStatusResponse
	if batch.json(t, &states); len(states.Jobs) != 1 || len(states.Errors) != 1 {
		t.Errorf("%s", batch.body)
	}
	// What it makes is bound, too, and it sees no key that is not.
	var made protocol.Key
	as("POST", "/v2/keys", `{"permissions": ["jobs:read"]}`).json(t, &made)
	if !slices.Equal(made.Endpoints, []string{"ep_a"}) {
		t.Errorf("the key is bound to %v", made.Endpoints)
	}
	if a := as("POST", "/v2/keys", `{"permissions": ["jobs:read"], "endpoints": ["ep_b"]}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var keys protocol.Page[protocol.Key]
	if as("GET", "/v2/keys", "").json(t, &keys); len(keys.Data) != 2 {
		t.Errorf("%d keys are listed", len(keys.Data))
	}
}

// TestAStreamEndsWithItsKey: a reader whose key was revoked is told nothing more.
func TestAStreamEndsWithItsKey(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	id := n.submit("ep")
	key := w.key(protocol.KeyRequest{Org: "org_a", Permissions: []auth.Permission{auth.JobsRead}})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://windlass.test/v2/jobs/"+id.String()+"/status/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", key.Key)
	resp, err := w.http.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data:") {
	}
	w.do("DELETE", "/v2/keys/"+key.ID, "")
	w.post("/v2/jobs/"+id.String()+"/cancel", "", "Authorization", n.admin)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "cancelled") {
			t.Errorf("the stream goes on: %s", lines.Text())
		}
	}
}

// TestNoKeyInLogsAndErrors: neither a key nor what it is hashed to is repeated.
func TestNoKeyInLogsAndErrors(t *testing.T) {
	w := newWorld(t)
	n := w.tenant("org_a", "ep")
	wrong := n.admin[:len(n.admin)-1] + "x"
	for _, key := range []string{n.admin, wrong, testKey + "x"} {
		for _, path := range []string{"/v2/jobs", "/v2/none", "/v2/jobs?key=" + key, "/v2/cluster"} {
			a := w.get(path, "Authorization", "Bearer "+key)
			if strings.Contains(string(a.body), key) {
				t.Errorf("%s: the answer repeats the key: %s", path, a.body)
			}
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, secret := range []string{n.admin, wrong, testKey, "?key="} {
		if strings.Contains(w.logged.String(), secret) {
			t.Error("the log repeats a key")
		}
	}
	for line := range strings.Lines(w.logged.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("a log line is no JSON: %s", line)
		}
	}
}
