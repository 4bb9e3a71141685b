package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"windlass/protocol"
)

// fakeAPI answers like a coordinator with one job, made of protocol types.
type fakeAPI struct {
	job      protocol.JobStatus // the job's end
	chunks   []protocol.OutputEvent
	logs     []protocol.LogLine
	hang     bool // the stream stays open until the caller leaves
	submits  []protocol.SubmitRequest
	applied  []protocol.Endpoint
	refusals map[string]protocol.Code // by path
}

func theJob() protocol.JobID { return protocol.JobID{0x01, 0x93, 0x5b, 0xb5, 1, 2, 3} }

func completed() protocol.JobStatus {
	f := func(v float64) *float64 { return &v }
	return protocol.JobStatus{
		JobID: theJob(), TaskID: theJob(), Status: protocol.StatusCompleted, EndpointID: "ep_x", Priority: protocol.PriorityNormal,
		CreatedAt: protocol.TimeOf(time.Unix(1700000000, 0)), Output: json.RawMessage(`{"text":"hi"}`), ExecutionTime: f(2.5), Progress: f(100),
		Metadata:   json.RawMessage(`{"tokensGenerated":2412}`),
		Throughput: &protocol.Throughput{Value: 1043, Unit: "tokens/s"},
		ColdStart: &protocol.ColdStart{Occurred: true, Duration: 0.3, Phases: &protocol.ColdStartPhases{
			ContainerStart: 0.05, DependencyLoad: 0.05, ModelLoad: 0.2}},
		Metrics: &protocol.JobMetrics{QueueWait: f(0.012), Attempts: 1},
	}
}

func endedAs(status protocol.Status, code protocol.Code) protocol.JobStatus {
	s := completed()
	s.Status, s.Output, s.Error = status, nil, &protocol.JobError{Code: code, Message: "it\nbroke\x1b[31m"}
	return s
}

func (f *fakeAPI) handler() http.Handler {
	mux := http.NewServeMux()
	path := "/v2/jobs/" + theJob().String()
	mux.HandleFunc("POST /v2/endpoints/{id}/runasync", func(w http.ResponseWriter, r *http.Request) {
		var req protocol.SubmitRequest
		_ = json.NewDecoder(r.Body).Decode(&req)
		f.submits = append(f.submits, req)
		answer(w, protocol.SubmitResponse{JobID: theJob(), TaskID: theJob(), Status: protocol.StatusQueued, EndpointID: r.PathValue("id"), Priority: protocol.PriorityNormal})
	})
	mux.HandleFunc("GET "+path+"/status", func(w http.ResponseWriter, _ *http.Request) { answer(w, f.job) })
	mux.HandleFunc("GET "+path+"/status/stream", f.stream)
	mux.HandleFunc("GET "+path+"/output", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(f.job.Output) })
	mux.HandleFunc("GET "+path+"/logs", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, protocol.Page[protocol.LogLine]{Data: f.logs})
	})
	mux.HandleFunc("POST "+path+"/cancel", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, endedAs(protocol.StatusCancelled, protocol.CodeCancelled))
	})
	mux.HandleFunc("GET /v2/jobs", func(w http.ResponseWriter, r *http.Request) {
		page := protocol.Page[protocol.JobStatus]{Data: []protocol.JobStatus{f.job}, NextCursor: "more"}
		if r.URL.Query().Get("cursor") == "more" {
			page.Data, page.NextCursor = nil, ""
		}
		answer(w, page)
	})
	mux.HandleFunc("GET /v2/endpoints", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, protocol.Page[protocol.Endpoint]{Data: []protocol.Endpoint{{ID: "ep_x", Runtime: protocol.RuntimeSpec{Kind: "builtin"}}}})
	})
	mux.HandleFunc("PUT /v2/endpoints/{id}", func(w http.ResponseWriter, r *http.Request) {
		var e protocol.Endpoint
		_ = json.NewDecoder(r.Body).Decode(&e)
		f.applied = append(f.applied, e)
		e.Revision = uint64(len(f.applied))
		answer(w, e)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if code, ok := f.refusals[r.URL.Path]; ok {
			w.WriteHeader(code.HTTPStatus())
			answer(w, protocol.Invalid("input", nil, "because").With("code", code))
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (f *fakeAPI) stream(w http.ResponseWriter, r *http.Request) {
	running := f.job
	running.Status, running.Output = protocol.StatusRunning, nil
	events := []protocol.Event{event("1", protocol.EventStatus, running)}
	for _, c := range f.chunks {
		events = append(events, event("2", protocol.EventOutput, c))
	}
	if !f.hang {
		events = append(events, event("3", protocol.EventStatus, f.job))
	}
	var b []byte
	for _, e := range events {
		b = protocol.AppendEvent(b, e)
	}
	_, _ = w.Write(b)
	if f.hang {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
}

func event(id, typ string, doc any) protocol.Event {
	b, _ := json.Marshal(doc)
	return protocol.Event{ID: id, Type: typ, Data: b}
}

func answer(w http.ResponseWriter, doc any) { _ = json.NewEncoder(w).Encode(doc) }

// result is what one command line did.
type result struct {
	code        int
	stdout, err string
}

type cliOptions struct {
	stdin    string
	terminal bool
	env      []string
}

func cli(t *testing.T, f *fakeAPI, opts cliOptions, args ...string) result {
	t.Helper()
	s := httptest.NewServer(f.handler())
	t.Cleanup(s.Close)
	return cliAt(t, s.URL, opts, args...)
}

func cliAt(t *testing.T, addr string, opts cliOptions, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	a := &app{
		in: strings.NewReader(opts.stdin), out: &out, err: &errs, errTerminal: opts.terminal, outTerminal: opts.terminal,
		environ: append([]string{"WINDLASS_ADDR=" + addr, "WINDLASS_API_KEY=k"}, opts.env...), version: "test",
	}
	code := a.run(t.Context(), args)
	return result{code: code, stdout: out.String(), err: errs.String()}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s lacks %q:\n%s", what, p, text)
		}
	}
}
