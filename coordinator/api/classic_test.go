package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// newModern is a world at the newest feature level with an endpoint.
func newModern(t *testing.T) *world {
	w := newWorld(t)
	w.modern()
	w.endpoint("ep", "")
	return w
}

// both plays a scene against one node, and through a follower that has the
// leader's state and nothing of what only the leader knows.
func both(t *testing.T, scene func(t *testing.T, w, leader *world)) {
	t.Run("one node", func(t *testing.T) {
		w := newModern(t)
		scene(t, w, w)
	})
	t.Run("through a follower", func(t *testing.T) {
		w, leader, _ := pair(t)
		leader.modern()
		w.server.deps.Store, w.server.deps.Blobs, w.server.deps.Archive = leader.store, leader.server.deps.Blobs, leader.archive
		w.server.deps.Write = leader.write
		scene(t, w, leader)
	})
}

// classicJob asks for a job document and expects 200.
func (w *world) classicJob(method, path, body string) protocol.ClassicJob {
	w.t.Helper()
	var doc protocol.ClassicJob
	if a := w.do(method, path, body); a.status != http.StatusOK {
		w.t.Fatalf("%s %s: %d %s", method, path, a.status, a.body)
	} else {
		a.json(w.t, &doc)
	}
	return doc
}

func (w *world) classicRun(body string) string {
	w.t.Helper()
	doc := w.classicJob("POST", "/v2/ep/run", body)
	if doc.Status != protocol.ClassicInQueue {
		w.t.Errorf("a run is answered %s", doc.Status)
	}
	return doc.ID.String()
}

// read reads the stream once.
func (w *world) read(id string) protocol.ClassicStream {
	w.t.Helper()
	a := w.get("/v2/ep/stream/" + id + "?wait=1000")
	if a.status != http.StatusOK || !bytes.Contains(a.body, []byte(`"stream":[`)) {
		w.t.Fatalf("stream: %d %s", a.status, a.body)
	}
	var doc protocol.ClassicStream
	a.json(w.t, &doc)
	return doc
}

func (w *world) reads(id, want string) {
	w.t.Helper()
	doc := w.read(id)
	got := string(doc.Status)
	for _, c := range doc.Stream {
		got += " " + string(c.Output)
	}
	if got != want {
		w.t.Errorf("the stream says %q, want %q", got, want)
	}
}

// held waits until the leader holds a request.
func (w *world) holds() {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for w.server.held.Load() == 0 {
		<-tick.C
	}
}

func chunk(texts ...string) (out []json.RawMessage) {
	for _, text := range texts {
		out = append(out, json.RawMessage(text))
	}
	return out
}

