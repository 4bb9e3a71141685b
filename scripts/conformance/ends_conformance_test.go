//go:build conformance

package conformance

import (
	"encoding/json"
	"math"
	"net/http"
	"strings"
	"testing"

	"windlass/protocol"
)

// resources is d.6.
func resources() []item {
	return []item{
		{"101-109 short resources and execution", func(t *testing.T, w *world) {
			as := w.gpu.take(t, w, `{"input": {}}`)
			p := progress(50, "x", `{}`)
			p.Metrics = map[string]float64{"tokensProcessed": 125000, "apiCalls": 1247}
			w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 10_000, Progress: p, Usage: usage()})
			a := w.until(t, as.Job.String(), "", func(a answer) bool { return a.doc["status"] == "running" })
			a.want(t, "resources.gpuType", gpuName).want(t, "resources.gpuUtilization", 85).want(t, "resources.memoryUsage", "12.5GB").
				want(t, "resources.memoryTotal", "40GB").want(t, "resources.cpuUsage", 45).
				want(t, "execution.tokensProcessed", 125000).want(t, "execution.apiCalls", 1247)
			if d := a.number(t, "execution.duration"); d < 10 {
				t.Errorf("execution.duration = %v s after 10 s", d)
			}
			if c := a.number(t, "execution.costAccrued"); c < 5 {
				t.Errorf("execution.costAccrued = %v after 10 GPU-seconds at 0.5", c)
			}
			w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 10_000, Usage: usage()})
		}},
		{"110-120 every GPU and the processor", func(t *testing.T, w *world) {
			as := w.gpu.take(t, w, `{"input": {}}`)
			w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 10, Usage: usage()})
			a := w.until(t, as.Job.String(), "include=resources", func(a answer) bool { return a.doc["status"] == "running" })
			gpus, _ := a.at("resources.gpus")
			list, _ := gpus.([]any)
			if len(list) != 1 {
				t.Fatalf("gpus = %v in %s", gpus, a.raw)
			}
			answer{doc: list[0].(map[string]any), raw: a.raw}.want(t, "id", "gpu_0").want(t, "type", gpuName).want(t, "utilization", 85).
				want(t, "memoryUsed", "12.5GB").want(t, "memoryTotal", "40GB").want(t, "temperature", 72).want(t, "powerUsage", "280W").want(t, "powerUsageWatts", 280)
			a.want(t, "resources.cpu.utilization", 45).want(t, "resources.cpu.cores", 16).want(t, "resources.cpu.memory", "64GB")
			w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 10})
		}},
		{"121-128 the cold start", func(t *testing.T, w *world) {
			as := w.gpu.take(t, w, `{"input": {}}`)
			w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 10, ColdStart: coldStart()})
			a := w.until(t, as.Job.String(), "", func(a answer) bool { _, ok := a.at("coldStart"); return ok })
			a.want(t, "coldStart.occurred", true).want(t, "coldStart.duration", 45.2).want(t, "coldStart.phases.containerStart", 12.5).
				want(t, "coldStart.phases.modelLoad", 28.1).want(t, "coldStart.phases.dependencyLoad", 4.6).want(t, "coldStart.cacheHit", false).
				has(t, "coldStart.optimizationSuggestions")
			sum := a.number(t, "coldStart.phases.containerStart") + a.number(t, "coldStart.phases.modelLoad") + a.number(t, "coldStart.phases.dependencyLoad")
			if math.Abs(sum-a.number(t, "coldStart.duration")) > 0.0005 {
				t.Errorf("the phases add up to %v", sum)
			}
			w.gpu.finish(t, as, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{}`), RunMs: 10})
		}},
	}
}

// ends is d.7 and d.8.
func ends() []item {
	return []item{
		{"129-143 a completed job", completed},
		{"144 large outputs are stored and linked", func(t *testing.T, w *world) {
			a := w.ended(t, w.job(t, "ep_echo", `{"text": "`+strings.Repeat("x", 200<<10)+`"}`), "")
			_, path, ok := strings.Cut(a.text(t, "output.outputUrl"), "/v2/")
			if !ok {
				t.Fatalf("outputUrl = %s", a.text(t, "output.outputUrl"))
			}
			got := w.get(t, "/v2/"+path).ok(t)
			if v, _ := got.at("text"); len(v.(string)) != 200<<10 {
				t.Errorf("the stored output has %d bytes", len(got.raw))
			}
		}},
		{"145 stored outputs say when they are deleted", func(t *testing.T, w *world) {
			a := w.ended(t, w.job(t, "ep_echo", `{"text": "`+strings.Repeat("x", 200<<10)+`"}`), "")
			a.has(t, "outputExpiresAt")
		}},
		{"148-160 a failed job", failed},
		{"161 a retryable failure is retried at nextRetryAt", func(t *testing.T, w *world) {
			job := w.job(t, "ep_echo", `{"fail": {"code": "FLAKY", "message": "again", "retryable": true}}`)
			a := w.until(t, job, "", func(a answer) bool { _, ok := a.at("nextRetryAt"); return ok })
			a.want(t, "status", "queued").want(t, "retryable", true)
			b := w.ended(t, job, "include=metrics").want(t, "status", "failed")
			if n := b.number(t, "metrics.attempts"); n < 2 {
				t.Errorf("attempts = %v", n)
			}
		}},
	}
}

func completed(t *testing.T, w *world) {
	as := w.gpu.take(t, w, `{"input": {}}`)
	w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 870_500, Progress: progress(90, "writing", `{}`), Usage: usage()})
	last := progress(100, "", `{}`)
	last.Metrics = map[string]float64{"documentsGenerated": 50, "wordsGenerated": 45000, "averageLatency": 17.4}
	w.gpu.finish(t, as, protocol.Finish{
		Outcome: protocol.OutcomeCompleted, RunMs: 870_500, Usage: usage(), Progress: last,
		Output: json.RawMessage(`{"result": "Generated content successfully saved to storage", "outputUrl": "https://storage.example/doc.pdf", "size": "2.4MB", "format": "pdf"}`),
	})
	a := w.ended(t, as.Job.String(), "include=resources")
	a.want(t, "status", "completed").want(t, "progress", 100).want(t, "executionTime", 870.5).has(t, "completedAt", "startedAt", "createdAt").
		want(t, "output.result", "Generated content successfully saved to storage").want(t, "output.outputUrl", "https://storage.example/doc.pdf").
		want(t, "output.size", "2.4MB").want(t, "output.format", "pdf").
		want(t, "finalMetrics.documentsGenerated", 50).want(t, "finalMetrics.wordsGenerated", 45000).want(t, "finalMetrics.averageLatency", 17.4).
		want(t, "finalMetrics.totalCost", 435.25).want(t, "resources.peakGpuUtilization", 85).has(t, "resources.peakMemoryUsage", "resources.totalComputeTime")
	if got := seconds(t, a, "startedAt", "completedAt"); math.Abs(got-870.5) > 0.01 {
		t.Errorf("from startedAt to completedAt are %v s", got)
	}
}

func failed(t *testing.T, w *world) {
	as := w.gpu.take(t, w, `{"input": {}}`)
	w.gpu.tell(t, as, protocol.AttemptUpdate{Substate: protocol.SubstateProcessing, StartedMs: 1000, Progress: progress(45, "video_encoding", `{}`)})
	w.gpu.finish(t, as, protocol.Finish{
		Outcome: protocol.OutcomeFailed, RunMs: 1000, Progress: progress(45, "video_encoding", `{}`), Partial: json.RawMessage(`{"processedFrames": 1350, "totalFrames": 3000, "outputFiles": ["https://storage.example/part1.mp4"]}`),
		Error: &protocol.JobError{Code: "RESOURCE_EXHAUSTED", Message: "GPU memory limit exceeded during processing", Details: map[string]any{
			"step": "video_encoding", "memoryRequired": "45GB", "memoryAvailable": "40GB", "suggestion": "Reduce input resolution or use smaller batch size",
		}},
	})
	a := w.ended(t, as.Job.String(), "")
	a.want(t, "status", "failed").want(t, "progress", 45).want(t, "error.code", "RESOURCE_EXHAUSTED").want(t, "error.message", "GPU memory limit exceeded during processing").
		want(t, "error.details.step", "video_encoding").want(t, "error.details.memoryRequired", "45GB").want(t, "error.details.memoryAvailable", "40GB").
		want(t, "error.details.suggestion", "Reduce input resolution or use smaller batch size").
		want(t, "partialResults.processedFrames", 1350).want(t, "partialResults.totalFrames", 3000).want(t, "partialResults.outputFiles", []string{"https://storage.example/part1.mp4"}).
		want(t, "retryable", false).want(t, "retryCount", 0).has(t, "failedAt")
}

// control is d.9.
func control() []item {
	return []item{
		{"162-166 batch status", batch},
		{"167-170 server-sent events", func(t *testing.T, w *world) {
			frames := w.frames(t, w.job(t, "ep_echo", `{"sleep": 1.5, "answer": 42}`))
			if len(frames) < 2 {
				t.Fatalf("%d frames", len(frames))
			}
			frames[0].has(t, "status")
			last := frames[len(frames)-1]
			last.want(t, "status", "completed").want(t, "progress", 100).want(t, "output.answer", 42)
			failing := w.frames(t, w.job(t, "ep_echo", `{"fail": {"code": "X", "message": "why"}}`))
			failing[len(failing)-1].want(t, "error.message", "why")
		}},
		{"171-172 the stream of a run", func(t *testing.T, w *world) {
			id := w.do(t, "POST", "/v2/ep_story/run", `{"input": {"prompt": "Hello", "maxTokens": 40}}`).ok(t).text(t, "id")
			chunks := 0
			for {
				a := w.get(t, "/v2/ep_story/stream/"+id).ok(t)
				list, ok := a.doc["stream"].([]any)
				if !ok {
					t.Fatalf("stream is no list: %s", a.raw)
				}
				chunks += len(list)
				if s := a.text(t, "status"); s != "IN_QUEUE" && s != "IN_PROGRESS" {
					break
				}
			}
			if chunks == 0 {
				t.Error("no chunk came")
			}
			w.get(t, "/v2/ep_story/stream/"+id).ok(t).want(t, "status", "COMPLETED").want(t, "stream", []any{})
		}},
		{"173-177 cancel, purge, health, runsync and status of the classic family", classicFamily},
	}
}

func classicFamily(t *testing.T, w *world) {
	w.apply(t, `{"kind": "Endpoint", "id": "ep_classic", "runtime": {"kind": "builtin", "handler": "echo"}, "resources": {"cpu": true}, "maxRunning": 1}`)
	run := func(input string) string {
		return w.do(t, "POST", "/v2/ep_classic/run", `{"input": `+input+`}`).ok(t).text(t, "id")
	}
	blocker := run(`{"sleep": 60}`)
	w.until(t, blocker, "", func(a answer) bool { return a.doc["status"] == "running" })
	queued := run(`{}`)
	w.get(t, "/v2/ep_classic/status/"+queued).ok(t).want(t, "status", "IN_QUEUE")
	w.get(t, "/v2/ep_classic/status/"+blocker).ok(t).want(t, "status", "IN_PROGRESS")
	w.get(t, "/v2/ep_classic/health").ok(t).want(t, "jobs.inQueue", 1).want(t, "jobs.inProgress", 1).
		has(t, "jobs.completed", "jobs.failed", "jobs.retried", "workers.idle", "workers.initializing", "workers.ready", "workers.running", "workers.throttled")
	w.do(t, "POST", "/v2/ep_classic/purge-queue", `{}`).ok(t).want(t, "removed", 1).want(t, "status", "completed")
	w.get(t, "/v2/ep_classic/status/"+queued).ok(t).want(t, "status", "CANCELLED")
	w.do(t, "POST", "/v2/ep_classic/cancel/"+blocker, "").ok(t).want(t, "id", blocker)
	w.ended(t, blocker, "").want(t, "status", "cancelled")
	w.do(t, "POST", "/v2/ep_classic/runsync", `{"input": {"a": 1}}`).ok(t).want(t, "status", "COMPLETED").want(t, "output.a", 1)
	if a := w.get(t, "/v2/ep_classic/status/job_unknown"); a.status != http.StatusNotFound {
		t.Errorf("an unknown job: %d %s", a.status, a.raw)
	}
}
