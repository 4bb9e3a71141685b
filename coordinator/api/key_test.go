package api

import (
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

func TestKeyRoutes(t *testing.T) {
	w := newWorld(t)
	made := w.key(protocol.KeyRequest{Name: "ci", Permissions: []auth.Permission{auth.KeysManage, auth.JobsRead, auth.JobsRead}})
	if made.Org != protocol.OrgDefault || made.Status != protocol.KeyActive || made.CreatedAt == 0 ||
		!slices.Equal(made.Permissions, []auth.Permission{auth.JobsRead, auth.KeysManage}) {
		t.Errorf("%+v", made)
	}
	as := func(key, method, path, body string) answer { return w.do(method, path, body, "Authorization", key) }
	var self protocol.Key
	as(made.Key, "GET", "/v2/keys/self", "").json(t, &self)
	if self.ID != made.ID || self.Key != "" {
		t.Errorf("who am I: %+v", self)
	}
	if w.get("/v2/keys/self").json(t, &self); self.ID != auth.BootstrapKeyID {
		t.Errorf("who am I: %+v", self)
	}
	for _, path := range []string{"/v2/keys", "/v2/keys/" + made.ID} {
		if a := w.get(path); a.status != 200 || !strings.Contains(string(a.body), made.ID) || strings.Contains(string(a.body), `"key":`) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	// Rotation: both texts open for a while.
	var turned protocol.Key
	as(made.Key, "POST", "/v2/keys/"+made.ID+"/rotate", `{"overlap": "1h"}`).json(t, &turned)
	if turned.ID != made.ID || turned.Key == made.Key || turned.Key == "" || turned.OverlapUntil.Sub(turned.RotatedAt) != time.Hour {
		t.Errorf("rotated: %+v", turned)
	}
	for _, key := range []string{made.Key, turned.Key} {
		if a := as(key, "GET", "/v2/jobs", ""); a.status != 200 {
			t.Errorf("in the overlap: %d", a.status)
		}
	}
	var last protocol.Key
	as(turned.Key, "POST", "/v2/keys/"+made.ID+"/rotate", `{"overlap": "0s"}`).json(t, &last)
	for key, want := range map[string]int{made.Key: 401, turned.Key: 401, last.Key: 200} {
		if a := as(key, "GET", "/v2/jobs", ""); a.status != want {
			t.Errorf("after a rotation without an overlap: %d, want %d", a.status, want)
		}
	}
	// Revocation is at once.
	if a := as(last.Key, "DELETE", "/v2/keys/"+made.ID, ""); a.status != 200 || !strings.Contains(string(a.body), `"revoked"`) {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := as(last.Key, "GET", "/v2/jobs", ""); a.status != 401 {
		t.Errorf("a revoked key: %d", a.status)
	}
	if a := w.post("/v2/keys/"+made.ID+"/rotate", ""); a.status != 409 {
		t.Errorf("a revoked key is rotated: %d", a.status)
	}
	for _, id := range []string{"key_none", auth.BootstrapKeyID, protocol.NewKeyID(time.Now()).String()} {
		if a := w.get("/v2/keys/" + id); a.status != 404 || a.fault(t).Code != protocol.CodeKeyNotFound {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, action := range []string{"key.create", "key.rotate", "key.revoke"} {
		if !strings.Contains(w.logged.String(), `"action":"`+action+`"`) {
			t.Errorf("%s is not in the audit log", action)
		}
	}
}

func TestKeyRequestsAreChecked(t *testing.T) {
	w := newWorld(t)
	for _, body := range []string{
		`{}`, `{"permissions": []}`, `{"permissions": ["jobs"]}`, `{"permissions": ["jobs:read"], "expiresAt": "2001-01-01T00:00:00Z"}`,
		`{"permissions": ["jobs:read"], "endpoints": ["a b"]}`, `{"permissions": ["jobs:read"], "name": "a\u0007b"}`,
		`{"permissions": ["jobs:read"], "scope": 1}`, `{"permissions": "jobs:read"}`, `{"permissions": ["jobs:read"], "permissions": ["jobs:write"]}`,
	} {
		if a := w.post("/v2/keys", body); a.status != 422 && a.status != 400 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	if a := w.post("/v2/keys", `{"org": "org_none", "permissions": ["jobs:read"]}`); a.status != 404 {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestKeysGrantNoMoreThanTheyHave is scope escalation (reliability S5).
func TestKeysGrantNoMoreThanTheyHave(t *testing.T) {
	w := newWorld(t)
	w.tenant("org_a", "ep_a")
	end := protocol.TimeOf(time.Now().Add(time.Hour))
	mine := w.key(protocol.KeyRequest{Org: "org_a", Permissions: []auth.Permission{auth.JobsRead, auth.KeysManage}, ExpiresAt: end})
	rich := w.key(protocol.KeyRequest{Org: "org_a", Permissions: within()})
	as := func(method, path, body string) answer { return w.do(method, path, body, "Authorization", mine.Key) }
	a := as("POST", "/v2/keys", `{"permissions": ["jobs:read", "jobs:write"]}`)
	if e := a.fault(t); a.status != 403 || e.Details["requiredPermission"] != "jobs:write" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, c := range [][2]string{{"POST", "/rotate"}, {"DELETE", ""}} {
		if a := as(c[0], "/v2/keys/"+rich.ID+c[1], ""); a.status != 403 {
			t.Errorf("%s of a key with more permissions: %d %s", c[0], a.status, a.body)
		}
	}
	for _, org := range []string{protocol.OrgDefault, "org_none"} {
		if a := as("POST", "/v2/keys", `{"org": "`+org+`", "permissions": ["jobs:read"]}`); a.status != 404 {
			t.Errorf("a key of another organisation: %d %s", a.status, a.body)
		}
		if a := as("GET", "/v2/keys?org="+org, ""); a.status != 404 {
			t.Errorf("keys of another organisation: %d %s", a.status, a.body)
		}
	}
	if a := as("POST", "/v2/keys", `{"permissions": ["jobs:read"], "expiresAt": "2999-01-01T00:00:00Z"}`); a.status != 422 {
		t.Errorf("a key that outlives its maker: %d %s", a.status, a.body)
	}
	var child protocol.Key
	if as("POST", "/v2/keys", `{"permissions": ["jobs:read"]}`).json(t, &child); child.ExpiresAt != end {
		t.Errorf("the key ends at %s, its maker at %s", child.ExpiresAt, end)
	}
}
