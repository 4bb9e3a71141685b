package api

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"windlass/protocol"
)

func sha(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func TestEndpointLife(t *testing.T) {
	w := newWorld(t)
	doc := `{"kind": "Endpoint", "id": "ep", "runtime": {"kind": "command", "command": ["python3", "h.py"], "env": {"LOG": "info", "KEY": {"fromFile": "/k"}}},
		"resources": {"gpus": 1, "vram": "20GB"}, "policy": {"executionTimeout": "600s", "maxAttempts": 5}}`
	a := w.post("/v2/endpoints", doc)
	var got protocol.Endpoint
	if a.json(t, &got); a.status != 200 || got.Revision != 1 || got.Org != protocol.OrgDefault || got.Concurrency != 1 || got.Policy.MaxAttempts != 5 ||
		got.Policy.TTL.Std() != protocol.DefaultTTL || got.Resources.VRAM != 20<<30 || got.Runtime.Env["KEY"].FromFile != "/k" {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.post("/v2/endpoints", strings.Replace(doc, "600s", "700s", 1)); a.status != 409 {
		t.Errorf("created twice: %d %s", a.status, a.body)
	}
	shown := w.get("/v2/endpoints/ep")
	if a := w.do("PUT", "/v2/endpoints/ep", string(shown.body)); a.status != 200 {
		t.Errorf("what is shown cannot be put back: %d %s", a.status, a.body)
	}
	w.do("PUT", "/v2/endpoints/ep", strings.Replace(string(shown.body), "info", "debug", 1))
	if a := w.do("PUT", "/v2/endpoints/ep", strings.Replace(string(shown.body), "info", "warn", 1)); a.status != 409 {
		t.Errorf("an old revision was taken: %d %s", a.status, a.body)
	}
	id := w.submit("ep", `{"input": {}}`)
	if row := w.store.Job(id); row.ExecutionMs != 600_000 || row.MaxAttempts != 5 {
		t.Errorf("%+v", row)
	}
	if a := w.do("DELETE", "/v2/endpoints/ep", ""); a.status != 409 || a.fault(t).Code != protocol.CodeEndpointInUse {
		t.Errorf("deleted with a live job: %d %s", a.status, a.body)
	}
	w.post("/v2/jobs/"+id.String()+"/cancel", "")
	for _, want := range []int{200, 404} {
		if a := w.do("DELETE", "/v2/endpoints/ep", ""); a.status != want {
			t.Errorf("delete: %d %s", a.status, a.body)
		}
	}
	var page protocol.Page[protocol.Endpoint]
	if w.get("/v2/endpoints").json(t, &page); page.Data == nil || len(page.Data) != 0 {
		t.Errorf("%+v", page)
	}
}

func TestBadEndpoint(t *testing.T) {
	w := newWorld(t)
	for doc, want := range map[string][2]string{
		`{"runtime": {"kind": "builtin"}, "concurency": 2}`:                                     {"concurency", "concurrency"},
		`{"runtime": {"kind": "builtin", "comand": []}}`:                                        {"runtime.comand", "command"},
		`{"Runtime": {"kind": "builtin"}}`:                                                      {"Runtime", "runtime"},
		`{"runtime": {}}`:                                                                       {"runtime.kind", "Required"},
		`{"runtime": {"kind": "magic"}}`:                                                        {"runtime.kind", "Must be"},
		`{"runtime": {"kind": "command"}}`:                                                      {"runtime.command", "Required"},
		`{"runtime": {"kind": "builtin"}, "policy": {"ttl": "9000h"}}`:                          {"policy.ttl", "7 days"},
		`{"runtime": {"kind": "builtin"}, "policy": {"ttl": 5}}`:                                {"policy.ttl", "unit"},
		`{"runtime": {"kind": "builtin"}, "policy": {"ttl": "-5s"}}`:                            {"policy.ttl", "duration"},
		`{"runtime": {"kind": "builtin"}, "concurrency": "two"}`:                                {"concurrency", "integer"},
		`{"runtime": {"kind": "builtin"}, "concurrency": -1}`:                                   {"concurrency", "between"},
		`{"runtime": {"kind": "builtin"}, "input": {"schema": {"type": 5}}}`:                    {"input.schema", "schema"},
		`{"runtime": {"kind": "builtin"}, "input": {"schema": {"$ref": "file:///etc/passwd"}}}`: {"input.schema", "within"},
		`{"runtime": {"kind": "builtin"}, "resources": {"gpus": 1, "cpu": true}}`:               {"resources.cpu", "together"},
		`{"runtime": {"kind": "builtin"}, "runtime": {"kind": "builtin"}}`:                      {"runtime", "twice"},
		`{"runtime": {"kind": "builtin"}, "id": "other"}`:                                       {"id", "path"},
		`[]`: {"body", "object"},
	} {
		a := w.do("PUT", "/v2/endpoints/ep", doc)
		e := a.fault(t)
		reason, _ := e.Details["reason"].(string)
		if a.status != 422 || e.Details["field"] != want[0] || !strings.Contains(reason, want[1]) {
			t.Errorf("%s: %d %s", doc, a.status, a.body)
		}
	}
	for _, id := range append(reservedEndpoints(), "1ep", "_ep", strings.Repeat("e", 64), "e.p") {
		if a := w.do("PUT", "/v2/endpoints/"+id, `{"runtime": {"kind": "builtin"}}`); a.status != 422 {
			t.Errorf("id %s: %d", id, a.status)
		}
	}
	if a := w.do("PUT", "/v2/endpoints/ep", `{"runtime": `); a.status != 400 {
		t.Errorf("half a document: %d", a.status)
	}
}

func FuzzParseEndpoint(f *testing.F) {
	f.Add([]byte(`{"runtime": {"kind": "builtin"}, "resources": {"vram": "20GB"}, "labels": {"a": "b"}}`))
	f.Add([]byte(`{"runtime": {"kind": "command", "command": ["x"], "env": {"A": {"fromEnv": "B"}, "C": 5}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		doc, err := parseEndpoint(b, "ep")
		if err == nil && (doc.ID != "ep" || doc.Concurrency < 1 || doc.Runtime.Kind == "") {
			t.Fatalf("%q gave %+v", b, doc)
		}
	})
}
