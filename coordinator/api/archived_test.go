package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/archive"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// move puts ended jobs of the table into a segment.
func (w *world) move(ids ...protocol.JobID) *command.Segment {
	w.t.Helper()
	view := w.store.View()
	var rows []*state.Job
	cmd := &command.Archive{Number: view.Meta().Segment + 1}
	slices.SortFunc(ids, func(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range ids {
		row := view.Job(id)
		rows = append(rows, row)
		cmd.Jobs = append(cmd.Jobs, &command.Archived{Job: row.ID[:], Index: row.Index})
	}
	cmd.Segment = w.segment(rows...)
	w.must(&command.Command{Op: &command.Command_Archive{Archive: cmd}})
	for _, id := range ids {
		if w.store.Job(id) != nil {
			w.t.Fatalf("%s is still in the table", id)
		}
	}
	return cmd.Segment
}

// segment stores a segment of rows.
func (w *world) segment(rows ...*state.Job) *command.Segment {
	w.t.Helper()
	wr := w.server.deps.Archive.NewWriter()
	for _, row := range rows {
		if err := wr.Add(row); err != nil {
			w.t.Fatal(err)
		}
	}
	file, segment := wr.Finish(w.store.View().Meta().Segment + 1)
	if _, _, err := w.server.deps.Blobs.Put(w.t.Context(), bytes.NewReader(file), nil, archive.MaxSegment); err != nil {
		w.t.Fatal(err)
	}
	return segment
}

func (w *world) must(c *command.Command) {
	w.t.Helper()
	r, err := w.write(w.t.Context(), c)
	if err != nil || r.Code != "" {
		w.t.Fatalf("%v: %+v, %v", c, r, err)
	}
}

// put stores a payload as an agent does.
func (w *world) put(text string) *protocol.BlobRef {
	w.t.Helper()
	digest, size, err := w.server.deps.Blobs.Put(w.t.Context(), strings.NewReader(text), nil, 1<<20)
	if err != nil {
		w.t.Fatal(err)
	}
	return &protocol.BlobRef{SHA256: fmt.Sprintf("%x", digest), Size: size}
}

// endings makes jobs that ended in every way, and returns them in the order of
// their ids, which nearly is that of their creation.
func (w *world) endings() []protocol.JobID {
	w.t.Helper()
	w.endpoint("ep_other", "")
	var ids []protocol.JobID
	a := w.agent()
	run := func(body string, f protocol.Finish) {
		w.t.Helper()
		w.submit("ep_echo", body)
		got := a.take()
		a.update(got, protocol.AttemptUpdate{StartedMs: 9, Logs: []protocol.LogLine{{Time: protocol.Time(nowMs()), Source: "stdout", Line: "hello"}}})
		f.RunMs = 9
		a.finish(got, f)
		if row := w.store.Job(got.Job); row.Live() {
			w.t.Fatalf("%s is %s", body, row.Status)
		}
		ids = append(ids, got.Job)
	}
	lines, err := json.Marshal([]protocol.LogLine{{Time: 1_700_000_000_000, Source: "stdout", Line: "one"}, {Time: 1_700_000_000_500, Source: "stderr", Line: "two"}})
	if err != nil {
		w.t.Fatal(err)
	}
	run(`{"input":{"n":1},"tags":{"kind":"small"},"idempotencyKey":"key-1","callbackUrl":"https://example.com/h"}`, protocol.Finish{
		Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"b": 2,  "a":[1.0]}`), Logs: lines,
		Usage: &protocol.Usage{CPUPercent: 12.5, CPUMs: 900, Memory: 5 << 20, PeakMemory: 6 << 20},
	})
	run(`{"input":{"n":2}}`, protocol.Finish{
		Outcome: protocol.OutcomeCompleted, OutputRef: w.put(`"` + strings.Repeat("large ", 30_000) + `"`),
		LogsRef: w.put(string(lines)), Chunks: json.RawMessage(`[1,2]`),
	})
	run(`{"input":{"n":3},"priority":"high"}`, protocol.Finish{
		Outcome: protocol.OutcomeFailed, Error: &protocol.JobError{Code: "HANDLER_ERROR", Message: "it broke", Details: map[string]any{"line": 7}},
	})
	run(`{"input":{"n":4}}`, protocol.Finish{Outcome: protocol.OutcomeTimeout, Partial: json.RawMessage(`[1,2]`)})
	for n := range 4 {
		id := w.submit([]string{"ep_other", "ep_echo"}[n%2], fmt.Sprintf(`{"input":{"m":%d},"tags":{"kind":"cancelled"}}`, n))
		if got := w.post("/v2/jobs/"+id.String()+"/cancel", ""); got.status != 200 {
			w.t.Fatalf("%d %s", got.status, got.body)
		}
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) })
	return ids
}

// asked is everything that can be read of some jobs: the answer of every route,
// with its status and the headers that mean something.
func (w *world) asked(ids []protocol.JobID) map[string]string {
	w.t.Helper()
	out := make(map[string]string)
	note := func(what string, a answer) {
		body := regexp.MustCompile(`"requestId":"[^"]*"`).ReplaceAllString(string(a.body), "")
		out[what] = fmt.Sprintf("%d %s %s %s", a.status, a.header.Get("ETag"), a.header.Get("Content-Type"), body)
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i] = `"` + id.String() + `"`
		base := "/v2/jobs/" + id.String()
		for _, path := range []string{
			"/status", "/status?include=logs,metrics,resources", "/status?format=summary", "/status?wait=10s", "/status?consistency=stale",
			"/output", "/logs", "/events", "/explain", "/status/stream",
		} {
			note(path+" "+id.String(), w.get(base+path))
		}
		etag := w.get(base + "/status").header.Get("ETag")
		note("matching "+id.String(), w.get(base+"/status", "If-None-Match", etag))
		note("last event "+id.String(), w.get(base+"/status/stream", "Last-Event-ID", strings.Trim(etag, `"`)))
		note("cancel "+id.String(), w.post(base+"/cancel", ""))
	}
	for _, include := range []string{`[]`, `["logs","metrics","resources"]`} {
		note("batch "+include, w.post("/v2/jobs/status/batch", `{"jobIds":[`+strings.Join(texts, ",")+`,"job_00000000000000000000000000","x"],"include":`+include+`}`))
	}
	for _, query := range []string{
		"", "limit=1", "limit=3", "status=completed", "status=running,queued", "status=cancelled,failed&limit=2", "endpoint=ep_other", "tag.kind=cancelled&limit=1",
		"idempotencyKey=key-1", "endpoint=none",
	} {
		for page, cursor := 0, ""; page == 0 || cursor != ""; page++ {
			a := w.get("/v2/jobs?" + query + cursor)
			note(fmt.Sprintf("list %s page %d", query, page), a)
			var list protocol.Page[json.RawMessage]
			a.json(w.t, &list)
			if cursor = ""; list.NextCursor != "" {
				cursor = "&cursor=" + list.NextCursor
			}
		}
	}
	note("same key", w.post("/v2/endpoints/ep_echo/runasync", `{"input":{"n":1},"tags":{"kind":"small"},"idempotencyKey":"key-1","callbackUrl":"https://example.com/h"}`))
	note("other payload", w.post("/v2/endpoints/ep_echo/runasync", `{"input":{"n":9},"idempotencyKey":"key-1"}`))
	return out
}

