package api

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/auth"
	"windlass/protocol"
)

func TestJobFromSubmitToResult(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {"prompt": "x"}, "priority": "high"}`)
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusQueued || doc.Priority != protocol.PriorityHigh || doc.Progress != nil {
		t.Errorf("queued: %+v", doc)
	}
	a := w.agent()
	got := a.take()
	if string(got.Input) != `{"prompt":"x"}` {
		t.Errorf("input became %s", got.Input)
	}
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusInitializing || !doc.StartedAt.IsZero() {
		t.Errorf("leased: %+v", doc)
	}
	reply := a.update(got, protocol.AttemptUpdate{
		Substate: protocol.SubstateProcessing, StartedMs: 1500,
		Progress: &protocol.Progress{Percent: ptr(65.0), Step: "writing", Metadata: json.RawMessage(`{"pages":3}`), EtaMs: ptr(int64(9000)), Metrics: map[string]float64{"words": 7}},
		Usage:    &protocol.Usage{CPUPercent: 45.04, CPUMs: 700, Memory: 512 << 20, HostMemory: 8 << 30, Cores: 4},
		Logs:     []protocol.LogLine{{Time: 1, Source: "stdout", Line: "one"}, {Time: 2, Source: "stdout", Line: "two"}},
	})
	if reply.NextLog != 2 {
		t.Errorf("%+v", reply)
	}
	doc := w.jobStatus(id, "?include=logs,metrics&include=resources")
	if doc.Status != protocol.StatusRunning || *doc.Progress != 65 || doc.CurrentStep != "writing" || doc.Execution == nil ||
		doc.Execution.Duration < 1.5 || doc.EstimatedCompletion.IsZero() || len(doc.Logs) != 2 || doc.Metrics.Custom["words"] != 7 ||
		doc.Metrics.QueueWait == nil || doc.Resources.MemoryUsage != "512MB" || *doc.Resources.CPUUsage != 45 || doc.Resources.CPU.Cores != 4 {
		t.Errorf("running: %+v", doc)
	}
	if doc := w.jobStatus(id, ""); doc.Logs != nil || doc.Metrics != nil || doc.Resources.CPU != nil {
		t.Errorf("what was not asked for is shown: %+v", doc)
	}
	a.finish(got, protocol.Finish{
		Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"text": "done"}`), RunMs: 2500,
		Usage: &protocol.Usage{PeakMemory: 600 << 20, CPUMs: 1200},
		Logs:  json.RawMessage(`[{"time":"2024-01-01T00:00:00.000Z","source":"stdout","line":"one"}]`),
	})
	doc = w.jobStatus(id, "?include=logs,metrics")
	if doc.Status != protocol.StatusCompleted || *doc.Progress != 100 || *doc.ExecutionTime != 2.5 || string(doc.Output) != `{"text":"done"}` ||
		doc.CompletedAt.IsZero() || doc.Resources.PeakMemoryUsage != "600MB" || *doc.Resources.TotalComputeTime != 1.2 || len(doc.Logs) != 1 {
		t.Errorf("completed: %+v %s", doc, doc.Output)
	}
	if out := w.get("/v2/jobs/" + id.String() + "/output"); string(out.body) != `{"text":"done"}` {
		t.Errorf("output %s", out.body)
	}
	var sum protocol.JobSummary
	w.get("/v2/jobs/"+id.String()+"/status?format=summary").json(t, &sum)
	if sum.Status != protocol.StatusCompleted || string(sum.Result) != `{"text":"done"}` {
		t.Errorf("%+v", sum)
	}
}

func TestFailedJob(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	a := w.agent()
	got := a.take()
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeFailed, RunMs: 10, Partial: json.RawMessage(`{"n":1}`),
		Error: &protocol.JobError{Code: protocol.CodeResource, Message: "out of memory", Details: map[string]any{"step": "encode"}}})
	doc := w.jobStatus(id, "")
	if doc.Status != protocol.StatusFailed || doc.Error == nil || doc.Error.Code != protocol.CodeResource || doc.Error.Details["step"] != "encode" ||
		string(doc.PartialResults) != `{"n":1}` || *doc.Retryable || *doc.RetryCount != 0 || doc.FailedAt.IsZero() {
		t.Errorf("%+v", doc)
	}
	if a := w.get("/v2/jobs/" + id.String() + "/output"); a.status != 409 {
		t.Errorf("output of a failed job: %d %s", a.status, a.body)
	}
	var again protocol.JobStatus
	w.post("/v2/jobs/"+id.String()+"/retry", "").json(t, &again)
	if again.JobID != id || again.Status != protocol.StatusQueued {
		t.Errorf("retry: %+v", again)
	}
	if a := w.post("/v2/jobs/"+id.String()+"/retry", ""); a.status != 409 {
		t.Errorf("retry of a queued job: %d %s", a.status, a.body)
	}
	for range 2 {
		var ended protocol.JobStatus
		w.post("/v2/jobs/"+id.String()+"/cancel", "").json(t, &ended)
		if ended.Status != protocol.StatusCancelled || ended.CancelledAt.IsZero() {
			t.Errorf("cancel: %+v", ended)
		}
	}
	var history protocol.Page[protocol.JobEvent]
	w.get("/v2/jobs/"+id.String()+"/events").json(t, &history)
	if len(history.Data) < 2 || history.Data[0].Type != "submitted" || history.Data[len(history.Data)-1].Type != "cancelled" {
		t.Errorf("%+v", history)
	}
}

