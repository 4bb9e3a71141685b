package command_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass/inference"
	"windlass/inference/command"
	"windlass/inference/process"
	"windlass/protocol"
)

// events records what a sink got.
type events struct {
	mu   sync.Mutex
	list []inference.Event
	seen chan inference.Event
}

func record() *events { return &events{seen: make(chan inference.Event, 64)} }

func (r *events) sink(e inference.Event) {
	r.mu.Lock()
	r.list = append(r.list, e)
	r.mu.Unlock()
	select {
	case r.seen <- e:
	default:
	}
}

func (r *events) of(typ inference.EventType) (out []inference.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.list {
		if e.Type == typ {
			out = append(out, e)
		}
	}
	return out
}

func (r *events) await(t *testing.T, typ inference.EventType) {
	t.Helper()
	for {
		select {
		case e := <-r.seen:
			if e.Type == typ {
				return
			}
		case <-t.Context().Done():
			t.Fatalf("no %s event", typ)
		}
	}
}

func open(t *testing.T, spec inference.Spec) (inference.Instance, *events) {
	t.Helper()
	rec := record()
	in, err := command.New().Start(t.Context(), spec, rec.sink)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return in, rec
}

func call(t *testing.T, in inference.Instance, id, what string) (inference.Result, *events, error) {
	t.Helper()
	rec := record()
	out, err := in.Invoke(t.Context(), inference.Job{ID: id, Input: text(what)}, rec.sink)
	return out, rec, err
}

func failureOf(t *testing.T, err error) *inference.Failure {
	t.Helper()
	var f *inference.Failure
	if !errors.As(err, &f) {
		t.Fatalf("error = %v, want a *Failure", err)
	}
	return f
}

func TestPhasesAddUp(t *testing.T) {
	_, rec := open(t, specOf(t, "plain"))
	sum := 0.0
	for _, e := range rec.of(inference.EventPhase) {
		sum += e.Seconds
	}
	if n := len(rec.of(inference.EventPhase)); n != 3 || sum <= 0 {
		t.Errorf("%d phases, %v s in all; want 3 and more than 0", n, sum)
	}
}

func TestBadMessagesFailTheJobAndSpareTheProcess(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	for what, want := range map[string]protocol.Code{
		"nan": protocol.CodeOutputInvalid, "utf8": protocol.CodeOutputInvalid, "deep": protocol.CodeOutputInvalid,
		"huge": protocol.CodeRuntimeProtocol, "huge chunk": protocol.CodeRuntimeProtocol,
		"escape": protocol.CodeOutputInvalid, "large file": protocol.CodeOutputTooLarge,
	} {
		_, _, err := call(t, in, "job_"+what, what)
		if f := failureOf(t, err); f.Code != want || f.Crashed {
			t.Errorf("%s: %v (crashed %t), want %s", what, err, f.Crashed, want)
		}
	}
	if _, _, err := call(t, in, "job_last", "quick"); err != nil {
		t.Errorf("the job after: %v", err)
	}
}

func TestGarbageIsLog(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	out, rec, err := call(t, in, "job_1", "garbage")
	if err != nil || string(out.Output) != `"fine"` {
		t.Fatalf("output = %s, %v", out.Output, err)
	}
	for _, e := range rec.of(inference.EventProgress) {
		if p := e.Progress.Percent; p != nil && *p != 42 {
			t.Errorf("percent %v was invented", *p)
		}
		if e.Progress.Metadata != nil {
			t.Errorf("metadata %s is no object", e.Progress.Metadata)
		}
	}
	for _, e := range rec.of(inference.EventLog) {
		if len(e.Line) > protocol.MaxLogLine {
			t.Errorf("a log line has %d bytes", len(e.Line))
		}
	}
	if out, _, err := call(t, in, "job_2", "quick"); err != nil || string(out.Output) != `"quick"` {
		t.Errorf("the next job: %s, %v", out.Output, err)
	}
}

