package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// operation is one route of the description that the server serves.
type operation struct {
	method, path string
}

// operations reads the server's own description.
func (v *victim) operations(ctx context.Context) ([]operation, error) {
	a := v.do(ctx, "", "GET", "/v2/openapi.json", "")
	var doc struct {
		Paths map[string]map[string]json.RawMessage
	}
	if err := json.Unmarshal(a.raw, &doc); err != nil || len(doc.Paths) == 0 {
		return nil, fmt.Errorf("cannot read the description of the API: %s", a)
	}
	var out []operation
	for path, methods := range doc.Paths {
		for method := range methods {
			if method != "parameters" {
				out = append(out, operation{strings.ToUpper(method), path})
			}
		}
	}
	slices.SortFunc(out, func(a, b operation) int { return strings.Compare(a.path+a.method, b.path+b.method) })
	return out, nil
}

// with fills the parameters of a path.
func (o operation) with(endpoint, id string) string {
	return regexp.MustCompile(`\{[^}]*\}`).ReplaceAllStringFunc(o.path, func(name string) string {
		if name == "{endpointId}" || strings.HasPrefix(o.path, "/v2/endpoints/") {
			return endpoint
		}
		return id
	})
}

func guessKeys(ctx context.Context, v *victim) (int, error) {
	guesses := []string{"", "x", v.key[:len(v.key)-1], v.key + "x", strings.ToUpper(v.key), strings.Repeat("a", 4000), "' OR 1=1", "null", "undefined", "\u0000"}
	if i := strings.LastIndexByte(v.thiefKey, '_'); i > 0 {
		guesses = append(guesses, v.thiefKey[:i+1]+strings.Repeat("A", len(v.thiefKey)-i-1))
	}
	for i := range 200 {
		b := []byte(v.key)
		b[i%len(b)] ^= 1
		guesses = append(guesses, string(b))
	}
	for _, guess := range guesses {
		a := v.do(ctx, "", "GET", "/v2/jobs", "", "Authorization", "Bearer "+strings.ReplaceAll(guess, "\x00", ""))
		if a.err == nil && a.status != http.StatusUnauthorized && a.status != http.StatusTooManyRequests {
			return len(guesses), fmt.Errorf("the guess %.20q is answered with %d", guess, a.status)
		}
	}
	for _, query := range []string{"key", "api_key", "apiKey", "access_token", "authorization"} {
		if a := v.do(ctx, "", "GET", "/v2/jobs?"+query+"="+v.key, ""); a.status == http.StatusOK {
			return len(guesses), fmt.Errorf("a key in the address (%s) opens the API", query)
		}
	}
	return len(guesses) + 5, nil
}

// escalate gives a key one permission after the other and calls every route: an
// answer other than a refusal must be one that the permission allows.
func escalate(ctx context.Context, v *victim) (int, error) {
	list, err := v.operations(ctx)
	if err != nil {
		return 0, err
	}
	tries := 0
	for _, permission := range []string{"jobs:read", "endpoints:execute", "agents:manage"} {
		key, err := v.newKey(ctx, thief, permission)
		if err != nil {
			return tries, err
		}
		for _, op := range list {
			if op.method == "GET" || op.path == "/v2/jobs/status/batch" {
				continue // what reads is compared by S6
			}
			if permission == "endpoints:execute" && (strings.HasSuffix(op.path, "/runasync") || strings.HasSuffix(op.path, "/run") || strings.HasSuffix(op.path, "/runsync")) {
				continue
			}
			tries++
			a := v.do(ctx, key, op.method, op.with("ep_echo", v.job), `{}`)
			if a.status == http.StatusOK && !strings.Contains(op.path, "/stream/") {
				return tries, fmt.Errorf("%s %s with %s only: %s", op.method, op.path, permission, a)
			}
		}
	}
	return tries, nil
}