func TestC1SuccessIsExactly200(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {"a": 1}}`)
		for _, r := range [][3]string{
			{"POST", "runsync?wait=1000", `{"input": 1}`}, {"GET", "status/" + id, ""}, {"GET", "status-sync/" + id + "?wait=1000", ""},
			{"GET", "stream/" + id + "?wait=1000", ""}, {"POST", "stream/" + id + "?wait=1000", ""}, {"GET", "health", ""},
			{"POST", "cancel/" + id, "{}"}, {"POST", "purge-queue", "{}"},
		} {
			if a := w.do(r[0], "/v2/ep/"+r[1], r[2]); a.status != http.StatusOK {
				t.Errorf("%s %s: %d %s", r[0], r[1], a.status, a.body)
			}
		}
		failed := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		agent.finish(agent.take(), protocol.Finish{Outcome: protocol.OutcomeFailed, Error: &protocol.JobError{Code: "X", Message: "no"}})
		if doc := w.classicJob("POST", "/v2/ep/retry/"+failed, ""); doc.Status != protocol.ClassicInQueue {
			t.Errorf("retried: %+v", doc)
		}
		if a := w.post("/v2/ep/retry/"+failed, ""); a.status != http.StatusConflict {
			t.Errorf("retried again: %d", a.status)
		}
	})
}

func TestC2StreamDrains(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Chunks: chunk("1", `{"a":2}`)})
		w.reads(id, `IN_PROGRESS 1 {"a":2}`)
		agent.update(got, protocol.AttemptUpdate{ChunkFrom: 2, Chunks: chunk("3")})
		w.reads(id, "IN_PROGRESS 3")
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("4"), Chunks: json.RawMessage(`[1,{"a":2},3,"4",5]`), RunMs: 1})
		w.reads(id, `COMPLETED "4" 5`) // what came with the end, and the end with it
		for range 3 {
			w.reads(id, "COMPLETED")
		}
	})
}

func TestC2TheLastPagesComeBeforeTheEnd(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		big := `"` + strings.Repeat("x", streamPage/2-10) + `"`
		digest := leader.putBlob("[" + big + "," + big + "," + big + "]")
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, ChunksRef: digest, RunMs: 1})
		for _, want := range []struct {
			status protocol.ClassicStatus
			chunks int
		}{{protocol.ClassicInProgress, 2}, {protocol.ClassicCompleted, 1}, {protocol.ClassicCompleted, 0}} {
			if doc := w.read(id); doc.Status != want.status || len(doc.Stream) != want.chunks {
				t.Errorf("%s with %d chunks, want %+v", doc.Status, len(doc.Stream), want)
			}
		}
	})
}

// TestC2NothingIsLeftOut: what the leader's memory dropped comes from the result,
// a new attempt says everything again, and so does a leader that knows nothing.
func TestC2NothingIsLeftOut(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Chunks: chunk("0")})
		w.reads(id, "IN_PROGRESS 0")
		large := `"` + strings.Repeat("x", protocol.MaxChunk-10) + `"`
		for n := range uint64(4) { // more than the board keeps: 1 and 2 are dropped
			agent.update(got, protocol.AttemptUpdate{ChunkFrom: n + 1, Chunks: chunk(large)})
		}
		if doc := w.read(id); len(doc.Stream) != 0 {
			t.Errorf("%d chunks came, although some before them are missing", len(doc.Stream))
		}
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeFailed, Retryable: true, Error: &protocol.JobError{Code: "X", Message: "no"},
			Chunks: json.RawMessage("[0,1,2]")})
		w.reads(id, "IN_QUEUE 1 2")
		got = agent.take()
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Chunks: chunk("0")})
		w.reads(id, "IN_PROGRESS 0")
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Chunks: json.RawMessage("[0,1]"), RunMs: 1})
		leader.server.drains.mu.Lock()
		leader.server.drains.young, leader.server.drains.old = nil, nil // as another leader
		leader.server.drains.mu.Unlock()
		w.reads(id, "COMPLETED 0 1")
	})
}

// TestC2ALostAnswerIsGivenAgain: a coordinator that relays a read and gets no
// answer asks again, and what the first one took must not be missing.
func TestC2ALostAnswerIsGivenAgain(t *testing.T) {
	w := newModern(t)
	id := w.classicRun(`{"input": {}}`)
	agent := w.agent()
	got := agent.take()
	agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Chunks: chunk("1")})
	for _, turn := range []struct{ name, want string }{{"a", `[{"output":1}]`}, {"a", `[{"output":1}]`}, {"b", `[]`}} {
		a := w.relayed("/v2/ep/stream/"+id+"?wait=1000", "0", protocol.HeaderRelayTurn, turn.name)
		if !strings.Contains(string(a.body), `"stream":`+turn.want) {
			t.Errorf("turn %s: %s, want %s", turn.name, a.body, turn.want)
		}
	}
}

func TestC2DrainsAreBounded(t *testing.T) {
	var d drains
	first := d.of(protocol.JobID{1})
	for n := range 3 * maxDrains {
		d.of(protocol.JobID{2, byte(n), byte(n >> 8), byte(n >> 16)})
		if n%1000 == 0 && d.of(protocol.JobID{1}) != first {
			t.Fatal("a job that is read is forgotten")
		}
	}
	if n := len(d.young) + len(d.old); n > 2*maxDrains {
		t.Errorf("%d are remembered", n)
	}
}

func TestC3RequestsAreHeld(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		streamed, synced := make(chan protocol.ClassicStream, 1), make(chan protocol.ClassicJob, 1)
		ask := func() {
			go func() {
				var doc protocol.ClassicStream
				w.get("/v2/ep/stream/"+id).json(t, &doc)
				streamed <- doc
			}()
			leader.holds()
		}
		ask()
		agent := leader.agent()
		got := agent.take()
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1})
		if doc := <-streamed; doc.Status != protocol.ClassicInProgress || len(doc.Stream) != 0 {
			t.Errorf("at the start: %+v", doc)
		}
		ask()
		agent.update(got, protocol.AttemptUpdate{Chunks: chunk("1")})
		if doc := <-streamed; len(doc.Stream) != 1 {
			t.Errorf("at a chunk: %+v", doc)
		}
		go func() { synced <- w.classicJob("GET", "/v2/ep/status-sync/"+id, "") }()
		leader.holds()
		agent.update(got, protocol.AttemptUpdate{ChunkFrom: 1, Chunks: chunk("2")}) // no reason to answer
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"b":1}`), RunMs: 5})
		if doc := <-synced; doc.Status != protocol.ClassicCompleted || string(doc.Output) != `{"b":1}` {
			t.Errorf("at the end: %+v", doc)
		}
	})
}

