//go:build conformance

package conformance

import (
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// transport is d.1 of the list.
func transport() []item {
	return []item{
		{"001-003 base path, JSON and Bearer", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_echo", `{"input": {"a": 1}}`).ok(t)
			if !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("Content-Type = %q", a.header.Get("Content-Type"))
			}
		}},
		{"004 missing or wrong key", func(t *testing.T, w *world) {
			for _, key := range []string{"", "Bearer ", "Bearer wrong-key-of-sixteen-characters"} {
				a := w.get(t, "/v2/jobs", header("Authorization", key))
				if a.status != http.StatusUnauthorized || a.doc["error"] != "UNAUTHORIZED" {
					t.Errorf("%q: %d %s", key, a.status, a.raw)
				}
			}
		}},
		{"005 the raw key without Bearer", func(t *testing.T, w *world) {
			w.get(t, "/v2/jobs", header("Authorization", w.key)).ok(t)
		}},
		{"006-008 Content-Type on GET, one header, JSON objects", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{}`)
			a := w.status(t, job, "")
			if a.doc == nil || !strings.HasPrefix(a.header.Get("Content-Type"), "application/json") {
				t.Errorf("%s: %s", a.header.Get("Content-Type"), a.raw)
			}
		}},
		{"009 a key belongs to an organisation", func(t *testing.T, w *world) {
			a := w.get(t, "/v2/keys/self").ok(t)
			a.want(t, "org", "org_default")
		}},
	}
}

// The request bodies of S0, with callbacks at a name that nobody has.
const (
	s0Document = `{"input": {"prompt": "Generate a detailed 10-page report on climate change impacts", "format": "pdf", "citations": true,
		"sections": ["introduction", "impacts", "solutions", "conclusion"]}, "async": true, "callbackUrl": "https://receiver.invalid/webhooks/job-complete",
		"priority": "normal", "tags": {"userId": "user_12345", "projectId": "proj_report_gen", "category": "document_generation"}}`
	s0Plan = `{"input": {"prompt": "Create a comprehensive business plan for a tech startup", "pages": 2, "include_financials": true,
		"industry": "artificial_intelligence"}, "async": true, "callbackUrl": "https://receiver.invalid/webhooks/document-ready"}`
	s0Video = `{"input": {"video_url": "https://example.com/large-video.mp4", "operations": {"transcode": {"resolution": "1080p", "codec": "h264",
		"bitrate": "5000k"}, "thumbnail": {"count": 10, "format": "jpg"}}}, "async": true, "callbackUrl": "https://receiver.invalid/webhooks/video-processed", "priority": "normal"}`
	s0Images = `{"input": {"images": ["https://example.com/image1.jpg"], "operations": ["resize", "enhance", "watermark"], "output_format": "webp"},
		"async": true, "priority": "high", "tags": {"batch_id": "batch_20240115_001", "user_id": "user_789"}}`
)

// submits is d.2.
func submits() []item {
	return []item{
		{"010-012 method, path and endpoint ids", func(t *testing.T, w *world) {
			for _, id := range []string{"ep_document_gen", "ep_image_processor"} {
				w.get(t, "/v2/endpoints/"+id).ok(t).want(t, "id", id)
			}
			a := w.submit(t, "ep_nobody", `{"input": {}}`)
			if a.status != http.StatusNotFound || a.doc["error"] != "ENDPOINT_NOT_FOUND" {
				t.Errorf("%d %s", a.status, a.raw)
			}
		}},
		{"013-016 input of any shape keeps its values", func(t *testing.T, w *world) {
			input := `{"prompt": "x", "pages": 50, "citations": true, "include_financials": false, "sections": ["a", "b"], "images": ["c"],
				"operations": {"transcode": {"resolution": "1080p", "codec": "h264", "bitrate": "5000k"}, "thumbnail": {"count": 10, "format": "jpg"}}}`
			a := w.ended(t, w.job(t, "ep_echo", input), "")
			a.want(t, "output.pages", 50).want(t, "output.citations", true).want(t, "output.include_financials", false).
				want(t, "output.sections", []string{"a", "b"}).want(t, "output.operations.transcode.codec", "h264").want(t, "output.operations.thumbnail.count", 10)
		}},
		{"017-023 029 async, callbackUrl, priority and tags of the first example", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_document_gen", s0Document).ok(t)
			a.want(t, "priority", "normal").want(t, "tags.userId", "user_12345").want(t, "tags.category", "document_generation")
			s := w.status(t, a.text(t, "jobId"), "")
			s.want(t, "callbackUrl", "https://receiver.invalid/webhooks/job-complete")
			w.submit(t, "ep_document_gen", s0Plan).ok(t).want(t, "priority", "normal")
		}},
		{"020 030 high priority and tags of the image example", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_image_processor", s0Images).ok(t)
			a.want(t, "priority", "high").want(t, "tags.batch_id", "batch_20240115_001").want(t, "tags.user_id", "user_789")
			w.do(t, "POST", "/v2/jobs/"+a.text(t, "jobId")+"/cancel", "").ok(t)
		}},
		{"024-028 priority, tags and callback may be left out", func(t *testing.T, w *world) {
			w.submit(t, "ep_echo", `{"input": {}}`).ok(t).want(t, "priority", "normal").lacks(t, "tags")
			for _, body := range []string{`[]`, `"x"`, `1`, `null`, ``} {
				if a := w.submit(t, "ep_echo", body); a.status != http.StatusUnprocessableEntity && a.status != http.StatusBadRequest {
					t.Errorf("body %q: %d %s", body, a.status, a.raw)
				}
			}
		}},
		{"031 the video example with its nested operations", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_video_processor", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}}`)
			a := w.ended(t, w.submit(t, "ep_video_processor", s0Video).ok(t).text(t, "jobId"), "")
			a.want(t, "output.operations.transcode.bitrate", "5000k")
		}},
		{"032-033 priority, then order of submission", strictOrder},
		{"034 webhook.url", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_echo", `{"input": {}, "webhook": {"url": "https://receiver.invalid/hook"}}`).ok(t)
			w.status(t, a.text(t, "jobId"), "").want(t, "callbackUrl", "https://receiver.invalid/hook")
			b := w.submit(t, "ep_echo", `{"input": {}, "webhook": {"url": "https://receiver.invalid/a"}, "callbackUrl": "https://receiver.invalid/b"}`)
			if b.status != http.StatusUnprocessableEntity {
				t.Errorf("two values: %d %s", b.status, b.raw)
			}
		}},
		{"035-037 idempotencyKey", idempotency},
		{"038 submit returns at once", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_echo", `{"input": {"sleep": 60}}`).ok(t).want(t, "status", "queued")
			job := a.text(t, "jobId")
			if s := w.status(t, job, ""); terminal(s.doc["status"]) {
				t.Errorf("the job has ended: %s", s.raw)
			}
			w.do(t, "POST", "/v2/jobs/"+job+"/cancel", "").ok(t)
		}},
		{"039 many submits in a short time", func(t *testing.T, w *world) {
			const clients, each = 8, 25
			var all sync.WaitGroup
			jobs := make(chan string, clients*each)
			for range clients {
				all.Go(func() {
					for range each {
						jobs <- w.job(t, "ep_echo", `{}`)
					}
				})
			}
			all.Wait()
			close(jobs)
			seen := make(map[string]bool)
			for job := range jobs {
				seen[job] = true
			}
			if len(seen) != clients*each {
				t.Errorf("%d jobs of %d submits", len(seen), clients*each)
			}
		}},
		{"040-042 run with input, a timeout and a policy", func(t *testing.T, w *world) {
			w.do(t, "POST", "/v2/ep_echo/run", `{"input": {"a": 1}}`).ok(t).want(t, "status", "IN_QUEUE").has(t, "id")
			a := w.do(t, "POST", "/v2/ep_echo/runsync", `{"input": {"sleep": 30}, "policy": {"executionTimeout": 1000}}`).ok(t)
			a.want(t, "status", "TIMED_OUT")
		}},
	}
}