func (w *world) compare(before, after map[string]string) {
	w.t.Helper()
	if len(before) != len(after) {
		w.t.Errorf("%d answers, before %d", len(after), len(before))
	}
	for what, want := range before {
		if got := after[what]; got != want {
			w.t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
}

// TestArchivedJobsAnswerTheSame records the answer of every route, archives the
// jobs in parts, and compares; each time the lists cross between table and
// archive in other places.
func TestArchivedJobsAnswerTheSame(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", `, "policy": {"maxAttempts": 1}`)
	ids := w.endings()
	before := w.asked(ids)
	w.move(ids[1], ids[4], ids[7]) // ranges that overlap
	w.compare(before, w.asked(ids))
	w.move(ids[0], ids[5])
	w.compare(before, w.asked(ids))
	w.move(ids[2], ids[3], ids[6])
	if jobs, _ := w.store.View().Ended(); jobs != 0 {
		t.Fatalf("%d jobs are still in the table", jobs)
	}
	w.compare(before, w.asked(ids))
	if len(before) < 120 {
		t.Errorf("only %d answers were compared", len(before))
	}
}

func TestRetryOfAnArchivedJob(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", "")
	ids := w.endings()
	w.move(ids...)
	var list protocol.Page[protocol.JobStatus]
	w.get("/v2/jobs?idempotencyKey=key-1").json(t, &list)
	id := list.Data[0].JobID
	path := "/v2/jobs/" + id.String()
	// listed is what the list of all shows of the job: once.
	listed := func() protocol.JobStatus {
		t.Helper()
		w.get("/v2/jobs").json(t, &list)
		at := slices.IndexFunc(list.Data, func(s protocol.JobStatus) bool { return s.JobID == id })
		if len(list.Data) != len(ids) || at < 0 {
			t.Fatalf("the list has %d jobs, %s at %d", len(list.Data), id, at)
		}
		return list.Data[at]
	}
	var doc protocol.JobStatus
	a := w.post(path+"/retry", "")
	if a.json(t, &doc); a.status != 200 || doc.Status != protocol.StatusQueued || doc.JobID != id {
		t.Fatalf("%d %s", a.status, a.body)
	}
	if a := w.post(path+"/retry", ""); a.status != 409 {
		t.Errorf("a retry of a job that waits: %d %s", a.status, a.body)
	}
	if s := listed(); s.Status != protocol.StatusQueued {
		t.Errorf("the list shows it %s", s.Status)
	}
	host := w.agent()
	got := host.take()
	if got.Job != id || string(got.Input) != `{"n":1}` {
		t.Fatalf("the agent was given %+v", got)
	}
	host.report(protocol.ReportRequest{Finished: []protocol.Finish{{Job: got.Job, Attempt: got.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`"second"`)}}})
	want := w.get(path + "/status")
	w.move(id)
	if again := w.get(path + "/status"); string(again.body) != string(want.body) || !strings.Contains(string(again.body), "second") {
		t.Errorf("archived again it is %s, was %s", again.body, want.body)
	}
	if s := listed(); string(s.Output) != `"second"` {
		t.Errorf("the list shows output %s", s.Output)
	}
}

// TestForeignArchivedJob: another organisation's archived job is the same 404 as
// an id that never was.
func TestForeignArchivedJob(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", "")
	ids := w.endings()
	foreign := *w.store.Job(ids[1])
	foreign.Org = "org_other"
	w.must(&command.Command{Op: &command.Command_Archive{Archive: &command.Archive{Number: 1, Segment: w.segment(&foreign)}}})
	w.must(&command.Command{Op: &command.Command_Evict{Evict: &command.Evict{Jobs: [][]byte{ids[1][:]}}}})
	never := protocol.NewJobID(time.UnixMilli(int64(ids[1].CreatedAt())))
	for _, path := range []string{"/status", "/output", "/logs", "/events", "/explain", "/status/stream"} {
		checkSame404(t, w.get("/v2/jobs/"+ids[1].String()+path), w.get("/v2/jobs/"+never.String()+path), ids[1], never)
	}
	for _, path := range []string{"/cancel", "/retry"} {
		checkSame404(t, w.post("/v2/jobs/"+ids[1].String()+path, ""), w.post("/v2/jobs/"+never.String()+path, ""), ids[1], never)
	}
	if a := w.get("/v2/jobs"); strings.Contains(string(a.body), ids[1].String()) {
		t.Error("a list shows another organisation's job")
	}
	var batch protocol.BatchStatusResponse
	w.post("/v2/jobs/status/batch", fmt.Sprintf(`{"jobIds":[%q,%q]}`, ids[1], never)).json(t, &batch)
	if len(batch.Jobs) != 0 || len(batch.Errors) != 2 || batch.Errors[0].Error != batch.Errors[1].Error {
		t.Errorf("batch answers %+v", batch)
	}
}

func checkSame404(t *testing.T, a, b answer, idA, idB protocol.JobID) {
	t.Helper()
	plain := func(x answer, id protocol.JobID) string {
		e := x.fault(t)
		e.RequestID = ""
		text, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(x.status, strings.ReplaceAll(string(text), id.String(), "ID"))
	}
	if x, y := plain(a, idA), plain(b, idB); x != y || a.status != 404 {
		t.Errorf("answers differ:\n%s\n%s", x, y)
	}
}

// absent is a store whose parts cannot be read.
type absent struct {
	blob.Store
	err error
}

func (s absent) ReadRange(context.Context, blob.Digest, int64, []byte) error { return s.err }
func (s absent) Repair(context.Context, blob.Digest) error                   { return s.err }

// TestUnreadableArchive: a job that may be where nobody can read is a 5xx and not
// a 404, those in memory are answered, and a list shows what is known.
func TestUnreadableArchive(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		status int
	}{"unreachable": {blob.ErrUnreachable, 503}, "gone": {blob.ErrNotFound, 500}, "damaged": {blob.ErrCorrupt, 500}, "other": {io.ErrUnexpectedEOF, 503}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.endpoint("ep_echo", "")
			ids := w.endings()
			w.move(ids[:4]...)
			alarms := 0
			broken, err := archive.New(archive.Config{
				Blobs: absent{w.server.deps.Blobs, c.err}, Keep: time.Hour, NowMs: nowMs, Alarm: func(*archive.Unreadable) { alarms++ },
			})
			if err != nil {
				t.Fatal(err)
			}
			w.server.deps.Archive = broken
			for _, path := range []string{"/status", "/output", "/logs", "/events", "/explain", "/status/stream"} {
				a := w.get("/v2/jobs/" + ids[2].String() + path)
				if a.status != c.status || !strings.Contains(a.fault(t).Message, "archive") {
					t.Errorf("%s: %d %s", path, a.status, a.body)
				}
				if a.status == 503 && a.header.Get("Retry-After") == "" {
					t.Errorf("%s: no Retry-After", path)
				}
			}
			if a := w.get("/v2/jobs/" + ids[5].String() + "/status"); a.status != 200 {
				t.Errorf("a job in memory: %d %s", a.status, a.body)
			}
			var batch protocol.BatchStatusResponse
			w.post("/v2/jobs/status/batch", fmt.Sprintf(`{"jobIds":[%q,%q]}`, ids[2], ids[5])).json(t, &batch)
			if len(batch.Jobs) != 1 || len(batch.Errors) != 1 || batch.Errors[0].Error == protocol.CodeJobNotFound {
				t.Errorf("batch answers %+v", batch)
			}
			var list protocol.Page[protocol.JobStatus]
			w.get("/v2/jobs").json(t, &list)
			if len(list.Data) != 4 || list.NextCursor == "" {
				t.Fatalf("a list shows %d jobs, cursor %q", len(list.Data), list.NextCursor)
			}
			if a := w.get("/v2/jobs?cursor=" + list.NextCursor); a.status != c.status {
				t.Errorf("the page of archived jobs: %d %s", a.status, a.body)
			}
			if want := map[int]int{500: 1}[c.status]; alarms != want {
				t.Errorf("%d alarms, want %d", alarms, want)
			}
			if a := w.get("/v2/jobs/" + protocol.NewJobID(time.UnixMilli(1)).String() + "/status"); a.status != 404 {
				t.Errorf("an id that no segment covers: %d", a.status)
			}
		})
	}
}