func TestProgressIsMerged(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	_, rec, err := call(t, in, "job_1", "progress")
	if err != nil {
		t.Fatal(err)
	}
	all := rec.of(inference.EventProgress)
	first, last := all[0].Progress, all[len(all)-1].Progress
	if *first.EtaMs != 1500 || first.Throughput.Unit != "tokens/s" || string(first.Metadata) != `{"a":1}` {
		t.Errorf("first = %+v", first)
	}
	if *last.Percent != 90 || last.Step != "one" || last.Metrics["loss"] != 0.5 || last.EtaMs != nil {
		t.Errorf("last = %+v", last)
	}
}

func TestIDMayBeLeftOut(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	if out, _, err := call(t, in, "job_1", "no id"); err != nil || string(out.Output) != `"no id"` {
		t.Errorf("output = %s, %v", out.Output, err)
	}
}

func TestSilentChildWarmsUpInItsFirstJob(t *testing.T) {
	in, _ := open(t, specOf(t, "silent"))
	for n, want := range []protocol.Substate{protocol.SubstateWarmingUp, protocol.SubstateProcessing} {
		_, rec, err := call(t, in, "job", "progress")
		if err != nil {
			t.Fatal(err)
		}
		if got := rec.of(inference.EventState)[0].Substate; got != want {
			t.Errorf("job %d starts %s, want %s", n, got, want)
		}
	}
}

func TestStrayPrintsCannotBreakTheChannel(t *testing.T) {
	in, rec := open(t, specOf(t, "channel"))
	if info := in.Info(); info.Engine != "test" || info.Model != "tiny" {
		t.Errorf("info = %+v", info)
	}
	if out, _, err := call(t, in, "job_1", "log"); err != nil || string(out.Output) != `"log"` {
		t.Errorf("output = %s, %v", out.Output, err)
	}
	for _, e := range rec.of(inference.EventLog) {
		if strings.Contains(e.Line, "stray") && e.Source != "agent" && e.Source != "stdout" {
			t.Errorf("stray print came as %+v", e)
		}
	}
}

func TestLargeInputAndOutputGoThroughFiles(t *testing.T) {
	spec := specOf(t, "plain")
	in, _ := open(t, spec)
	large := text(strings.Repeat("x", 3<<20))
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: large}, nil)
	if err != nil || string(out.Output) != string(large) {
		t.Fatalf("%d bytes, %v", len(out.Output), err)
	}
	left, err := filepath.Glob(filepath.Join(spec.Dir, "jobs", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("job directories are left: %v, %v", left, err)
	}
}

func TestExitsCarryTheirReason(t *testing.T) {
	_, err := command.New().Start(t.Context(), specOf(t, "exit"), nil)
	f := failureOf(t, err)
	if f.Code != protocol.CodeRuntimeStart || f.Details["exitCode"] != 3 || f.Details["logTail"].([]string)[0] != "cannot load the model" {
		t.Errorf("start failure = %+v", f)
	}
	in, _ := open(t, specOf(t, "plain"))
	_, _, err = call(t, in, "job_1", "crash")
	if f := failureOf(t, err); f.Details["exitCode"] != 7 || f.Details["logTail"].([]string)[0] != "segmentation fault" {
		t.Errorf("crash = %+v", f)
	}
	in, _ = open(t, specOf(t, "plain"))
	_, _, err = call(t, in, "job_1", "killed")
	if f := failureOf(t, err); f.Details["signal"] != "killed" {
		t.Errorf("kill = %+v", f)
	}
}

func TestSilenceHasLimits(t *testing.T) {
	spec := specOf(t, "hang")
	spec.StartLimit = 50 * time.Millisecond
	_, err := command.New().Start(t.Context(), spec, nil)
	if f := failureOf(t, err); f.Code != protocol.CodeRuntimeStart {
		t.Errorf("hang at start = %v", f)
	}
	spec = specOf(t, "plain")
	spec.StallLimit = 50 * time.Millisecond
	in, _ := open(t, spec)
	_, _, err = call(t, in, "job_1", "quiet")
	if f := failureOf(t, err); f.Code != protocol.CodeStalled || !f.Retryable || !f.Crashed {
		t.Errorf("stall = %+v", f)
	}
}

