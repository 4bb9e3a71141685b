package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"
)

func (v *victim) submitCallback(ctx context.Context, url string) answer {
	body, _ := json.Marshal(map[string]any{"input": map[string]any{}, "callbackUrl": url})
	return v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", string(body))
}

// callInside submits callbacks to addresses that only this host can reach. Loopback is open in
// `windlass dev`, so that webhooks can be tried; everything else is not.
func callInside(ctx context.Context, v *victim) (int, error) {
	urls := []string{
		"http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/", "http://100.64.0.1/", "http://0.0.0.0/", "http://[::]/",
		"http://[fd00::1]/", "http://[fe80::1]/", "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::a00:1]/", "http://[2002:a00:1::]/", "http://2852039166/", "http://0xa9fea9fe/", "http://0251.0376.0251.0376/",
		"http://224.0.0.1/", "http://255.255.255.255/", "http://192.0.0.192/", "http://metadata.google.internal/", "http://[::10.0.0.1]/",
	}
	for _, url := range urls {
		a := v.submitCallback(ctx, url)
		job, _ := a.doc["jobId"].(string)
		if a.status == http.StatusUnprocessableEntity {
			continue
		}
		if a.status != http.StatusOK {
			return len(urls), fmt.Errorf("%s: %s", url, a)
		}
		if err := v.await(ctx, job); err != nil {
			return len(urls), err
		}
		if err := v.undelivered(ctx, job); err != nil {
			return len(urls), fmt.Errorf("%s: %w", url, err)
		}
	}
	return len(urls), nil
}

// undelivered waits for the first attempt of a webhook, which must have been
// refused before it connected.
func (v *victim) undelivered(ctx context.Context, job string) error {
	for {
		a := v.do(ctx, v.key, "GET", "/v2/jobs/"+job+"/webhooks", "")
		if a.status != http.StatusOK {
			return fmt.Errorf("the log of deliveries: %s", a)
		}
		if bytes.Contains(a.raw, []byte(`"statusCode"`)) {
			return fmt.Errorf("somebody answered: %s", a)
		}
		if bytes.Contains(a.raw, []byte(`"error":"`)) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func callOddly(ctx context.Context, v *victim) (int, error) {
	urls := []string{
		"file:///etc/passwd", "gopher://example.com/", "unix:///run/x.sock", "ftp://example.com/", "javascript:alert(1)", "//example.com/", "http://", "http:///x", "example.com",
		"http://user:pass@example.com/", "http://example.com/#x", "http://example.com:99999/", "http://exa mple.com/", "http://example.com/\r\nX: y", "http://example.com/\x00", "http://аррӏе.com/",
		"https://example.com/" + strings.Repeat("a", 64<<10), "http://example.com%2f@10.0.0.1/",
	}
	for _, url := range urls {
		if a := v.submitCallback(ctx, url); a.status != http.StatusUnprocessableEntity && a.status != http.StatusBadRequest {
			return len(urls), fmt.Errorf("%.60q: %s", url, a)
		}
	}
	return len(urls), nil
}

// confuseSignatures receives one webhook and checks that its signature fits nothing
// but its own bytes and secret.
func confuseSignatures(ctx context.Context, v *victim) (int, error) {
	a := v.do(ctx, v.key, "POST", "/v2/webhooks/secrets", `{}`)
	secret, _ := a.doc["secret"].(string)
	if secret == "" {
		return 0, fmt.Errorf("no secret: %s", a)
	}
	type hook struct {
		header http.Header
		body   []byte
	}
	got := make(chan hook, 4)
	var busy atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if busy.CompareAndSwap(false, true) {
			got <- hook{r.Header.Clone(), body}
		}
	}))
	defer server.Close()
	if a := v.submitCallback(ctx, server.URL+"/hook"); a.status != http.StatusOK {
		return 0, fmt.Errorf("%s", a)
	}
	var h hook
	select {
	case h = <-got:
	case <-time.After(30 * time.Second):
		return 0, fmt.Errorf("no webhook came")
	}
	signature := h.header.Get("X-Webhook-Signature")
	sign := func(key, body []byte) string {
		mac := hmac.New(sha256.New, key)
		mac.Write(body)
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	if signature != sign([]byte(secret), h.body) {
		return 1, fmt.Errorf("the signature does not fit the body and the secret")
	}
	for _, other := range []string{sign([]byte(secret), append(h.body, ' ')), sign(nil, h.body), sign([]byte(v.key), h.body), sign([]byte(secret+"x"), h.body)} {
		if signature == other {
			return 4, fmt.Errorf("the signature fits something else as well")
		}
	}
	if h.header.Get("Webhook-Signature") == "" || strings.Contains(h.header.Get("Webhook-Signature"), signature) {
		return 5, fmt.Errorf("the two kinds of signatures are not apart")
	}
	return 5, nil
}