// TestListsCrossTheArchive moves random jobs and compares whole lists, with pages
// of random lengths, with what they were.
func TestListsCrossTheArchive(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", "")
	var left []protocol.JobID
	for n := range 60 {
		left = append(left, w.submit("ep_echo", fmt.Sprintf(`{"input":{"n":%d}}`, n)))
	}
	slices.SortFunc(left, func(a, b protocol.JobID) int { return bytes.Compare(a[:], b[:]) })
	for _, id := range left {
		w.must(&command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id[:], Org: protocol.OrgDefault}}})
	}
	random := rand.New(rand.NewPCG(1, 2))
	all := func() (out []string) {
		for cursor := ""; ; {
			var page protocol.Page[json.RawMessage]
			w.get(fmt.Sprintf("/v2/jobs?limit=%d%s", 1+random.IntN(20), cursor)).json(t, &page)
			for _, doc := range page.Data {
				out = append(out, string(doc))
			}
			if page.NextCursor == "" {
				return out
			}
			cursor = "&cursor=" + page.NextCursor
		}
	}
	want := all()
	if len(want) != 60 {
		t.Fatalf("%d jobs are listed", len(want))
	}
	for len(left) > 0 {
		random.Shuffle(len(left), func(i, j int) { left[i], left[j] = left[j], left[i] })
		n := min(len(left), 1+random.IntN(15))
		w.move(slices.Clone(left[:n])...)
		left = left[n:]
		if got := all(); !slices.Equal(got, want) {
			t.Fatalf("with %d jobs in memory and %d segments the list has %d jobs", len(left), len(w.store.View().Segments()), len(got))
		}
	}
}