func TestFloodIsBounded(t *testing.T) {
	began := time.Now()
	in, _ := open(t, specOf(t, "plain"))
	_, rec, err := call(t, in, "job_1", "flood")
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, e := range rec.of(inference.EventLog) {
		total += len(e.Line)
	}
	// What may come at once, and the rate for as long as it took.
	if bound := process.LogRate * (1 + time.Since(began).Seconds()); float64(total) > bound {
		t.Errorf("%d bytes of log passed, more than %.0f", total, bound)
	}
}

func TestStopTakesTheWholeTree(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	out, _, err := call(t, in, "job_1", "orphans")
	if err != nil {
		t.Fatal(err, string(out.Output))
	}
	if err := in.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if left := in.PIDs(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestDeafChildIsEndedByForce(t *testing.T) {
	t.Parallel() // the whole ladder takes its full time
	spec := specOf(t, "deaf")
	in, _ := open(t, spec)
	ctx, cancel := context.WithCancelCause(t.Context())
	rec := record()
	done := make(chan error, 1)
	go func() {
		_, err := in.Invoke(ctx, inference.Job{ID: "job_1", Input: text("long")}, rec.sink)
		done <- err
	}()
	rec.await(t, inference.EventProgress)
	cancel(inference.ErrCancelled)
	if err := <-done; !errors.Is(err, inference.ErrCancelled) {
		t.Errorf("error = %v", err)
	}
	<-in.Done()
	if left := in.PIDs(); len(left) > 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestDeafJobCostsItsSlotAndSparesTheOthers(t *testing.T) {
	t.Parallel()
	spec := specOf(t, "deaf")
	spec.Concurrency = 2
	in, err := command.New().Start(t.Context(), spec, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var wg sync.WaitGroup
	one, two := record(), record()
	other := make(chan error, 1)
	wg.Go(func() {
		_, err := in.Invoke(t.Context(), inference.Job{ID: "job_two", Input: text("long")}, two.sink)
		other <- err
	})
	two.await(t, inference.EventProgress)
	deaf := make(chan error, 1)
	wg.Go(func() {
		_, err := in.Invoke(ctx, inference.Job{ID: "job_one", Input: text("long")}, one.sink)
		deaf <- err
	})
	one.await(t, inference.EventProgress)
	cancel(inference.ErrTimeout)
	if err := <-deaf; !errors.Is(err, inference.ErrTimeout) {
		t.Errorf("error = %v", err)
	}
	select {
	case err := <-other:
		t.Errorf("the other job ended: %v", err)
	case <-in.Done():
		t.Error("the instance ended")
	default:
	}
	if !in.(inference.Retirer).Retired() {
		t.Error("the instance is not retired")
	}
	if _, err := in.Invoke(t.Context(), inference.Job{ID: "job_three", Input: text("quick")}, nil); err == nil {
		t.Error("a retired instance ran a job")
	}
	force, done := context.WithCancel(t.Context())
	done()
	if err := in.Stop(force); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

func TestHandlersAreWritten(t *testing.T) {
	spec := specOf(t, "plain")
	open(t, spec)
	for _, name := range []string{"windlass.py", "windlass.mjs"} {
		if b, err := os.ReadFile(filepath.Join(spec.Dir, "handlers", name)); err != nil || len(b) == 0 {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
}

func TestInputKeepsItsBytes(t *testing.T) {
	in, _ := open(t, specOf(t, "plain"))
	for _, input := range []string{`{"html":"<a href=\"x\">&"}`, `{"html":"<` + strings.Repeat("&", command.MaxLine) + `>"}`} {
		// The handler answers with the bytes that it was given, in a line or a file.
		out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: []byte(input)}, record().sink)
		if err != nil || string(out.Output) != input {
			t.Errorf("%d bytes came back as %.80s, %v", len(input), out.Output, err)
		}
	}
}