func strictOrder(t *testing.T, w *world) {
	// One job at a time, so that the order of starting is the order of granting.
	w.apply(t, `{"kind": "Endpoint", "id": "ep_ordered", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "maxRunning": 1}`)
	blocker := w.job(t, "ep_ordered", `{"sleep": 3}`)
	w.until(t, blocker, "", func(a answer) bool { return a.doc["status"] == "running" })
	var jobs []string
	for _, p := range []string{"low", "normal", "normal", "high", "critical"} {
		jobs = append(jobs, w.submit(t, "ep_ordered", `{"input": {}, "priority": "`+p+`"}`).ok(t).text(t, "jobId"))
	}
	want := []string{jobs[4], jobs[3], jobs[1], jobs[2], jobs[0]}
	var before time.Time
	for _, job := range want {
		at, err := time.Parse(time.RFC3339Nano, w.ended(t, job, "").text(t, "startedAt"))
		if err != nil || at.Before(before) {
			t.Errorf("job %s started at %v, one before it at %v (%v)", job, at, before, err)
		}
		before = at
	}
}

func idempotency(t *testing.T, w *world) {
	key := "conformance-" + time.Now().Format(time.RFC3339Nano)
	body := `{"input": {"a": 1}, "idempotencyKey": "` + key + `"}`
	first := w.submit(t, "ep_echo", body).ok(t)
	second := w.submit(t, "ep_echo", body).ok(t)
	third := w.submit(t, "ep_echo", `{"input": {"a": 1}}`, header("Idempotency-Key", key)).ok(t)
	job := first.text(t, "jobId")
	second.want(t, "jobId", job).want(t, "taskId", job)
	third.want(t, "jobId", job)
	if second.header.Get("Idempotent-Replayed") != "true" || first.header.Get("Idempotent-Replayed") != "" {
		t.Errorf("Idempotent-Replayed: %q, then %q", first.header.Get("Idempotent-Replayed"), second.header.Get("Idempotent-Replayed"))
	}
	other := w.submit(t, "ep_echo", `{"input": {"a": 2}, "idempotencyKey": "`+key+`"}`)
	if other.status != http.StatusUnprocessableEntity || other.doc["error"] != "IDEMPOTENCY_KEY_REUSED" {
		t.Errorf("another payload: %d %s", other.status, other.raw)
	}
	list := w.get(t, "/v2/jobs?idempotencyKey="+strings.ReplaceAll(key, "+", "%2B")).ok(t)
	if data, _ := list.doc["data"].([]any); len(data) != 1 {
		t.Errorf("the key finds %s", list.raw)
	}
}

