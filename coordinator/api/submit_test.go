package api

import (
	"fmt"
	"strings"
	"testing"

	"windlass/protocol"
)

// seedSubmit is the body of the first call of seed S0.
const seedSubmit = `{"input": {"prompt": "Create a comprehensive business plan for a tech startup", "pages": 50,
	"include_financials": true, "industry": "artificial_intelligence"}, "async": true,
	"callbackUrl": "https://myapp.com/webhooks/document-ready", "tags": {"userId": "user_12345", "projectId": "proj"}}`

func TestSeedSubmit(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_document_gen", "")
	a := w.post("/v2/endpoints/ep_document_gen/runasync", seedSubmit)
	var got map[string]any
	a.json(t, &got)
	id, _ := got["jobId"].(string)
	if a.status != 200 || a.header.Get("Content-Type") != "application/json" || !strings.HasPrefix(id, "job_") {
		t.Fatalf("%d %s", a.status, a.body)
	}
	for key, want := range map[string]any{
		"taskId": id, "status": "queued", "endpointId": "ep_document_gen", "priority": "normal",
		"statusUrl": "http://windlass.test/v2/jobs/" + id + "/status",
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if tags, _ := got["tags"].(map[string]any); tags["userId"] != "user_12345" || got["createdAt"] == nil {
		t.Errorf("%s", a.body)
	}
	if _, made := got["estimatedDuration"]; made {
		t.Error("a duration was estimated before anything was measured")
	}
	doc := w.jobStatus(protocol.JobID(mustJob(t, id)), "")
	if doc.CallbackURL != "https://myapp.com/webhooks/document-ready" || doc.Tags["projectId"] != "proj" {
		t.Errorf("%+v", doc)
	}
}

func mustJob(t *testing.T, text string) protocol.JobID {
	t.Helper()
	id, err := protocol.ParseJobID(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestBadSubmit(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", `, "input": {"schema": {"type": "object", "required": ["prompt"], "properties": {"pages": {"type": "integer", "minimum": 1}}}}`)
	w.endpoint("ep_free", "")
	deep := strings.Repeat(`[`, 10_000) + strings.Repeat(`]`, 10_000)
	for name, c := range map[string]struct {
		body, field string
		status      int
		code        protocol.Code
	}{
		"not JSON":          {`hello`, "body", 400, protocol.CodeMalformed},
		"empty":             {``, "body", 400, protocol.CodeMalformed},
		"NaN":               {`{"input": {"a": NaN}}`, "body", 400, protocol.CodeMalformed},
		"deep":              {`{"input": {"a": ` + deep + `}}`, "body", 400, protocol.CodeMalformed},
		"bad UTF-8":         {"{\"input\": {\"a\": \"\xff\"}}", "body", 400, protocol.CodeMalformed},
		"trailing":          {`{"input": {}} x`, "body", 400, protocol.CodeMalformed},
		"a list":            {`[1]`, "body", 422, protocol.CodeValidation},
		"no input":          {`{}`, "input", 422, protocol.CodeValidation},
		"input null":        {`{"input": null}`, "input", 422, protocol.CodeValidation},
		"input text":        {`{"input": "x"}`, "input", 422, protocol.CodeValidation},
		"input twice":       {`{"input": {}, "input": {}}`, "input", 422, protocol.CodeValidation},
		"async text":        {`{"input": {}, "async": "yes"}`, "async", 422, protocol.CodeValidation},
		"unknown priority":  {`{"input": {}, "priority": "urgent"}`, "priority", 422, protocol.CodeValidation},
		"priority number":   {`{"input": {}, "priority": 1}`, "priority", 422, protocol.CodeValidation},
		"tags list":         {`{"input": {}, "tags": ["a"]}`, "tags", 422, protocol.CodeValidation},
		"tag number":        {`{"input": {}, "tags": {"a": 1}}`, "tags.a", 422, protocol.CodeValidation},
		"tag twice":         {`{"input": {}, "tags": {"a": "1", "a": "2"}}`, "tags.a", 422, protocol.CodeValidation},
		"tag long":          {`{"input": {}, "tags": {"a": "` + strings.Repeat("x", 600) + `"}}`, "tags.a", 422, protocol.CodeValidation},
		"negative timeout":  {`{"input": {}, "policy": {"executionTimeout": -5}}`, "policy.executionTimeout", 422, protocol.CodeValidation},
		"timeout fraction":  {`{"input": {}, "policy": {"executionTimeout": 1000.5}}`, "policy.executionTimeout", 422, protocol.CodeValidation},
		"ttl of eight days": {`{"input": {}, "policy": {"ttl": 691200000}}`, "policy.ttl", 422, protocol.CodeValidation},
		"policy text":       {`{"input": {}, "policy": "fast"}`, "policy", 422, protocol.CodeValidation},
		"callback scheme":   {`{"input": {}, "callbackUrl": "ftp://a/b"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback garbage":  {`{"input": {}, "callbackUrl": "not a url"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback user":     {`{"input": {}, "callbackUrl": "https://u:p@a/b"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback fragment": {`{"input": {}, "callbackUrl": "https://a/b#c"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback long":     {`{"input": {}, "callbackUrl": "https://a/` + strings.Repeat("b", 2100) + `"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback CRLF":     {`{"input": {}, "callbackUrl": "https://a/\r\nX: y"}`, "callbackUrl", 422, protocol.CodeValidation},
		"callback number":   {`{"input": {}, "callbackUrl": 5}`, "callbackUrl", 422, protocol.CodeValidation},
		"two callbacks":     {`{"input": {}, "callbackUrl": "https://a/", "webhook": {"url": "https://b/"}}`, "webhook.url", 422, protocol.CodeValidation},
		"long key":          {`{"input": {}, "idempotencyKey": "` + strings.Repeat("k", 300) + `"}`, "idempotencyKey", 422, protocol.CodeValidation},
		"schema":            {`{"input": {"prompt": "x", "pages": -5}}`, "input.pages", 422, protocol.CodeValidation},
		"schema missing":    {`{"input": {"pages": 5}}`, "input.prompt", 422, protocol.CodeValidation},
	} {
		endpoint := "ep_free"
		if strings.HasPrefix(name, "schema") {
			endpoint = "ep"
		}
		a := w.post("/v2/endpoints/"+endpoint+"/runasync", c.body)
		e := a.fault(t)
		if a.status != c.status || e.Code != c.code || e.Details["field"] != c.field || e.Details["reason"] == nil || e.RequestID == "" {
			t.Errorf("%s: %d %.300s", name, a.status, a.body)
		}
	}
	if n := w.store.View().Queued(protocol.OrgDefault); n != 0 {
		t.Errorf("%d refused jobs are in the queue", n)
	}
}

func TestAllFindingsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	a := w.post("/v2/endpoints/ep/runasync", `{"priority": "urgent", "tags": {"a": 1}, "policy": {"ttl": 1}}`)
	if list, _ := a.fault(t).Details["errors"].([]any); len(list) != 4 {
		t.Errorf("%s", a.body)
	}
}

func TestUnknownAndReservedEndpoints(t *testing.T) {
	w := newWorld(t)
	for _, id := range []string{"ep_none", "jobs", "a%20b", strings.Repeat("x", 100)} {
		a := w.post("/v2/endpoints/"+id+"/runasync", `{"input": {}}`)
		if e := a.fault(t); a.status != 404 || e.Code != protocol.CodeEndpointNotFound {
			t.Errorf("%s: %d %s", id, a.status, a.body)
		}
	}
}

func TestBodyOverTheLimit(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	body := `{"input": {"a": "` + strings.Repeat("x", protocol.MaxBody) + `"}}`
	a := w.post("/v2/endpoints/ep/runasync", body)
	if e := a.fault(t); a.status != 413 || e.Code != protocol.CodeTooLarge {
		t.Errorf("%d %s", a.status, a.body)
	}
	// The key is checked before a body is read, beyond what one buffer holds.
	got := w.raw("POST /v2/endpoints/ep/runasync HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + strings.Repeat("x", prefetch))
	if !strings.HasPrefix(got, "HTTP/1.1 401") || !strings.Contains(got, "Connection: close") {
		t.Errorf("%.100s", got)
	}
}

func TestIdempotency(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	first := w.post("/v2/endpoints/ep/runasync", `{"input": {"a": 1}, "idempotencyKey": "k1"}`)
	again := w.post("/v2/endpoints/ep/runasync", `{ "input": {"a":1} }`, "Idempotency-Key", `"k1"`)
	var a, b protocol.SubmitResponse
	first.json(t, &a)
	again.json(t, &b)
	if a.JobID != b.JobID || again.header.Get("Idempotent-Replayed") != "true" || first.header.Get("Idempotent-Replayed") != "" || a.CreatedAt != b.CreatedAt {
		t.Errorf("%s\n%s", first.body, again.body)
	}
	other := w.post("/v2/endpoints/ep/runasync", `{"input": {"a": 2}, "idempotencyKey": "k1"}`)
	if e := other.fault(t); other.status != 422 || e.Code != protocol.CodeIdempotencyReused {
		t.Errorf("%d %s", other.status, other.body)
	}
	var page protocol.Page[protocol.JobStatus]
	w.get("/v2/jobs?idempotencyKey=k1").json(t, &page)
	if len(page.Data) != 1 || page.Data[0].JobID != a.JobID {
		t.Errorf("%+v", page)
	}
}

func TestLargeInputIsABlob(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	input := `{"a": "` + strings.Repeat("x", protocol.InlineInput) + `"}`
	id := w.submit("ep", `{"input": `+input+`}`)
	row := w.store.Job(id)
	if row.Input.Ref == nil || row.Input.Inline != nil || row.Input.Ref.Size != int64(len(input)) {
		t.Fatalf("%+v", row.Input)
	}
	got := w.agent().take()
	if a := w.get(protocol.PathBlob + got.InputBlob); a.status != 200 || string(a.body) != input {
		t.Errorf("the agent got %d, %d bytes", a.status, len(a.body))
	}
}

func TestNoLeader(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	w.mu.Lock()
	w.leader = protocol.NewError(protocol.CodeNoLeader, "no leader")
	w.mu.Unlock()
	a := w.post("/v2/endpoints/ep/runasync", `{"input": {}}`)
	if e := a.fault(t); a.status != 503 || a.header.Get("Retry-After") == "" || e.Details["outcome"] != "none" {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func TestUncertainSubmitNamesItsJob(t *testing.T) {
	id := mustJob(t, "job_01ARZ3NDEKTSV4RRFFQ69G5FAV")
	unknown := protocol.NewError(protocol.CodeUnavailable, "x").With("outcome", "unknown")
	for err, want := range map[error]any{unknown: id, fmt.Errorf("x: %w", errDeadline()): id, protocol.NewError(protocol.CodeNoLeader, "x"): nil} {
		e, _ := uncertain(err, id).(*protocol.Error)
		if e == nil || e.Details["jobId"] != want || e.Code.HTTPStatus() != 503 {
			t.Errorf("%v became %+v", err, e)
		}
	}
}