func TestRetriesAreCountedToTheEnd(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", `, "policy": {"maxAttempts": 2}`)
	id := w.submit("ep", `{"input": {}}`)
	if doc := w.jobStatus(id, ""); doc.RetryCount != nil {
		t.Errorf("before any failure: %d", *doc.RetryCount)
	}
	a := w.agent()
	a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeFailed, RunMs: 1, Retryable: true, Error: &protocol.JobError{Code: protocol.CodeRuntimeCrashed}})
	if doc := w.jobStatus(id, ""); doc.Status != protocol.StatusQueued || doc.RetryCount == nil || *doc.RetryCount != 1 || !*doc.Retryable {
		t.Errorf("between the attempts: %+v", doc)
	}
	a.finish(a.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage("1")})
	doc := w.jobStatus(id, "?include=metrics")
	if doc.Status != protocol.StatusCompleted || doc.RetryCount == nil || *doc.RetryCount != 1 || doc.Retryable != nil || doc.Metrics.Attempts != 2 {
		t.Errorf("completed: %+v", doc)
	}
}

func TestETagAndLongPoll(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	path := "/v2/jobs/" + id.String() + "/status"
	first := w.get(path)
	etag := first.header.Get("ETag")
	if a := w.get(path, "If-None-Match", etag); a.status != 304 || len(a.body) != 0 {
		t.Errorf("%d %s", a.status, a.body)
	}
	var doc protocol.JobStatus
	first.json(t, &doc)
	if etag != `"`+doc.Revision+`"` {
		t.Errorf("ETag %s, revision %s", etag, doc.Revision)
	}
	// A revision that is not the newest one is answered at once.
	w.jobStatus(id, "?wait=30s&revision=1.0.0")
	w.jobStatus(id, "?wait=30s&revision=99999.0.0")
	// One that is waits for the change, beyond the time that a handler waits.
	held := make(chan protocol.JobStatus)
	go func() { held <- w.jobStatus(id, "?wait=30s&revision="+doc.Revision) }()
	waitFor(t, func() bool { return w.board.Stats().Streams == 1 })
	select {
	case got := <-held:
		t.Fatalf("answered early: %+v", got)
	case <-time.After(2 * holdAfter):
	}
	w.post("/v2/jobs/"+id.String()+"/cancel", "")
	if got := <-held; got.Status != protocol.StatusCancelled {
		t.Errorf("%+v", got)
	}
	// The wait's end is answered with the state as it is.
	id = w.submit("ep", `{"input": {}}`)
	if got := w.jobStatus(id, "?wait=300ms"); got.Status != protocol.StatusQueued {
		t.Errorf("%+v", got)
	}
	if w.board.Stats().Streams != 0 {
		t.Error("a subscription was left")
	}
}

// waitFor polls a condition that another goroutine brings about.
func waitFor(t testing.TB, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it never came true")
		}
	}
}

