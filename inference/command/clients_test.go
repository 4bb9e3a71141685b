//go:build clients

package command_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"windlass/inference"
	"windlass/inference/command"
	"windlass/inference/runtimetest"
	"windlass/protocol"
)

// block returns the code block of the page that follows the mark.
func block(t *testing.T, mark string) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/command-runtime.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "<!-- "+mark+":")
	_, rest, ok2 := strings.Cut(rest, "```")
	_, rest, ok3 := strings.Cut(rest, "\n")
	code, _, ok4 := strings.Cut(rest, "```")
	if !ok || !ok2 || !ok3 || !ok4 {
		t.Fatalf("the page has no block %q", mark)
	}
	return code
}

func scriptSpec(t *testing.T, name, code string, argv ...string) inference.Spec {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return inference.Spec{
		Endpoint: "ep_script", Revision: 1, Concurrency: 1, Dir: dir, StartLimit: time.Minute,
		Runtime: protocol.RuntimeSpec{Kind: command.Kind, Command: append(argv, path)},
		Env:     []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir},
	}
}

func TestFiveLinesOfPython(t *testing.T) {
	in, _ := open(t, scriptSpec(t, "five.py", block(t, "five-lines"), "python3"))
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: []byte(`{"prompt":"hello"}`)}, nil)
	if err != nil || string(out.Output) != `"HELLO"` {
		t.Fatalf("output = %s, %v", out.Output, err)
	}
}

func TestHelpersOfThePage(t *testing.T) {
	for name, spec := range map[string]inference.Spec{
		"python": scriptSpec(t, "h.py", block(t, "python-helper"), "python3"),
		"node":   scriptSpec(t, "h.mjs", block(t, "node-helper"), "node"),
	} {
		in, _ := open(t, spec)
		rec := record()
		out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: []byte(`{}`)}, rec.sink)
		if err != nil || strings.ReplaceAll(string(out.Output), " ", "") != `{"text":"onetwothree"}` {
			t.Fatalf("%s: output = %s, %v", name, out.Output, err)
		}
		if n := len(rec.of(inference.EventChunk)); n != 3 {
			t.Errorf("%s: %d chunks", name, n)
		}
		stray := false
		for _, e := range rec.of(inference.EventLog) {
			stray = stray || strings.Contains(e.Line, "stray print")
		}
		if !stray {
			t.Errorf("%s: the stray print is no log line: %+v", name, rec.of(inference.EventLog))
		}
		_, err = in.Invoke(t.Context(), inference.Job{ID: "job_2", Input: []byte(`{"bad":true}`)}, nil)
		if f := failureOf(t, err); f.Code != protocol.CodeInvalidInput || f.Retryable {
			t.Errorf("%s: failure = %+v", name, f)
		}
	}
}

// TestThePausingHandlerOfThePage stops at a checkpoint and goes on from there.
func TestThePausingHandlerOfThePage(t *testing.T) {
	in, _ := open(t, scriptSpec(t, "p.py", block(t, "python-pause"), "python3", "-u"))
	rec := record()
	done := make(chan error, 1)
	go func() {
		_, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: []byte(`{"steps":100000}`)}, rec.sink)
		done <- err
	}()
	rec.await(t, inference.EventProgress)
	in.(inference.Pauser).Pause("job_1")
	var p *inference.Paused
	if err := <-done; !errors.As(err, &p) || string(p.Checkpoint) == "null" {
		t.Fatalf("%v", err)
	}
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: []byte(`{"steps":1}`), Checkpoint: p.Checkpoint}, nil)
	if err != nil || !strings.Contains(string(out.Output), string(p.Checkpoint)) {
		t.Errorf("%s, %v; kept %s", out.Output, err, p.Checkpoint)
	}
}

const pythonSuite = `
import os, sys, time, windlass
def handler(job):
    what = job.input
    if what == "long":
        job.progress(1)
        while True:
            time.sleep(0.01)
            job.check()
    if what == "stubborn":
        job.progress(1)
        time.sleep(1000)
    if what == "progress":
        job.progress(10, step="one"); job.progress(90)
    if what == "chunks":
        job.chunk({"n": 1}); job.chunk({"n": 2})
    if what == "log":
        print("windlass"); sys.stderr.flush()
    if what == "fail":
        raise windlass.Error("CUSTOM_CODE", "no", retryable=True)
    if what == "crash":
        os._exit(7)
    return what
windlass.run(handler, slots=int(os.environ.get("SLOTS", "1")))
`

const nodeSuite = `
const { run, JobError } = await import(process.env.WINDLASS_HANDLERS + "/windlass.mjs");
await run(async (job) => {
  switch (job.input) {
    case "long": job.progress(1); await new Promise(() => {}); break;
    case "progress": job.progress(10); job.progress({ percent: 90 }); break;
    case "chunks": job.chunk({ n: 1 }); job.chunk({ n: 2 }); break;
    case "log": console.log("windlass"); break;
    case "fail": throw new JobError("CUSTOM_CODE", "no", { retryable: true });
    case "crash": process.exit(7);
  }
  return job.input;
});
`

func TestHelperConformance(t *testing.T) {
	for name, spec := range map[string]func(t *testing.T) inference.Spec{
		"python": func(t *testing.T) inference.Spec {
			s := scriptSpec(t, "suite.py", pythonSuite, "python3", "-u")
			if strings.Contains(t.Name(), "concurrent") {
				s.Env = append(s.Env, "SLOTS=3")
			}
			return s
		},
		"node": func(t *testing.T) inference.Spec { return scriptSpec(t, "suite.mjs", nodeSuite, "node") },
	} {
		t.Run(name, func(t *testing.T) {
			runtimetest.Run(t, runtimetest.Config{
				New: func() inference.Runtime { return command.New() }, Spec: spec,
				Broken: func(t *testing.T) inference.Spec {
					return scriptSpec(t, "broken.py", "import missing_module", "python3")
				},
				Quick: text("quick"), Long: text("long"), Progress: text("progress"), Chunks: text("chunks"),
				Log: text("log"), Fail: text("fail"), Crash: text("crash"),
				Slots: 3, CancelWarm: true, Processes: true,
			})
		})
	}
}

// TestInterruptedPythonStaysWarm cancels a handler that never looks: SIGINT
// reaches it and the process serves the next job.
func TestInterruptedPythonStaysWarm(t *testing.T) {
	runtimetest.Run(t, runtimetest.Config{
		New:   func() inference.Runtime { return command.New() },
		Spec:  func(t *testing.T) inference.Spec { return scriptSpec(t, "suite.py", pythonSuite, "python3", "-u") },
		Quick: text("quick"), Long: text("stubborn"), CancelWarm: true, Processes: true,
	})
}

func TestPythonMovesLargePayloadsThroughFiles(t *testing.T) {
	in, _ := open(t, scriptSpec(t, "suite.py", pythonSuite, "python3", "-u"))
	large := text(strings.Repeat("x", 3<<20))
	out, err := in.Invoke(t.Context(), inference.Job{ID: "job_1", Input: large}, nil)
	if err != nil || string(out.Output) != string(large) {
		t.Fatalf("%d bytes, %v", len(out.Output), err)
	}
}