// TestWatchersOfAJobThatIsArchived: a wait and a stream that began before the end
// of the job get that end, also when the row left memory at once.
func TestWatchersOfAJobThatIsArchived(t *testing.T) {
	w := newWorld(t)
	w.endpoint("ep_echo", "")
	id := w.submit("ep_echo", `{"input":{}}`)
	view := w.store.View()
	row := *view.Job(id)
	row.Status, row.Index = protocol.StatusCancelled, view.Index()+1
	row.Outcome = &state.Outcome{EndedMs: nowMs(), ErrCode: protocol.CodeCancelled, ErrMessage: "The job was cancelled"}
	segment := w.segment(&row)
	f := &follower{s: w.server, job: id}
	if _, _, done := f.step(nil, time.Now()); done {
		t.Fatal("the stream ended before the job")
	}
	w.must(&command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: id[:], Org: protocol.OrgDefault}}})
	w.must(&command.Command{Op: &command.Command_Archive{Archive: &command.Archive{
		Number: 1, Segment: segment, Jobs: []*command.Archived{{Job: id[:], Index: w.store.Job(id).Index}},
	}}})
	if w.store.Job(id) != nil {
		t.Fatal("the row is still there")
	}
	out, _, done := f.step(nil, time.Now())
	if !done || !strings.Contains(string(out), `"status":"cancelled"`) {
		t.Errorf("the stream ended with %q, %t", out, done)
	}
	got := w.server.await(t.Context(), view.Job(id), w.board.Revision(view.Job(id)), time.Minute)
	if got.Status != protocol.StatusCancelled {
		t.Errorf("the wait ended with %s", got.Status)
	}
}

func TestArchiveErrorsAreTold(t *testing.T) {
	if err := archiveError(errors.New("else")); protocol.CodeOf(err) != "" {
		t.Errorf("an unknown error became %v", err)
	}
	if err := archiveError(context.DeadlineExceeded); protocol.CodeOf(err) != protocol.CodeUnavailable {
		t.Errorf("a slow store became %v", err)
	}
}
