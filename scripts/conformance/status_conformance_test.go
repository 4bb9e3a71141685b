//go:build conformance

package conformance

import (
	"bufio"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

// statuses is d.4.
func statuses() []item {
	return []item{
		{"053-062 069 073-078 080 the status of a running job", runningStatus},
		{"063-068 082-083 include and format", includes},
		{"070-071 format=summary is the first sample", func(t *testing.T, w *world) {
			done := w.job(t, "ep_echo", `{"a": 1}`)
			w.ended(t, done, "")
			a := w.status(t, done, "?format=summary").want(t, "status", "completed").want(t, "progress", 100).want(t, "result.a", 1)
			if len(a.doc) != 4 {
				t.Errorf("the summary has more: %s", a.raw)
			}
			bad := w.job(t, "ep_echo", `{"fail": {"code": "BROKEN", "message": "it broke"}}`)
			w.ended(t, bad, "")
			w.status(t, bad, "?format=summary").want(t, "status", "failed").want(t, "error", "it broke")
		}},
		{"072-073 079 endpointId, priority and tags", func(t *testing.T, w *world) {
			job := w.submit(t, "ep_echo", `{"input": {}, "priority": "high", "tags": {"userId": "u"}}`).ok(t).text(t, "jobId")
			w.ended(t, job, "").want(t, "endpointId", "ep_echo").want(t, "priority", "high").want(t, "tags.userId", "u")
		}},
		{"081 the status is updated while the job runs", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{"sleep": 3}`)
			first := w.until(t, job, "", func(a answer) bool { p, _ := a.doc["progress"].(float64); return p > 0 && p < 100 })
			w.until(t, job, "", func(a answer) bool { p, _ := a.doc["progress"].(float64); return p > first.number(t, "progress") })
		}},
		{"084 several jobs in one request", batch},
		{"085 a task by its taskId, with the full result", func(t *testing.T, w *world) {
			task := w.submit(t, "ep_echo", `{"input": {"answer": 42}}`).ok(t).text(t, "taskId")
			w.ended(t, task, "").want(t, "taskId", task).want(t, "output.answer", 42)
		}},
	}
}

func runningStatus(t *testing.T, w *world) {
	as := w.gpu.take(t, w, `{"input": {}, "priority": "high"}`)
	job := as.Job.String()
	metadata := `{"imagesProcessed": 750, "totalImages": 1000, "averageProcessingTime": 1.2, "currentBatch": 15, "totalBatches": 20}`
	p := progress(75, "processing_images", metadata)
	p.EtaMs = pointer(int64(250_000))
	w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 847_000, Progress: p, Usage: usage(), ColdStart: coldStart()})
	a := w.until(t, job, "", func(a answer) bool { return a.doc["progress"] == 75.0 })
	a.want(t, "jobId", job).want(t, "status", "running").want(t, "endpointId", "ep_gpu").want(t, "priority", "high").
		want(t, "currentStep", "processing_images").want(t, "metadata", json.RawMessage(metadata)).want(t, "throughput.value", 12.5).
		has(t, "createdAt", "startedAt", "estimatedCompletion")
	if _, err := time.Parse(time.RFC3339, a.text(t, "estimatedCompletion")); err != nil {
		t.Error(err)
	}
	w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 847_000})
}

func includes(t *testing.T, w *world) {
	as := w.gpu.take(t, w, `{"input": {}}`)
	job := as.Job.String()
	w.gpu.tell(t, as, protocol.AttemptUpdate{
		Substate: protocol.SubstateProcessing, StartedMs: 1000, Progress: progress(10, "x", `{}`), Usage: usage(),
		Logs: []protocol.LogLine{{Time: protocol.Time(time.Now().UnixMilli()), Source: "stdout", Line: "a line"}},
	})
	w.until(t, job, "", func(a answer) bool { return a.doc["status"] == "running" }).lacks(t, "logs", "metrics", "resources.gpus")
	for _, query := range []string{"?include=logs,metrics,resources", "?include=logs&include=metrics&include=resources"} {
		a := w.status(t, job, query).has(t, "logs", "metrics.attempts", "resources.gpus", "resources.cpu")
		if !strings.Contains(string(a.raw), "a line") {
			t.Errorf("the log is missing: %s", a.raw)
		}
	}
	w.status(t, job, "?include=metrics").has(t, "metrics").lacks(t, "logs")
	w.status(t, job, "?format=json").want(t, "jobId", job)
	if a := w.get(t, "/v2/jobs/"+job+"/status?include=everything"); a.status != http.StatusUnprocessableEntity {
		t.Errorf("an unknown part: %d %s", a.status, a.raw)
	}
	w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 1000})
}

func batch(t *testing.T, w *world) {
	a, b := w.job(t, "ep_echo", `{}`), w.job(t, "ep_echo", `{}`)
	w.ended(t, a, "")
	w.ended(t, b, "")
	body, _ := json.Marshal(map[string]any{"jobIds": []string{b, "job_1234567890abcdef", a}, "include": []string{"metrics"}})
	got := w.do(t, "POST", "/v2/jobs/status/batch", string(body)).ok(t)
	jobs, _ := got.doc["jobs"].([]any)
	errors, _ := got.doc["errors"].([]any)
	if len(jobs) != 2 || len(errors) != 1 {
		t.Fatalf("%s", got.raw)
	}
	answer{doc: jobs[0].(map[string]any), raw: got.raw}.want(t, "jobId", b).has(t, "metrics")
	answer{doc: jobs[1].(map[string]any), raw: got.raw}.want(t, "jobId", a)
	answer{doc: errors[0].(map[string]any), raw: got.raw}.want(t, "jobId", "job_1234567890abcdef").want(t, "error", "JOB_NOT_FOUND")
}

// states is d.5.
func states() []item {
	return []item{
		{"086-089 queued, running, completed, failed", func(t *testing.T, w *world) {
			job := w.submit(t, "ep_echo", `{"input": {"sleep": 1}}`).ok(t).want(t, "status", "queued").text(t, "jobId")
			w.until(t, job, "", func(a answer) bool { return a.doc["status"] == "running" })
			w.ended(t, job, "").want(t, "status", "completed")
			w.ended(t, w.job(t, "ep_echo", `{"fail": true}`), "").want(t, "status", "failed")
		}},
		{"090 cancelled", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{"sleep": 60}`)
			w.do(t, "POST", "/v2/jobs/"+job+"/cancel", "").ok(t)
			w.ended(t, job, "").want(t, "status", "cancelled").has(t, "cancelledAt")
		}},
		{"091 timeout", func(t *testing.T, w *world) {
			job := w.submit(t, "ep_echo", `{"input": {"sleep": 60}, "policy": {"executionTimeout": 1000}}`).ok(t).text(t, "jobId")
			w.ended(t, job, "").want(t, "status", "timeout").want(t, "error.code", "EXECUTION_TIMEOUT")
		}},
		{"092 094-097 initializing and the substates", func(t *testing.T, w *world) {
			as := w.gpu.take(t, w, `{"input": {}}`)
			job := as.Job.String()
			w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateWarmingUp})
			w.until(t, job, "", func(a answer) bool { return a.doc["substate"] == "warming_up" }).want(t, "status", "initializing")
			for _, s := range []protocol.Substate{protocol.SubstateProcessing, protocol.SubstateFinalizing, protocol.SubstateUploading} {
				w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: s, StartedMs: 10})
				w.until(t, job, "", func(a answer) bool { return a.doc["substate"] == string(s) }).want(t, "status", "running")
			}
			w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 10})
		}},
		{"093 paused", func(t *testing.T, w *world) {
			w.apply(t, `{"kind": "Endpoint", "id": "ep_held", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "maxRunning": 1}`)
			blocker := w.job(t, "ep_held", `{"sleep": 60}`)
			job := w.job(t, "ep_held", `{}`)
			w.do(t, "POST", "/v2/jobs/"+job+"/pause", "").ok(t).want(t, "status", "paused")
			w.do(t, "POST", "/v2/jobs/"+blocker+"/cancel", "").ok(t)
			w.do(t, "POST", "/v2/jobs/"+job+"/resume", "").ok(t)
			w.ended(t, job, "").want(t, "status", "completed")
		}},
		{"098-100 upper case in the classic family", func(t *testing.T, w *world) {
			w.do(t, "POST", "/v2/ep_echo/runsync", `{"input": {"a": 1}}`).ok(t).want(t, "status", "COMPLETED").want(t, "output.a", 1)
			a := w.do(t, "POST", "/v2/ep_echo/runsync", `{"input": {"fail": true}}`).ok(t).want(t, "status", "FAILED")
			a.text(t, "error")
		}},
	}
}

// frames reads server-sent events until the stream ends, and returns the status
// documents.
func (w *world) frames(t *testing.T, job string) []answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", w.addr+"/v2/jobs/"+job+"/status/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+w.key)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		t.Fatalf("%d %s", resp.StatusCode, kind)
	}
	events := protocol.NewEventReader(bufio.NewReader(resp.Body))
	var out []answer
	for {
		e, err := events.Next()
		if err != nil {
			return out
		}
		if e.Type != protocol.EventStatus {
			continue
		}
		a := answer{raw: e.Data}
		if err := json.Unmarshal(e.Data, &a.doc); err != nil {
			t.Fatal(err)
		}
		out = append(out, a)
	}
}