func TestC3WaitsAreClamped(t *testing.T) {
	w := newWorld(t)
	c := &call{s: w.server, classic: true, began: time.Now()}
	for _, row := range []struct {
		raw          string
		usual, most  time.Duration
		waited, want time.Duration
	}{
		{"", classicWait, maxClassicWait, 0, 90 * time.Second}, {"5000", classicWait, maxClassicWait, 0, 5 * time.Second},
		{"1", classicWait, maxClassicWait, 0, time.Second}, {"-7", classicWait, maxClassicWait, 0, time.Second},
		{"999999999", classicWait, maxClassicWait, 0, 300 * time.Second}, {"90000", streamHold, streamHold, 0, 8 * time.Second},
		{"5000", classicWait, maxClassicWait, 2 * time.Second, 3 * time.Second},
	} {
		c.waited = row.waited
		end, err := c.waitFor(row.raw, row.usual, row.most)
		if err != nil || end.Sub(c.began) != row.want || c.deadline.Sub(end) != classicGrace {
			t.Errorf("%q: %v, %v; want %v", row.raw, end.Sub(c.began), err, row.want)
		}
	}
	if _, err := c.waitFor("soon", classicWait, maxClassicWait); protocol.CodeOf(err) != protocol.CodeValidation {
		t.Errorf("a wait that is no number: %v", err)
	}
}

func TestC4NoLeaderIsAnsweredFast(t *testing.T) {
	w := newModern(t)
	id := w.classicRun(`{"input": {}}`)
	none := protocol.NewError(protocol.CodeNoLeader, "nobody leads").With("outcome", "none")
	w.mu.Lock()
	w.leader = none
	w.mu.Unlock()
	w.server.deps.Barrier = func(context.Context) error { return none }
	for _, r := range [][2]string{{"POST", "run"}, {"POST", "runsync"}, {"GET", "status/" + id}, {"GET", "status-sync/" + id}, {"GET", "stream/" + id}, {"POST", "cancel/" + id}, {"GET", "health"}, {"POST", "purge-queue"}} {
		body := ""
		if r[0] == "POST" {
			body = `{"input": {}}`
		}
		a := w.do(r[0], "/v2/ep/"+r[1], body)
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || a.fault(t).Code != protocol.CodeNoLeader {
			t.Errorf("%s: %d %s", r[1], a.status, a.body)
		}
	}
}

// TestC4AWriteThatHangsIsAnswered before the clients give up, and says that it may
// have happened.
func TestC4AWriteThatHangsIsAnswered(t *testing.T) {
	w := newModern(t)
	id := w.classicRun(`{"input": {}}`)
	w.server.deps.Write = func(ctx context.Context, _ *command.Command) (command.Result, error) {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > quickTime {
			t.Errorf("a write may take until %v", end)
		}
		return command.Result{}, context.DeadlineExceeded
	}
	for _, path := range []string{"run", "runsync", "cancel/" + id, "purge-queue"} {
		a := w.post("/v2/ep/"+path, `{"input": {}}`)
		if e := a.fault(t); a.status != http.StatusServiceUnavailable || e.Details["outcome"] != "unknown" {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

func TestC5AnExpiredWaitAnswersTheID(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		doc := w.classicJob("POST", "/v2/ep/runsync?wait=1000", `{"input": {"a": 1}}`)
		if doc.ID.IsZero() || doc.Status != protocol.ClassicInQueue {
			t.Fatalf("%+v", doc)
		}
		agent := leader.agent()
		got := agent.take() // it goes on
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1})
		if now := w.classicJob("GET", "/v2/ep/status-sync/"+doc.ID.String()+"?wait=1000", ""); now.Status != protocol.ClassicInProgress {
			t.Errorf("%+v", now)
		}
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 5})
		if now := w.classicJob("GET", "/v2/ep/status/"+doc.ID.String(), ""); now.Status != protocol.ClassicCompleted {
			t.Errorf("%+v", now)
		}
	})
}