// replies is d.3.
func replies() []item {
	return []item{
		{"043-050 052 the reply to a submit", func(t *testing.T, w *world) {
			a := w.submit(t, "ep_document_gen", s0Document).ok(t)
			job := a.text(t, "jobId")
			if !regexp.MustCompile(`^job_[0-9a-zA-Z]{16,}$`).MatchString(job) {
				t.Errorf("jobId = %q", job)
			}
			a.want(t, "status", "queued").want(t, "endpointId", "ep_document_gen").want(t, "taskId", job).want(t, "tags.projectId", "proj_report_gen")
			if at, err := time.Parse(time.RFC3339, a.text(t, "createdAt")); err != nil || !strings.HasSuffix(a.text(t, "createdAt"), "Z") || time.Since(at).Abs() > time.Hour {
				t.Errorf("createdAt = %s, %v", a.text(t, "createdAt"), err)
			}
			url := a.text(t, "statusUrl")
			_, path, ok := strings.Cut(url, "/v2/")
			if !ok || !strings.HasPrefix(url, "http") {
				t.Fatalf("statusUrl = %q", url)
			}
			w.get(t, "/v2/"+path).ok(t).want(t, "jobId", job)
		}},
		{"047 estimatedDuration is measured", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_measured", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}}`)
			w.submit(t, "ep_measured", `{"input": {}}`).ok(t).lacks(t, "estimatedDuration")
			for range 4 {
				w.ended(t, w.job(t, "ep_measured", `{"sleep": 0.2}`), "")
			}
			if d := w.submit(t, "ep_measured", `{"input": {}}`).ok(t).number(t, "estimatedDuration"); d <= 0 || d > 60 {
				t.Errorf("estimatedDuration = %v", d)
			}
		}},
		{"051 id in the reply of run", func(t *testing.T, w *world) {
			w.do(t, "POST", "/v2/ep_echo/run", `{"input": {}}`).ok(t).has(t, "id")
		}},
	}
}