// reachAcross compares what the thief is answered about home's things with what it is
// answered about things that nobody has.
func reachAcross(ctx context.Context, v *victim) (int, error) {
	list, err := v.operations(ctx)
	if err != nil {
		return 0, err
	}
	const nobody = "job_00000000000000000000000000"
	tries := 0
	for _, op := range list {
		if !strings.Contains(op.path, "{") || strings.HasPrefix(op.path, "/v2/outputs/") {
			continue
		}
		tries++
		foreign := v.do(ctx, v.thiefKey, op.method, op.with("ep_echo", v.job), `{"input": {}}`)
		unknown := v.do(ctx, v.thiefKey, op.method, op.with("ep_none", nobody), `{"input": {}}`)
		if a, b := neutral(foreign, v.job, "ep_echo"), neutral(unknown, nobody, "ep_none"); foreign.status != unknown.status || !bytes.Equal(a, b) {
			return tries, fmt.Errorf("%s %s tells them apart: %d %s and %d %s", op.method, op.path, foreign.status, a, unknown.status, b)
		}
		if bytes.Contains(foreign.raw, []byte(canary)) {
			return tries, fmt.Errorf("%s %s shows home's data", op.method, op.path)
		}
	}
	mixed := v.do(ctx, v.thiefKey, "POST", "/v2/jobs/status/batch", `{"jobIds": ["`+v.job+`", "`+nobody+`"]}`)
	if bytes.Contains(mixed.raw, []byte(canary)) || strings.Count(string(mixed.raw), "JOB_NOT_FOUND") != 2 {
		return tries, fmt.Errorf("the batch tells them apart: %s", mixed)
	}
	for _, path := range []string{"/v2/jobs", "/v2/jobs?idempotencyKey=key-of-home", "/v2/jobs?tag.owner=" + canary, "/v2/endpoints", "/v2/keys", "/v2/agents"} {
		tries++
		if a := v.do(ctx, v.thiefKey, "GET", path, ""); bytes.Contains(a.raw, []byte(v.job)) || bytes.Contains(a.raw, []byte(canary)) {
			return tries, fmt.Errorf("%s shows home's jobs", path)
		}
	}
	return tries + 1, nil
}

// neutral is an answer without what names the thing that was asked for, and the
// request itself.
func neutral(a answer, id, endpoint string) []byte {
	raw := regexp.MustCompile(`"requestId":"[^"]*"`).ReplaceAll(a.raw, nil)
	raw = bytes.ReplaceAll(raw, []byte(id), []byte("ID"))
	return bytes.ReplaceAll(raw, []byte(endpoint), []byte("ENDPOINT"))
}

func stealKey(ctx context.Context, v *victim) (int, error) {
	put := `{"kind": "Endpoint", "id": "ep_echo", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}}`
	if a := v.do(ctx, v.thiefKey, "PUT", "/v2/endpoints/ep_echo", put); a.status != http.StatusOK {
		return 0, fmt.Errorf("the thief cannot make its own endpoint: %s", a)
	}
	defer v.do(ctx, v.thiefKey, "DELETE", "/v2/endpoints/ep_echo", "")
	a := v.do(ctx, v.thiefKey, "POST", "/v2/endpoints/ep_echo/runasync", `{"input": {"secret": "`+canary+`"}, "idempotencyKey": "key-of-home", "tags": {"owner": "`+canary+`"}}`)
	job, _ := a.doc["jobId"].(string)
	if a.status != http.StatusOK || job == v.job || a.header.Get("Idempotent-Replayed") != "" {
		return 1, fmt.Errorf("the key of home is known to the thief: %s", a)
	}
	for { // an endpoint with a live job cannot be deleted
		a := v.do(ctx, v.thiefKey, "GET", "/v2/jobs/"+job+"/status?wait=10s", "")
		if s := a.doc["status"]; a.status != http.StatusOK || s == "completed" || s == "failed" {
			return 1, nil
		}
	}
}

func peek(ctx context.Context, v *victim) (int, error) {
	paths := []string{"/metrics", "/v2/cluster", "/v2/cluster/debug", "/v2/cluster/snapshot", "/v2/cluster/members", "/debug/pprof/", "/debug/vars", "/v2/orgs"}
	for _, path := range paths {
		for _, key := range []string{"", v.thiefKey} {
			if a := v.do(ctx, key, "GET", path, ""); a.status == http.StatusOK {
				return len(paths) * 2, fmt.Errorf("%s is answered: %s", path, a)
			}
		}
	}
	return len(paths) * 2, nil
}
