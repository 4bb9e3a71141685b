//go:build conformance

package conformance

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"
)

// seconds is the time between two fields.
func seconds(t *testing.T, a answer, from, to string) float64 {
	t.Helper()
	begin, err := time.Parse(time.RFC3339Nano, a.text(t, from))
	if err != nil {
		t.Fatal(err)
	}
	end, err := time.Parse(time.RFC3339Nano, a.text(t, to))
	if err != nil {
		t.Fatal(err)
	}
	return end.Sub(begin).Seconds()
}

// refused fails unless the answer has this status and code.
func (a answer) refused(t *testing.T, status int, code string) answer {
	t.Helper()
	if a.status != status || a.doc["error"] != code {
		t.Fatalf("%d %s, want %d %s", a.status, a.raw, status, code)
	}
	return a.has(t, "message", "details")
}

// refusals is d.11.
func refusals() []item {
	return []item{
		{"201-203 422 with field, value and reason", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_checked", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true},
				"input": {"schema": {"type": "object", "properties": {"pages": {"type": "integer", "minimum": 1}}}}}`)
			a := w.submit(t, "ep_checked", `{"input": {"pages": -5}}`).refused(t, http.StatusUnprocessableEntity, "VALIDATION_ERROR")
			a.want(t, "message", "Invalid input parameters").want(t, "details.field", "input.pages").want(t, "details.value", -5)
			a.text(t, "details.reason")
		}},
		{"204-207 429 QUEUE_FULL", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_full", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "maxRunning": 1, "queueLimit": 1}`)
			blocker := w.job(t, "ep_full", `{"sleep": 60}`)
			w.until(t, blocker, "", func(a answer) bool { return a.doc["status"] == "running" })
			waiting := w.job(t, "ep_full", `{}`)
			a := w.submit(t, "ep_full", `{"input": {}}`).refused(t, http.StatusTooManyRequests, "QUEUE_FULL")
			a.want(t, "details.queueSize", 1).has(t, "details.retryAfter", "details.limit")
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			for _, job := range []string{waiting, blocker} {
				w.do(t, "POST", "/v2/jobs/"+job+"/cancel", "").ok(t)
			}
		}},
		{"213-216 404 JOB_NOT_FOUND", func(t *testing.T, w *world) {
			a := w.get(t, "/v2/jobs/job_invalid/status").refused(t, http.StatusNotFound, "JOB_NOT_FOUND")
			a.want(t, "message", "Job job_invalid does not exist or has expired").want(t, "details.jobId", "job_invalid").
				want(t, "details.possibleReasons", []string{"Job ID is incorrect", "Job was deleted after completion", "Job expired (older than 30 days)"})
		}},
		{"217-221 403 ACCESS_DENIED", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{}`)
			key := w.newKey(t, "endpoints:execute")
			a := w.get(t, "/v2/jobs/"+job+"/status", header("Authorization", "Bearer "+key)).refused(t, http.StatusForbidden, "ACCESS_DENIED")
			a.want(t, "details.jobId", job).want(t, "details.requiredPermission", "jobs:read").want(t, "details.userPermissions", []string{"endpoints:execute"})
			w.submit(t, "ep_echo", `{"input": {}}`, header("Authorization", "Bearer "+key)).ok(t)
		}},
		{"222-227 429 RATE_LIMIT_EXCEEDED at 100 status checks a minute", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{}`)
			key := header("Authorization", "Bearer "+w.newKey(t, "jobs:read"))
			for n := 0; ; n++ {
				a := w.get(t, "/v2/jobs/"+job+"/status", key)
				if a.status == http.StatusOK && n < 150 {
					continue
				}
				if n < 100 {
					t.Errorf("refused after %d checks", n)
				}
				a.refused(t, http.StatusTooManyRequests, "RATE_LIMIT_EXCEEDED").want(t, "details.limit", 100).want(t, "details.window", "1m").
					has(t, "details.retryAfter").want(t, "details.recommendation", "Use webhooks or SSE for real-time updates")
				if a.header.Get("Retry-After") == "" || a.header.Get("RateLimit") == "" {
					t.Errorf("headers: %v", a.header)
				}
				return
			}
		}},
		{"229 402 without credits", func(t *testing.T, w *world) {
			key := w.newOrg(t, "org_poor", `{"id": "org_poor", "credits": {"enabled": true}}`)
			w.do(t, "PUT", "/v2/endpoints/ep_paid", `{"kind": "Endpoint", "id": "ep_paid", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "price": {"gpuSecond": 1}}`, key).ok(t)
			a := w.submit(t, "ep_paid", `{"input": {}}`, key).refused(t, http.StatusPaymentRequired, "INSUFFICIENT_CREDITS")
			a.has(t, "details.balance", "details.required")
		}},
		{"228 230-232 the queue limit of an organisation, and raising it", func(t *testing.T, w *world) {
			w.get(t, "/v2/orgs/org_default").ok(t)
			key := w.newOrg(t, "org_small", `{"id": "org_small", "queueLimit": 1}`)
			w.do(t, "PUT", "/v2/endpoints/ep_wait", `{"kind": "Endpoint", "id": "ep_wait", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "pool": "nowhere"}`, key).ok(t)
			w.submit(t, "ep_wait", `{"input": {}}`, key).ok(t)
			w.submit(t, "ep_wait", `{"input": {}}`, key).refused(t, http.StatusTooManyRequests, "QUEUE_FULL").want(t, "details.queueSize", 1)
			org := w.get(t, "/v2/orgs/org_small").ok(t)
			org.doc["queueLimit"] = 2
			raised, err := json.Marshal(org.doc)
			if err != nil {
				t.Fatal(err)
			}
			w.do(t, "PUT", "/v2/orgs/org_small", string(raised)).ok(t)
			w.submit(t, "ep_wait", `{"input": {}}`, key).ok(t)
		}},
		{"233 processing limits are a later step: the job waits", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_one", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "maxRunning": 1}`)
			blocker := w.job(t, "ep_one", `{"sleep": 60}`)
			w.until(t, blocker, "", func(a answer) bool { return a.doc["status"] == "running" })
			job := w.submit(t, "ep_one", `{"input": {}}`).ok(t).text(t, "jobId")
			a := w.get(t, "/v2/jobs/"+job+"/explain").ok(t).want(t, "status", "queued")
			if !strings.Contains(string(a.raw), "maxRunning") {
				t.Errorf("the explanation does not name the limit: %s", a.raw)
			}
			w.do(t, "POST", "/v2/jobs/"+blocker+"/cancel", "").ok(t)
			w.ended(t, job, "").want(t, "status", "completed")
		}},
	}
}

// newKey makes a key with some permissions.
func (w *world) newKey(t *testing.T, permissions ...string) string {
	t.Helper()
	body, err := json.Marshal(map[string]any{"name": t.Name(), "permissions": permissions})
	if err != nil {
		t.Fatal(err)
	}
	return w.do(t, "POST", "/v2/keys", string(body)).ok(t).text(t, "key")
}

// newOrg makes an organisation and a key that may do everything in it.
func (w *world) newOrg(t *testing.T, id, document string) option {
	t.Helper()
	w.do(t, "POST", "/v2/orgs", document).ok(t)
	a := w.do(t, "POST", "/v2/keys", `{"name": "all", "org": "`+id+`", "permissions": ["jobs:read", "jobs:write", "endpoints:execute", "endpoints:write"]}`).ok(t)
	return header("Authorization", "Bearer "+a.text(t, "key"))
}