// TestC5ALostLeaderDoesNotLoseTheID: the job of a runsync exists, and its id is
// answered, whatever becomes of the wait.
func TestC5ALostLeaderDoesNotLoseTheID(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		done := make(chan protocol.ClassicJob, 1)
		lost := make(chan struct{})
		if w == leader {
			w.server.deps.Cluster = losing{standing{w: w}, lost}
		}
		go func() { done <- w.classicJob("POST", "/v2/ep/runsync?wait=60000", `{"input": {}}`) }()
		leader.holds()
		none := protocol.NewError(protocol.CodeNoLeader, "nobody leads").With("outcome", "none")
		leader.mu.Lock()
		leader.leader = none
		leader.mu.Unlock()
		close(lost)
		if w != leader {
			w.server.lines.mu.Lock()
			for ln := range w.server.lines.busy {
				ln.Close()
			}
			w.server.lines.mu.Unlock()
		}
		if doc := <-done; doc.ID.IsZero() || doc.Status != protocol.ClassicInQueue {
			t.Errorf("%+v", doc)
		}
	})
}

// losing is a node whose leadership ends when lost is closed.
type losing struct {
	standing
	lost chan struct{}
}

func (l losing) Leads() (Leadership, bool) {
	_, leads := l.standing.Leads()
	return Leadership{Lost: l.lost}, leads
}

func (l losing) Seek() Seek { return l }

func TestC6WhatClientsSendIsTaken(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		agent := leader.agent()
		for body, input := range map[string]string{
			`{"input": {"a": 1}, "timeout": 60000, "x": [1], "async": true}`: `{"a":1}`,
			`{"input": {"input": {}}}`:                                       `{"input":{}}`, // the Python client wraps
			`{"input": [1, "b"]}`:                                            `[1,"b"]`,
			`{"input": "text"}`:                                              `"text"`,
			`{"input": 7.5}`:                                                 `7.5`,
			`{"input": false}`:                                               `false`,
			`{"input": null, "webhook": null}`:                               `null`,
		} {
			id := w.classicRun(body)
			got := agent.take()
			if string(got.Input) != input {
				t.Errorf("%s reached the handler as %s", body, got.Input)
			}
			agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 1})
			w.post("/v2/ep/cancel/"+id, "")
		}
		id := w.classicRun(`{"input": {}}`)
		for _, header := range []string{testKey, "Bearer " + testKey, "bearer " + testKey} {
			if a := w.do("GET", "//v2//ep///status/"+id+"/", "", "Authorization", header); a.status != http.StatusOK {
				t.Errorf("%q: %d %s", header, a.status, a.body)
			}
		}
		for _, body := range []string{"", "{}", "null", `{"unknown": 1}`} {
			for _, path := range []string{"cancel/" + id, "purge-queue", "stream/" + id + "?wait=1000"} {
				if a := w.post("/v2/ep/"+path, body); a.status != http.StatusOK {
					t.Errorf("%s with %q: %d %s", path, body, a.status, a.body)
				}
			}
		}
		for _, body := range []string{"", "{}", "[]"} {
			if a := w.post("/v2/ep/run", body); a.status != http.StatusBadRequest && a.status != http.StatusUnprocessableEntity {
				t.Errorf("a run with %q: %d", body, a.status)
			}
		}
	})
}