// findSecrets looks for keys and inputs in the log, in errors and in the report for developers.
func findSecrets(ctx context.Context, v *victim) (int, error) {
	a := v.do(ctx, v.key, "POST", "/v2/ep_echo/runsync", `{"input": {"fail": {"code": "X", "message": "no"}, "secret": "`+canary+`"}, "s3Config": {"accessSecret": "s3-`+canary+`"}}`)
	id, _ := a.doc["id"].(string)
	places := map[string][]byte{
		"the log":            []byte(v.log.String()),
		"the debug report":   v.do(ctx, v.key, "GET", "/v2/cluster/debug", "").raw,
		"the metrics":        v.do(ctx, v.key, "GET", "/metrics", "").raw,
		"a refusal":          v.do(ctx, "wrong-"+v.key, "GET", "/v2/jobs", "").raw,
		"the list of keys":   v.do(ctx, v.key, "GET", "/v2/keys", "").raw,
		"a status of others": v.do(ctx, v.key, "GET", "/v2/jobs/"+id+"/status?include=logs,metrics,resources", "").raw,
	}
	for place, text := range places {
		for name, secret := range map[string]string{"the key of home": v.key, "the thief's key": v.thiefKey, "an S3 secret": "s3-" + canary} {
			if bytes.Contains(text, []byte(secret)) {
				return len(places), fmt.Errorf("%s holds %s", place, name)
			}
		}
	}
	if strings.Contains(v.log.String(), canary) {
		return len(places), fmt.Errorf("the log holds an input")
	}
	return len(places), nil
}

