package main

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"windlass/protocol"
)

func TestRunMakesTheInputOfPairs(t *testing.T) {
	f := &fakeAPI{job: completed()}
	r := cli(t, f, cliOptions{}, "run", "ep_x", "prompt=Once upon", "n=3", "deep={\"a\":[1]}", "zip=007", "eq=a=b", "--priority", "high", "--tag", "user=ada", "-o", "name")
	if r.code != 0 || r.stdout != theJob().String()+"\n" {
		t.Fatalf("%+v", r)
	}
	got := f.submits[0]
	want := `{"deep":{"a":[1]},"eq":"a=b","n":3,"prompt":"Once upon","zip":"007"}`
	if string(got.Input) != want || got.Priority != "high" || got.Tags["user"] != "ada" {
		t.Fatalf("submitted %s %s %v, want %s", got.Input, got.Priority, got.Tags, want)
	}
}

func TestRunReadsStdin(t *testing.T) {
	f := &fakeAPI{job: completed()}
	r := cli(t, f, cliOptions{stdin: `{"x": 1}`}, "run", "ep_x", "-i", "-")
	if r.code != 0 || string(f.submits[0].Input) != `{"x":1}` {
		t.Fatalf("%+v %s", r, f.submits[0].Input)
	}
}

func TestRunRefusesBeforeItSends(t *testing.T) {
	for name, args := range map[string][]string{
		"no endpoint":    {"run"},
		"not a pair":     {"run", "ep_x", "prompt"},
		"both inputs":    {"run", "ep_x", "a=1", "-i", "-"},
		"no such file":   {"run", "ep_x", "-i", "/nonexistent"},
		"bad json":       {"run", "ep_x", "-i", "-"},
		"bad priority":   {"run", "ep_x", "--priority", "urgent"},
		"bad tag":        {"run", "ep_x", "--tag", "user"},
		"bad flag":       {"run", "ep_x", "--prioritty", "high"},
		"bad format":     {"run", "ep_x", "-o", "xml"},
		"negative limit": {"run", "ep_x", "--timeout", "-1s"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeAPI{job: completed()}
			r := cli(t, f, cliOptions{stdin: "{\n\"a\": NaN}"}, args...)
			if r.code != exitUsage || r.stdout != "" || r.err == "" || len(f.submits) != 0 {
				t.Fatalf("%+v after %d submits", r, len(f.submits))
			}
		})
	}
}

func TestBadInputNamesTheLine(t *testing.T) {
	r := cli(t, &fakeAPI{}, cliOptions{stdin: "{\n\"a\": NaN}"}, "run", "ep_x", "-i", "-")
	contains(t, "stderr", r.err, "stdin: line 2")
}

func TestWaitPrintsOutputAndFigures(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed()}, cliOptions{}, "run", "ep_x", "--wait")
	if r.code != 0 || r.stdout != "{\"text\":\"hi\"}\n" {
		t.Fatalf("%+v", r)
	}
	contains(t, "stderr", r.err, "Queue wait", "12 ms", "container start 50 ms", "model load 200 ms", "2.50 s", "2,412 (964 tokens/s)")
	if strings.Contains(r.err, clearLine) {
		t.Errorf("a progress line in a pipe: %q", r.err)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed()}, cliOptions{terminal: true}, "run", "ep_x", "--wait")
	contains(t, "stderr", r.err, clearLine+"running", "100%", "1,043 tokens/s")
	contains(t, "stdout", r.stdout, "{\n  \"text\": \"hi\"\n}")
}

func TestStreamPrintsChunksAsTheyAre(t *testing.T) {
	chunks := []protocol.OutputEvent{
		{Attempt: 1, Seq: 0, Chunk: json.RawMessage(`{"text":"Once "}`)},
		{Attempt: 1, Seq: 1, Chunk: json.RawMessage(`"upon"`)},
		{Attempt: 1, Seq: 2, Chunk: json.RawMessage(`{"row":1}`)},
	}
	repeated := append(slices.Clone(chunks), chunks[1:]...) // as a stream may that was taken up again
	f := &fakeAPI{job: completed(), chunks: repeated}
	if r := cli(t, f, cliOptions{}, "run", "ep_x", "--stream"); r.code != 0 || r.stdout != "Once upon\n{\"row\":1}\n" {
		t.Fatalf("%+v", r)
	}
	r := cli(t, f, cliOptions{}, "run", "ep_x", "--stream", "-o", "jsonl")
	if lines := strings.Count(r.stdout, "\n"); r.code != 0 || lines != len(chunks) {
		t.Fatalf("%d lines: %+v", lines, r)
	}
	r = cli(t, f, cliOptions{}, "run", "ep_x", "--stream", "-o", "json")
	var doc protocol.JobStatus
	if err := json.Unmarshal([]byte(r.stdout), &doc); err != nil || doc.JobID != theJob() {
		t.Fatalf("%v: %+v", err, r)
	}
	contains(t, "stderr", r.err, "Once upon")
}