func TestC7TypesAreWhatStrictClientsDecode(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}, "policy": {"executionTimeout": 5000, "ttl": 10000, "lowPriority": true}}`)
		if !regexp.MustCompile(`^[A-Za-z0-9_-]+$`).MatchString(id) {
			t.Errorf("the id %s does not fit into a path", id)
		}
		agent := leader.agent()
		got := agent.take()
		if got.ExecutionMs != 5000 || got.Priority != protocol.PriorityLow {
			t.Errorf("assigned with %d ms and priority %s", got.ExecutionMs, got.Priority)
		}
		agent.update(got, protocol.AttemptUpdate{StartedMs: 3})
		running := w.classicJob("GET", "/v2/ep/status/"+id, "")
		if running.DelayTime == nil || running.ExecutionTime != nil || running.WorkerID != agent.id.String() {
			t.Errorf("running: %+v", running)
		}
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeFailed, RunMs: 1234,
			Error: &protocol.JobError{Code: "BAD", Message: "it broke", Details: map[string]any{"a": 1}}})
		a := w.get("/v2/ep/status/" + id)
		var strict struct {
			ID, Status, Error, WorkerID string
			DelayTime, ExecutionTime    *int
			Retries                     int
		}
		a.json(t, &strict)
		if strict.Status != "FAILED" || strict.Error != "it broke" || *strict.ExecutionTime != 1234 || strict.DelayTime == nil {
			t.Errorf("%s", a.body)
		}
		if s := w.read(id); s.Status != protocol.ClassicFailed || s.Error != "it broke" {
			t.Errorf("stream: %+v", s)
		}
	})
}

func TestC7TheDelayIncludesTheColdStart(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		agent.update(got, protocol.AttemptUpdate{Substate: protocol.SubstateWarmingUp})
		if doc := w.classicJob("GET", "/v2/ep/status/"+id, ""); doc.Status != protocol.ClassicInQueue || doc.DelayTime != nil {
			t.Errorf("while it loads: %+v", doc)
		}
	})
}

func TestC8LateProgressDoesNotUndoTheEnd(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		percent := 50.0
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1, Progress: &protocol.Progress{Percent: &percent, Step: "half"}})
		if doc := w.classicJob("GET", "/v2/ep/status/"+id, ""); doc.Status != protocol.ClassicInProgress || string(doc.Output) != `{"percent":50,"step":"half"}` {
			t.Errorf("while it runs: %+v %s", doc, doc.Output)
		}
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`"end"`), RunMs: 1})
		agent.report(protocol.ReportRequest{Attempts: []protocol.AttemptUpdate{{Job: got.Job, Attempt: got.Attempt, Progress: &protocol.Progress{Step: "late"}}}})
		if doc := w.classicJob("GET", "/v2/ep/status/"+id, ""); doc.Status != protocol.ClassicCompleted || string(doc.Output) != `"end"` {
			t.Errorf("after its end: %+v %s", doc, doc.Output)
		}
	})
}

func TestC9CancelIsIdempotent(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		for range 2 {
			if doc := w.classicJob("POST", "/v2/ep/cancel/"+id, ""); doc.Status != protocol.ClassicCancelled || doc.ID.String() != id {
				t.Errorf("%+v", doc)
			}
		}
		done := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		agent.finish(agent.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 1})
		if doc := w.classicJob("POST", "/v2/ep/cancel/"+done, "{}"); doc.Status != protocol.ClassicCompleted {
			t.Errorf("of a completed job: %+v", doc)
		}
	})
}

// TestC9ACancelThatComesTooLateIsNoError: the job ended between the look at it and
// the command.
func TestC9ACancelThatComesTooLateIsNoError(t *testing.T) {
	w := newModern(t)
	id := w.classicRun(`{"input": {}}`)
	agent := w.agent()
	got := agent.take()
	w.server.deps.Write = func(ctx context.Context, c *command.Command) (command.Result, error) {
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 1})
		return w.write(ctx, c)
	}
	if doc := w.classicJob("POST", "/v2/ep/cancel/"+id, ""); doc.Status != protocol.ClassicCompleted {
		t.Errorf("%+v", doc)
	}
}

func TestC10PurgeRemovesWhatWaits(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		leader.endpoint("other", "")
		running := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		agent.update(agent.take(), protocol.AttemptUpdate{StartedMs: 1})
		var queued []string
		for range command.MaxPurge + 3 {
			queued = append(queued, w.classicRun(`{"input": {}}`))
		}
		held := queued[0]
		w.post("/v2/jobs/"+held+"/pause", "")
		other := leader.submit("other", `{"input": {}}`)
		var out protocol.PurgeResponse
		w.post("/v2/ep/purge-queue", "").json(t, &out)
		if out.Removed != int64(len(queued))-1 || out.Status != "completed" {
			t.Errorf("%+v", out)
		}
		for id, want := range map[string]protocol.ClassicStatus{
			running: protocol.ClassicInProgress, held: protocol.ClassicInQueue,
			queued[1]: protocol.ClassicCancelled, queued[len(queued)-1]: protocol.ClassicCancelled,
		} {
			if doc := w.classicJob("GET", "/v2/ep/status/"+id, ""); doc.Status != want {
				t.Errorf("%s is %s, want %s", id, doc.Status, want)
			}
		}
		if doc := leader.jobStatus(other, ""); doc.Status != protocol.StatusQueued {
			t.Errorf("another endpoint's job is %s", doc.Status)
		}
		w.post("/v2/endpoints/ep/purge", "").json(t, &out)
		if out.Removed != 0 {
			t.Errorf("again: %+v", out)
		}
		if a := w.post("/v2/none/purge-queue", ""); a.status != http.StatusNotFound {
			t.Errorf("an unknown endpoint: %d", a.status)
		}
	})
}

// TestC11AReaderThatDoesNotBelieveCancelledIsSlowed: the Python client asks for
// ever, without a pause of its own that would spare us.
func TestC11AReaderThatDoesNotBelieveCancelledIsSlowed(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		id := w.classicRun(`{"input": {}}`)
		w.post("/v2/ep/cancel/"+id, "")
		w.reads(id, "CANCELLED") // at once
		again := make(chan protocol.ClassicStream, 1)
		go func() { again <- w.read(id) }()
		leader.holds()
		if doc := <-again; doc.Status != protocol.ClassicCancelled || len(doc.Stream) != 0 {
			t.Errorf("%+v", doc)
		}
		done := w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		agent.finish(agent.take(), protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 1})
		for range 3 {
			w.reads(done, "COMPLETED")
		}
	})
}

func TestC12ErrorsAreThoseOfTheSeeds(t *testing.T) {
	both(t, func(t *testing.T, w, _ *world) {
		id := w.classicRun(`{"input": {}}`)
		for name, r := range map[string]struct {
			a      answer
			status int
			code   protocol.Code
		}{
			"unknown job":      {w.get("/v2/ep/status/job_unknown"), 404, protocol.CodeJobNotFound},
			"a job elsewhere":  {w.get("/v2/other/status/" + id), 404, protocol.CodeJobNotFound},
			"stream of none":   {w.get("/v2/ep/stream/" + protocol.NewJobID(time.Now()).String()), 404, protocol.CodeJobNotFound},
			"unknown endpoint": {w.post("/v2/none/run", `{"input": {}}`), 404, protocol.CodeEndpointNotFound},
			"no input":         {w.post("/v2/ep/run", `{"a": 1}`), 422, protocol.CodeValidation},
			"policy":           {w.post("/v2/ep/run", `{"input": {}, "policy": {"executionTimeout": 5}}`), 422, protocol.CodeValidation},
			"a bad wait":       {w.get("/v2/ep/status-sync/" + id + "?wait=long"), 422, protocol.CodeValidation},
			"no JSON":          {w.post("/v2/ep/run", `{`), 400, protocol.CodeMalformed},
			"no key":           {w.do("GET", "/v2/ep/health", "", "Authorization", ""), 401, protocol.CodeUnauthorized},
			"a wrong key":      {w.do("POST", "/v2/ep/run", `{"input": {}}`, "Authorization", "Bearer wrong"), 401, protocol.CodeUnauthorized},
		} {
			if e := r.a.fault(t); r.a.status != r.status || e.Code != r.code || e.Message == "" || e.RequestID == "" {
				t.Errorf("%s: %d %s", name, r.a.status, r.a.body)
			}
		}
		if a := w.post("/v2/ep/openai/v1/chat/completions", `{"model": "x"}`); a.status != http.StatusNotImplemented || !strings.Contains(string(a.body), `"error":{"message":`) {
			t.Errorf("openai: %d %s", a.status, a.body)
		}
	})
}

func TestC13ReservedIdsAreNoEndpoints(t *testing.T) {
	w := newModern(t)
	for _, id := range []string{"jobs", "endpoints", "models", "predictions", "health", "openai", "v1", "v2"} {
		if a := w.post("/v2/endpoints", `{"id": "`+id+`", "runtime": {"kind": "builtin"}}`); a.status != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d", id, a.status)
		}
	}
	// Where both dialects could be meant, the native route is.
	w.endpoint("status", "")
	id := w.submit("status", `{"input": {}}`)
	if a := w.post("/v2/jobs/status/batch", `{"jobIds": ["`+id.String()+`"]}`); a.status != http.StatusOK {
		t.Errorf("batch: %d", a.status)
	}
	if doc := w.classicJob("GET", "/v2/status/status/"+id.String(), ""); doc.ID != id {
		t.Errorf("%+v", doc)
	}
}

func TestC14FollowersDoNotRedirect(t *testing.T) {
	w, leader, _ := pair(t)
	w.server.deps.Store, w.server.deps.Write = leader.store, leader.write
	w.http.CheckRedirect = func(r *http.Request, _ []*http.Request) error { return fmt.Errorf("redirected to %s", r.URL) }
	id := w.classicRun(`{"input": {}}`)
	for _, path := range []string{"status/" + id, "stream/" + id + "?wait=1000", "health", "status-sync/" + id + "?wait=1000"} {
		if a := w.get("/v2/ep/" + path); a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
	}
}

// putBlob stores a blob as an agent does.
func (w *world) putBlob(text string) *protocol.BlobRef {
	w.t.Helper()
	digest, size, err := w.server.deps.Blobs.Put(context.Background(), strings.NewReader(text), nil, protocol.MaxOutput)
	if err != nil {
		w.t.Fatal(err)
	}
	return &protocol.BlobRef{SHA256: fmt.Sprintf("%x", digest[:]), Size: size}
}

func TestClassicOutputsComeWholeHoweverLarge(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		large := `{"x":"` + strings.Repeat("y", 3<<20) + `"}`
		agent := leader.agent()
		synced := make(chan protocol.ClassicJob, 1)
		go func() { synced <- w.classicJob("POST", "/v2/ep/runsync", `{"input": {}}`) }()
		got := agent.take()
		leader.holds()
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, OutputRef: leader.putBlob(large), RunMs: 7})
		doc := <-synced
		if string(doc.Output) != large || doc.Status != protocol.ClassicCompleted || *doc.ExecutionTime != 7 || doc.WorkerID == "" {
			t.Errorf("runsync: %s with %d bytes of output", doc.Status, len(doc.Output))
		}
		for _, path := range []string{"status/", "status-sync/"} {
			if doc := w.classicJob("GET", "/v2/ep/"+path+doc.ID.String(), ""); string(doc.Output) != large {
				t.Errorf("%s: %d bytes of output", path, len(doc.Output))
			}
		}
	})
}

func TestClassicSubmitsAreTheNativeOnes(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		const secret = "s3-secret-7f3a"
		id := w.classicRun(`{"input": {"a": 1}, "webhook": "https://example.com/a", "webhookV2": "https://example.com/b", "idempotencyKey": "k",
			"s3Config": {"accessId": "id", "accessSecret": "` + secret + `", "bucketName": "b", "endpointUrl": "https://s3.example.com"}}`)
		job, err := protocol.ParseJobID(id)
		if err != nil {
			t.Fatal(err)
		}
		doc := leader.jobStatus(job, "")
		if doc.CallbackURL != "https://example.com/a" || doc.EndpointID != "ep" {
			t.Errorf("%+v", doc)
		}
		if again := w.classicRun(`{"input": {"a":1}, "callbackUrl": "https://example.com/a", "idempotencyKey": "k", "s3Config": {"accessId":"id","accessSecret":"` + secret + `","bucketName":"b","endpointUrl":"https://s3.example.com"}}`); again != id {
			t.Errorf("the same payload is job %s", again)
		}
		if a := w.post("/v2/ep/run", `{"input": {"a": 1}, "webhook": "https://example.com/a", "idempotencyKey": "k"}`); a.status != http.StatusUnprocessableEntity {
			t.Errorf("another s3Config: %d %s", a.status, a.body)
		}
		second := w.classicRun(`{"input": 1, "webhookV2": "https://example.com/b"}`)
		if job, _ := protocol.ParseJobID(second); leader.jobStatus(job, "").CallbackURL != "https://example.com/b" {
			t.Errorf("webhookV2 alone is not taken")
		}
		agent := leader.agent()
		if got := agent.take(); !strings.Contains(string(got.S3Config), secret) {
			t.Errorf("the handler gets %s", got.S3Config)
		}
		for _, path := range []string{"/v2/ep/status/" + id, "/v2/jobs/" + id + "/status?include=logs,metrics,resources", "/v2/jobs/" + id + "/events", "/v2/jobs", "/v2/jobs/" + id + "/explain"} {
			if a := w.get(path); strings.Contains(string(a.body), secret) {
				t.Errorf("%s shows the secret: %s", path, a.body)
			}
		}
		if a := w.post("/v2/ep/run", `{"input": 1, "s3Config": "`+secret+`"}`); a.status != http.StatusUnprocessableEntity || strings.Contains(string(a.body), secret) {
			t.Errorf("a bad s3Config: %d %s", a.status, a.body)
		}
		for _, each := range []*world{w, leader} {
			each.mu.Lock()
			if strings.Contains(each.logged.String(), secret) {
				t.Errorf("the log shows the secret")
			}
			each.mu.Unlock()
		}
	})
}

func TestNewThingsWaitForTheLastUpgrade(t *testing.T) {
	old := newWorld(t)
	old.endpoint("ep", "")
	id := old.submit("ep", `{"input": {}}`).String()
	for _, r := range [][2]string{
		{"/v2/ep/run", `{"input": {}, "s3Config": {"a": "b"}}`}, {"/v2/jobs/" + id + "/pause", ""}, {"/v2/jobs/" + id + "/resume", ""},
		{"/v2/endpoints/ep/pause", ""}, {"/v2/endpoints/ep/resume", ""}, {"/v2/endpoints/ep/purge", ""}, {"/v2/ep/purge-queue", ""},
	} {
		a := old.post(r[0], r[1])
		if e := a.fault(t); a.status != http.StatusServiceUnavailable || e.Details["outcome"] != "none" || !strings.Contains(e.Message, "runs this version") {
			t.Errorf("%s: %d %s", r[0], a.status, a.body)
		}
	}
	if a := old.post("/v2/ep/run", `{"input": {}}`); a.status != http.StatusOK {
		t.Errorf("what the old version knows: %d %s", a.status, a.body)
	}
}

func TestClassicHealthIsMeasured(t *testing.T) {
	both(t, func(t *testing.T, w, leader *world) {
		want := func(what string, jobs protocol.ClassicJobs, workers protocol.ClassicWorkers) {
			t.Helper()
			var doc protocol.ClassicHealth
			if w.get("/v2/ep/health").json(t, &doc); doc.Jobs != jobs || doc.Workers != workers {
				t.Errorf("%s: %+v", what, doc)
			}
		}
		want("at first", protocol.ClassicJobs{}, protocol.ClassicWorkers{})
		first := w.classicRun(`{"input": {}}`)
		w.classicRun(`{"input": {}}`)
		agent := leader.agent()
		got := agent.take()
		want("while one loads", protocol.ClassicJobs{InQueue: 2}, protocol.ClassicWorkers{Initializing: 1})
		agent.update(got, protocol.AttemptUpdate{StartedMs: 1})
		want("while one runs", protocol.ClassicJobs{InQueue: 1, InProgress: 1}, protocol.ClassicWorkers{Running: 1})
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeFailed, Error: &protocol.JobError{Code: "X", Message: "no"}})
		w.post("/v2/ep/retry/"+first, "")
		got = agent.take()
		agent.finish(got, protocol.Finish{Outcome: protocol.OutcomeCompleted, Output: json.RawMessage("1"), RunMs: 1})
		var doc protocol.ClassicHealth
		w.get("/v2/ep/health").json(t, &doc)
		if want := (protocol.ClassicJobs{Completed: 1, Failed: 1, Retried: 1, InQueue: 1}); doc.Jobs != want {
			t.Errorf("at the end: %+v", doc.Jobs)
		}
		if a := w.get("/v2/none/health"); a.status != http.StatusNotFound {
			t.Errorf("an unknown endpoint: %d", a.status)
		}
	})
}
