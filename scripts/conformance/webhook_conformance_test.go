//go:build conformance

package conformance

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// received is one webhook as it came.
type received struct {
	header http.Header
	body   []byte
}

// receiver answers webhooks with the given statuses, then with 200.
func receiver(t *testing.T, statuses ...int) (string, <-chan received) {
	t.Helper()
	got := make(chan received, 16)
	n := 0
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		status := http.StatusOK
		if n < len(statuses) {
			status = statuses[n]
		}
		n++
		rw.WriteHeader(status)
		got <- received{r.Header.Clone(), body}
	}))
	t.Cleanup(server.Close)
	return server.URL + "/hook", got
}

func next(t *testing.T, got <-chan received) received {
	t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(patience):
		t.Fatal("no webhook came")
		return received{}
	}
}

// webhooks is d.10. The schedule of the attempts is shown in virtual time in
// coordinator/webhook.
func webhooks() []item {
	return []item{
		{"178-188 191-193 the payload and its signature", func(t *testing.T, w *world) {
			secret := w.do(t, "POST", "/v2/webhooks/secrets", `{}`).ok(t).text(t, "secret")
			url, got := receiver(t, http.StatusAccepted)
			job := w.submit(t, "ep_echo", `{"input": {"answer": 42}, "callbackUrl": "`+url+`", "tags": {"userId": "user_12345"}}`).ok(t).text(t, "jobId")
			r := next(t, got)
			a := answer{raw: r.body}
			if err := json.Unmarshal(r.body, &a.doc); err != nil {
				t.Fatal(err)
			}
			a.want(t, "jobId", job).want(t, "status", "completed").want(t, "output.answer", 42).want(t, "tags.userId", "user_12345").has(t, "executionTime", "completedAt")
			mac := hmac.New(sha256.New, []byte(secret))
			mac.Write(r.body)
			if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); !hmac.Equal([]byte(want), []byte(r.header.Get("X-Webhook-Signature"))) {
				t.Errorf("signature %q, want %q", r.header.Get("X-Webhook-Signature"), want)
			}
		}},
		{"184 cost is the one of the status", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_priced", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "price": {"gpuSecond": 0.5}}`)
			url, got := receiver(t)
			job := w.submit(t, "ep_priced", `{"input": {"sleep": 0.2}, "callbackUrl": "`+url+`"}`).ok(t).text(t, "jobId")
			var sent map[string]any
			if err := json.Unmarshal(next(t, got).body, &sent); err != nil {
				t.Fatal(err)
			}
			a := w.ended(t, job, "")
			total, shown := a.at("finalMetrics.totalCost")
			if cost, ok := sent["cost"]; ok != shown || cost != total {
				t.Errorf("the webhook says %v, the status %v", cost, total)
			}
		}},
		{"189-190 194 a failed delivery is retried with the same id and body", func(t *testing.T, w *world) {
			url, got := receiver(t, http.StatusInternalServerError)
			job := w.submit(t, "ep_echo", `{"input": {}, "callbackUrl": "`+url+`"}`).ok(t).text(t, "jobId")
			next(t, got)
			end := time.Now().Add(patience)
			for {
				a := w.get(t, "/v2/jobs/"+job+"/webhooks").ok(t)
				if strings.Contains(string(a.raw), `"nextAttemptAt"`) {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("no next attempt is planned: %s", a.raw)
				}
			}
		}},
		{"199-200 polling beside a webhook, and without one", func(t *testing.T, w *world) {
			url, got := receiver(t)
			job := w.submit(t, "ep_echo", `{"input": {"a": 1}, "webhook": {"url": "`+url+`"}}`).ok(t).text(t, "taskId")
			next(t, got)
			w.ended(t, job, "").want(t, "output.a", 1)
			w.ended(t, w.job(t, "ep_echo", `{"a": 2}`), "").want(t, "output.a", 2)
		}},
	}
}

// practice is what the list calls uses and practices, as far as the server has a part in them.
func practice() []item {
	return []item{
		{"273-274 a cheap change mark, and headers that say how to back off", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{}`)
			a := w.ended(t, job, "")
			etag := w.status(t, job, "").header.Get("ETag")
			if etag != `"`+a.text(t, "revision")+`"` {
				t.Errorf("ETag = %s, revision %s", etag, a.text(t, "revision"))
			}
			if b := w.get(t, "/v2/jobs/"+job+"/status", header("If-None-Match", etag)); b.status != http.StatusNotModified || len(b.raw) != 0 {
				t.Errorf("%d %s", b.status, b.raw)
			}
		}},
		{"278 lists by tag", func(t *testing.T, w *world) {
			job := w.submit(t, "ep_echo", `{"input": {}, "tags": {"projectId": "only-here"}}`).ok(t).text(t, "jobId")
			a := w.get(t, "/v2/jobs?tag.projectId=only-here").ok(t)
			if data, _ := a.doc["data"].([]any); len(data) != 1 || !strings.Contains(string(a.raw), job) {
				t.Errorf("%s", a.raw)
			}
		}},
		{"285-286 no long connection is needed", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{"a": 1}`)
			http.DefaultClient.CloseIdleConnections()
			w.ended(t, job, "").want(t, "output.a", 1)
		}},
	}
}