func TestAnotherAttemptIsTold(t *testing.T) {
	f := &fakeAPI{job: completed(), chunks: []protocol.OutputEvent{
		{Attempt: 1, Chunk: json.RawMessage(`"half"`)},
		{Attempt: 2, Chunk: json.RawMessage(`"whole"`), Restart: true},
	}}
	r := cli(t, f, cliOptions{}, "run", "ep_x", "--stream")
	if r.stdout != "half\nwhole\n" {
		t.Errorf("stdout %q", r.stdout)
	}
	contains(t, "stderr", r.err, "attempt 2 starts again")
}

func TestTheEndOfTheJobIsTheExitCode(t *testing.T) {
	for _, tc := range []struct {
		job  protocol.JobStatus
		code int
	}{
		{endedAs(protocol.StatusFailed, protocol.CodeHandlerError), exitJobFailed},
		{endedAs(protocol.StatusCancelled, protocol.CodeCancelled), exitJobCancelled},
		{endedAs(protocol.StatusTimeout, protocol.CodeExecutionTimeout), exitJobTimeout},
	} {
		for _, format := range formats() {
			r := cli(t, &fakeAPI{job: tc.job}, cliOptions{}, "run", "ep_x", "--wait", "-o", format)
			if r.code != tc.code || r.stdout != "" || strings.Count(r.err, "\n") != 1 || strings.Contains(r.err, "\x1b") {
				t.Errorf("%s in %s: %+v", tc.job.Status, format, r)
			}
			contains(t, "stderr", r.err, string(tc.job.Error.Code), "windlass job logs "+theJob().String())
		}
	}
}

func TestTimeoutDetaches(t *testing.T) {
	r := cli(t, &fakeAPI{job: completed(), hang: true}, cliOptions{}, "run", "ep_x", "--wait", "--timeout", "50ms")
	if r.code != exitTimeout || r.stdout != "" {
		t.Fatalf("%+v", r)
	}
	contains(t, "stderr", r.err, "goes on", "windlass job watch "+theJob().String())
}

func TestAnswersDecideTheExitCode(t *testing.T) {
	for code, want := range map[protocol.Code]int{
		protocol.CodeUnauthorized: exitAuth, protocol.CodeAccessDenied: exitAuth, protocol.CodeEndpointNotFound: exitNotFound,
		protocol.CodeConflict: exitConflict, protocol.CodeValidation: exitFailed,
	} {
		f := &fakeAPI{refusals: map[string]protocol.Code{"/v2/endpoints/ep_x/runasync": code}}
		r := cli(t, f, cliOptions{}, "run", "ep_x")
		if r.code != want || r.stdout != "" || strings.Count(r.err, "\n") != 1 {
			t.Errorf("%s: %+v, want exit code %d", code, r, want)
		}
	}
}

func TestLimitedIsItsOwnExitCode(t *testing.T) {
	e := protocol.NewError(protocol.CodeQueueFull, "full")
	if got := exitCode(e); got != exitLimited {
		t.Errorf("exit code %d, want %d", got, exitLimited)
	}
}

func TestNobodyThere(t *testing.T) {
	r := cliAt(t, "http://127.0.0.1:1", cliOptions{}, "job", "list")
	if r.code != exitUnavailable || r.stdout != "" || strings.Count(r.err, "\n") != 1 {
		t.Fatalf("%+v", r)
	}
	contains(t, "stderr", r.err, "WINDLASS_ADDR", "windlass dev")
}

func TestOutputText(t *testing.T) {
	t.Parallel()
	for output, want := range map[string]string{
		`"plain"`: "plain", `{"text":"a","result":"b"}`: "a", `{"result":"b"}`: "b",
		`{"text":5}`: "", `[1]`: "", `{"other":"x"}`: "", `null`: "",
	} {
		if got := outputText(json.RawMessage(output)); got != want {
			t.Errorf("%s reads %q, want %q", output, got, want)
		}
	}
}