func TestBatchStatus(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	a, b := w.submit("ep", `{"input": {}}`), w.submit("ep", `{"input": {}}`)
	got := w.post("/v2/jobs/status/batch", `{"jobIds": ["`+b.String()+`", "job_none", "`+a.String()+`"], "include": ["metrics"]}`)
	var out protocol.BatchStatusResponse
	got.json(t, &out)
	if len(out.Jobs) != 2 || out.Jobs[0].JobID != b || out.Jobs[1].JobID != a || out.Jobs[0].Metrics == nil ||
		len(out.Errors) != 1 || out.Errors[0].JobID != "job_none" || out.Errors[0].Error != protocol.CodeJobNotFound {
		t.Errorf("%s", got.body)
	}
	for _, body := range []string{`{}`, `{"jobIds": "x"}`, `{"jobIds": [1]}`, `{"jobIds": ["a"], "include": ["all"]}`, `[]`} {
		if a := w.post("/v2/jobs/status/batch", body); a.status != 422 {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
}

func TestJobsOfOthersDoNotExist(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	id := w.submit("ep", `{"input": {}}`)
	c := &call{s: w.server, who: auth.Identity{Org: "org_other"}, args: params{id.String()}}
	if _, err := c.job(t.Context()); protocol.CodeOf(err) != protocol.CodeJobNotFound {
		t.Errorf("another organisation reads the job: %v", err)
	}
}

func TestListJobs(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_a", "")
	w.endpoint("ep_b", "")
	var ids []protocol.JobID
	for i := range 10 {
		name := []string{"ep_a", "ep_b"}[i%2]
		ids = append(ids, w.submit(name, `{"input": {}, "tags": {"user": "u`+string(rune('0'+i%3))+`", "all": "yes"}}`))
	}
	w.post("/v2/jobs/"+ids[4].String()+"/cancel", "")
	list := func(query string) (page protocol.Page[protocol.JobStatus]) {
		w.get("/v2/jobs"+query).json(t, &page)
		return page
	}
	for query, want := range map[string]int{
		"": 10, "?endpoint=ep_a": 5, "?tag.user=u0": 4, "?tag.user=u0&tag.all=yes": 4, "?tag.user=u0&tag.all=no": 0,
		"?status=cancelled": 1, "?status=queued,cancelled": 10, "?status=queued&status=running": 9, "?limit=3": 3,
	} {
		if got := list(query); len(got.Data) != want {
			t.Errorf("%s: %d jobs, want %d", query, len(got.Data), want)
		}
	}
	var seen int
	var last protocol.JobID
	for cursor := "?limit=3"; cursor != ""; {
		page := list(cursor)
		for _, doc := range page.Data {
			if seen > 0 && string(doc.JobID[:]) >= string(last[:]) {
				t.Error("not newest first")
			}
			last, seen = doc.JobID, seen+1
		}
		if cursor = ""; page.NextCursor != "" {
			cursor = "?limit=3&cursor=" + page.NextCursor
		}
	}
	if seen != 10 {
		t.Errorf("%d jobs over all pages", seen)
	}
	for _, query := range []string{"?status=done", "?limit=0", "?limit=x", "?limit=5000", "?cursor=abc"} {
		if a := w.get("/v2/jobs" + query); a.status != 422 {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}

func FuzzParseCursor(f *testing.F) {
	f.Add(formatCursor(protocol.JobID{1, 2, 3}))
	f.Add("AAAAAAAAAAAAAAAAAAAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		if id, ok := parseCursor(s); ok && formatCursor(id) != s {
			t.Fatalf("%q was read as %v", s, id)
		}
	})
}

func TestListFilters(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep", "")
	high := w.submit("ep", `{"input": {}, "priority": "high", "idempotencyKey": "k1"}`)
	a := w.agent()
	got := a.take()
	low := w.submit("ep", `{"input": {}, "priority": "low"}`)
	count := func(query string, want ...protocol.JobID) {
		t.Helper()
		var page protocol.Page[protocol.JobStatus]
		answer := w.get("/v2/jobs?" + query)
		answer.json(t, &page)
		var ids []protocol.JobID
		for _, doc := range page.Data {
			ids = append(ids, doc.JobID)
		}
		// Two of one millisecond have no order.
		byID := func(a, b protocol.JobID) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(ids, byID)
		slices.SortFunc(want, byID)
		if !slices.Equal(ids, want) {
			t.Errorf("%s: %v, want %v (%s)", query, ids, want, answer.body)
		}
	}
	past, future := protocol.TimeOf(time.Now().Add(-time.Hour)).String(), protocol.TimeOf(time.Now().Add(time.Hour)).String()
	count("priority=high", high)
	count("priority=high,low", low, high)
	count("priority=critical")
	count("idempotencyKey=k1", high)
	count("agent="+a.id.String(), high)
	count("agent=host-1&priority=high", high)
	count("agent=host-2")
	count("createdAfter="+past, low, high)
	count("createdAfter=" + future)
	a.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, RunMs: 1, Output: json.RawMessage("1")})
	count("agent=host-1&status=completed&endpoint=ep&createdAfter="+past, high)
	for _, query := range []string{"priority=urgent", "createdAfter=yesterday"} {
		if a := w.get("/v2/jobs?" + query); a.status != 422 {
			t.Errorf("%s: %d", query, a.status)
		}
	}
}