func traverse(ctx context.Context, v *victim) (int, error) {
	ids := []string{"..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "....//", "job_x%0a", strings.Repeat("a", 4096), "%c0%ae%c0%ae", "C:%5c", "~root", "job_x%3bls", "%25%32%65"}
	tries := 0
	for _, id := range ids {
		for _, path := range []string{"/v2/jobs/" + id + "/output", "/v2/jobs/" + id + "/logs", "/agent/v1/blobs/" + id, "/v2/outputs/" + id + "/" + id, "/v2/endpoints/" + id, "/v2/" + id + "/status/" + id} {
			tries++
			got, err := v.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer " + v.key + "\r\n\r\n")
			if err != nil {
				return tries, err
			}
			if strings.HasPrefix(got, "HTTP/1.1 200") || strings.HasPrefix(got, "HTTP/1.1 5") || strings.Contains(got, "root:") {
				return tries, fmt.Errorf("%s: %.200s", path, got)
			}
		}
	}
	return tries, nil
}

func flood(ctx context.Context, v *victim) (int, error) {
	key, err := v.newKey(ctx, home, "jobs:read")
	if err != nil {
		return 0, err
	}
	const most = 300
	allowed := 0
	for range most {
		switch a := v.do(ctx, key, "GET", "/v2/jobs/"+v.job+"/status", ""); a.status {
		case http.StatusOK:
			allowed++
		case http.StatusTooManyRequests:
			if a.header.Get("Retry-After") == "" {
				return most, fmt.Errorf("a refusal does not say when to come back: %s", a)
			}
		default:
			return most, fmt.Errorf("%s", a)
		}
	}
	if allowed > 150 {
		return most, fmt.Errorf("%d of %d were answered", allowed, most)
	}
	if a := v.do(ctx, v.key, "GET", "/v2/jobs/"+v.job+"/status", ""); a.status != http.StatusOK {
		return most, fmt.Errorf("another key is refused as well: %s", a)
	}
	return most, nil
}

func abuseJSON(ctx context.Context, v *victim) (int, error) {
	deep := strings.Repeat(`{"a":`, 100_000) + "1" + strings.Repeat("}", 100_000)
	wide := `{"input": {` + strings.Repeat(`"k":1,`, 500_000) + `"z": 1}}`
	bodies := map[string]string{
		"depth": `{"input": ` + deep + `}`, "twice": `{"input": {}, "input": {"a": 1}}`, "twice in case": `{"input": {}, "priority": "low", "priority": "critical"}`,
		"not a number": `{"input": {"a": NaN}}`, "infinity": `{"input": {"a": Infinity}}`, "bad UTF-8": "{\"input\": {\"a\": \"\xff\xfe\"}}", "half a surrogate": `{"input": {"a": "\ud800"}}`,
		"cut": `{"input": {"a": `, "rest": `{"input": {}} {}`, "many keys": wide, "control": "{\"input\": {\"a\": \"\x01\"}}", "long tag": `{"input": {}, "tags": {"k": "` + strings.Repeat("v", 100_000) + `"}}`,
		"tags": `{"input": {}, "tags": {"a": 1}}`, "policy": `{"input": {}, "policy": {"executionTimeout": 1e308}}`, "priority": `{"input": {}, "priority": "root"}`,
	}
	for name, body := range bodies {
		a := v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", body)
		if a.status == http.StatusOK && name != "many keys" && name != "half a surrogate" || a.status >= http.StatusInternalServerError || a.status == 0 {
			return len(bodies), fmt.Errorf("%s: %s", name, a)
		}
	}
	giant := v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", `{"input": {"a": "`+strings.Repeat("x", 11<<20)+`"}}`)
	if giant.status != http.StatusRequestEntityTooLarge {
		return len(bodies) + 1, fmt.Errorf("11 MiB: %s", giant)
	}
	return len(bodies) + 1, nil
}

func inject(ctx context.Context, v *victim) (int, error) {
	const evil = `x\r\nX-Evil: 1\r\n\r\ndata: {\"status\":\"completed\"}\n\n`
	a := v.do(ctx, v.key, "POST", "/v2/endpoints/ep_echo/runasync", `{"input": {"a": "`+evil+`"}, "tags": {"k": "`+evil+`"}, "idempotencyKey": "`+evil+`"}`)
	job, _ := a.doc["jobId"].(string)
	if a.header.Get("X-Evil") != "" {
		return 1, fmt.Errorf("a header was injected: %v", a.header)
	}
	if job != "" {
		if err := v.await(ctx, job); err != nil {
			return 1, err
		}
		stream := v.do(ctx, v.key, "GET", "/v2/jobs/"+job+"/status/stream", "")
		for line := range strings.SplitSeq(string(stream.raw), "\n") {
			if strings.HasPrefix(line, "X-Evil") || strings.HasPrefix(line, `data: {"status":"completed"}`) {
				return 2, fmt.Errorf("an event was injected: %.200s", stream.raw)
			}
		}
	}
	b := v.do(ctx, v.key, "GET", "/v2/jobs", "", "X-Request-Id", "a b<script>")
	if strings.Contains(b.header.Get("X-Request-Id"), "<") {
		return 3, fmt.Errorf("a request id is echoed as it came")
	}
	return 3, nil
}

func forgeLog(ctx context.Context, v *victim) (int, error) {
	evil := "\x1b[2J\x1b[31m{\"level\":\"error\",\"message\":\"forged\"}"
	for _, path := range []string{"/v2/endpoints/" + "ep_%1b%5b2J", "/v2/jobs/job_%0a%7b%22level%22:%22error%22%7d/status"} {
		_, _ = v.raw("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: " + evil + "\r\nAuthorization: Bearer " + v.key + "\r\n\r\n")
	}
	body, _ := json.Marshal(map[string]any{"input": map[string]any{"fail": map[string]any{"code": "X", "message": evil + "\nforged line"}}})
	a := v.do(ctx, v.key, "POST", "/v2/ep_echo/runsync", string(body))
	log := v.log.String()
	if strings.ContainsRune(log, '\x1b') || strings.Contains(log, "\nforged line") || strings.Contains(log, "\n{\"level\":\"error\",\"message\":\"forged\"") {
		return 3, fmt.Errorf("the log was forged after %s", a)
	}
	return 3, nil
}

// lie speaks the agents' protocol with a key of the thief about home's jobs.
func lie(ctx context.Context, v *victim) (int, error) {
	const agent, incarnation = "agt_01K0000000000000000000000A", "inc_01K0000000000000000000000B"
	before := v.do(ctx, v.key, "GET", "/v2/jobs/"+v.job+"/status", "")
	reports := []string{
		`{"agent": "` + agent + `", "incarnation": "` + incarnation + `", "held": [], "finished": [{"job": "` + v.job + `", "attempt": 1, "outcome": "completed", "output": {"forged": true}}]}`,
		`{"agent": "` + agent + `", "incarnation": "` + incarnation + `", "held": [{"job": "` + v.job + `", "attempt": 99}], "attempts": [{"job": "` + v.job + `", "attempt": 99, "progress": {"percent": -1}}]}`,
		`{"agent": "` + agent + `", "incarnation": "` + incarnation + `", "held": [], "finished": [{"job": "` + v.job + `", "attempt": 4294967295, "outcome": "failed"}]}`,
		`{"agent": 1}`, `[]`, `{"agent": "` + agent + `", "held": {}}`,
	}
	for _, key := range []string{v.thiefKey, v.key} {
		for _, body := range reports {
			if a := v.do(ctx, key, "POST", "/agent/v1/report", body); a.status >= http.StatusInternalServerError || a.status == 0 {
				return len(reports) * 2, fmt.Errorf("%.80s: %s", body, a)
			}
		}
	}
	after := v.do(ctx, v.key, "GET", "/v2/jobs/"+v.job+"/status", "")
	if !bytes.Equal(before.raw, after.raw) {
		return len(reports) * 2, fmt.Errorf("the job changed from %s to %s", before, after)
	}
	return len(reports) * 2, nil
}
