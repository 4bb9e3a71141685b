package shim_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent/agenttest"
	"windlass/agent/host"
	"windlass/agent/shim"
	"windlass/inference"
	"windlass/inference/command"
	"windlass/protocol"
)

// patience is how long a test waits for something that must happen; it is
// reached only by a failure.
const patience = 30 * time.Second

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "shim" {
		os.Exit(shim.Main(os.Args[2], []inference.Runtime{command.New()}))
	}
	os.Exit(m.Run())
}

type fixture struct {
	opener *shim.Opener
	script *agenttest.Script
	spec   inference.Spec
}

func setup(t *testing.T) *fixture {
	t.Helper()
	// Longer than a socket address may be, on purpose.
	root := filepath.Join(t.TempDir(), strings.Repeat("long-directory-name/", 6))
	f := &fixture{script: agenttest.NewScript(t), opener: &shim.Opener{
		Command: []string{os.Args[0], "shim"}, Runtimes: filepath.Join(root, "runtimes"), Journal: filepath.Join(root, "journal"),
		MarkPrefix: protocol.NewAgentID(time.Now()).String() + ".", Orphan: time.Minute, Log: zerolog.Nop(),
	}}
	for _, d := range []string{f.opener.Runtimes, f.opener.Journal} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	f.spec = inference.Spec{
		Endpoint: "ep_test", Revision: 1, Runtime: f.script.Runtime(), Concurrency: 1,
		Env: []string{"PATH=" + os.Getenv("PATH"), "DIR=" + f.script.Dir}, StartLimit: patience,
	}
	t.Cleanup(func() {
		if left := f.opener.Strays(nil); left != 0 {
			t.Errorf("%d processes are left", left)
		}
	})
	return f
}

func (f *fixture) open(t *testing.T) *shim.Remote {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	r, err := f.opener.Open(ctx, f.spec, func(inference.Event) {})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stop(t *testing.T, r *shim.Remote) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

func job(input string) inference.Job {
	return inference.Job{ID: protocol.NewJobID(time.Now()).String(), Attempt: 1, Input: []byte(input)}
}

func await(t *testing.T, what string, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
	}
}

// started waits until the handler of a run waits at the gate.
func started(t *testing.T, run *shim.Run) {
	t.Helper()
	c := make(chan struct{})
	closed := false
	run.Watch(func(bool) {
		u, _, _ := run.Record.Since(shim.Cursor{}, 1<<20, time.Now())
		for _, l := range u.Logs {
			if l.Line == "waiting" && !closed {
				closed = true
				close(c)
			}
		}
	})
	await(t, "start of the handler", c)
}

func TestInvokeRelaysEventsAndResult(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	var progress, chunks int
	res, err := r.Invoke(t.Context(), job(`{}`), func(e inference.Event) {
		switch e.Type {
		case inference.EventProgress:
			progress++
		case inference.EventChunk:
			chunks++
		}
	})
	if err != nil || string(res.Output) != `{"ok":true}` {
		t.Fatalf("result %s, %v", res.Output, err)
	}
	if progress == 0 || chunks != 1 {
		t.Errorf("%d progress events, %d chunks", progress, chunks)
	}
	stop(t, r)
	if err := r.Err(); err != nil {
		t.Errorf("stopped with %v", err)
	}
	if _, err := os.Stat(r.Dir()); !os.IsNotExist(err) {
		t.Errorf("runtime directory is left: %v", err)
	}
}

func TestRunSurvivesItsAgent(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	run := r.Begin(job(`"gate"`), 0, &protocol.ColdStart{Occurred: true, Duration: 2})
	started(t, run)
	r.Detach()
	if end := run.End(); !errors.Is(end.Err, shim.ErrDetached) {
		t.Fatalf("detached run ended with %+v", end)
	}

	again, err := f.opener.Adopt(t.Context(), r.Dir())
	if err != nil {
		t.Fatal(err)
	}
	runs := again.Runs()
	if len(runs) != 1 || runs[0].Key() != run.Key() {
		t.Fatalf("adopted %d runs", len(runs))
	}
	started(t, runs[0]) // the log is replayed
	runs[0].Renumber(7)
	f.script.Open()
	await(t, "end of the run", runs[0].Done())
	end := runs[0].End()
	if end.Err != nil || end.Key.Attempt != 7 {
		t.Fatalf("run ended with %+v", end)
	}
	e, err := shim.ReadEntry(f.opener.Journal, end.Key)
	if err != nil {
		t.Fatal(err)
	}
	fin := e.Finish
	if fin.Outcome != protocol.OutcomeCompleted || fin.RunMs == 0 || fin.ColdStart == nil || fin.ColdStart.Duration != 2 {
		t.Errorf("finish %+v", fin)
	}
	if !strings.Contains(string(fin.Logs), "waiting") || !strings.Contains(string(fin.Chunks), "one") || fin.Usage == nil {
		t.Errorf("details are missing: logs %s chunks %s usage %v", fin.Logs, fin.Chunks, fin.Usage)
	}
	stop(t, again)
}

func TestResultIsJournaledWithoutAgent(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	run := r.Begin(job(`"gate"`), 0, nil)
	started(t, run)
	r.Detach()
	f.script.Open()
	again, err := f.opener.Adopt(t.Context(), r.Dir())
	if err != nil {
		t.Fatal(err)
	}
	for _, left := range again.Runs() {
		await(t, "end of the run", left.Done())
	}
	if _, err := shim.ReadEntry(f.opener.Journal, run.Key()); err != nil {
		t.Error(err)
	}
	stop(t, again)
}

func TestRuntimeKilled(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	run := r.Begin(job(`"gate"`), 0, nil)
	started(t, run)
	if err := syscall.Kill(r.Info().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the run", run.Done())
	end := run.End()
	e, err := shim.ReadEntry(f.opener.Journal, end.Key)
	if err != nil {
		t.Fatalf("%v (run ended with %+v)", err, end)
	}
	fin := e.Finish
	if !end.Crashed || fin.Outcome != protocol.OutcomeFailed || !fin.Retryable || fin.Error.Code != protocol.CodeRuntimeCrashed {
		t.Errorf("end %+v, finish %+v, error %v", end, fin, fin.Error)
	}
	if fin.Error != nil && fin.Error.Details["logs"] == nil {
		t.Errorf("details %v lack the last log lines", fin.Error.Details)
	}
	await(t, "end of the shim", r.Done())
	if r.Err() == nil {
		t.Error("the instance ended without a reason")
	}
}

func TestShimKilled(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	run := r.Begin(job(`"gate orphan"`), 0, nil)
	started(t, run)
	st, err := shim.ReadState(r.Dir())
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(st.Shim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	await(t, "end of the instance", r.Done())
	await(t, "end of the run", run.Done())
	var failure *inference.Failure
	if end := run.End(); !errors.As(end.Err, &failure) || failure.Code != protocol.CodeRuntimeCrashed || !failure.Retryable {
		t.Errorf("run ended with %+v", end)
	}
}

func TestStopLeavesNoProcess(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	if _, err := r.Invoke(t.Context(), job(`"orphan"`), func(inference.Event) {}); err != nil {
		t.Fatal(err)
	}
	mark := f.opener.MarkPrefix + filepath.Base(r.Dir())
	stop(t, r)
	if left := host.Marked(host.Root, shim.EnvMark, func(v string) bool { return v == mark }); len(left) != 0 {
		t.Errorf("processes %v are left", left)
	}
}

func TestTimeoutAndCancel(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	timed := r.Begin(job(`"gate"`), 50*time.Millisecond, nil)
	await(t, "timeout", timed.Done())
	checkOutcome(t, f, timed, protocol.OutcomeTimeout)
	stop(t, r)

	r = f.open(t)
	run := r.Begin(job(`"gate"`), 0, nil)
	started(t, run)
	run.Cancel(inference.ErrCancelled)
	await(t, "cancel", run.Done())
	checkOutcome(t, f, run, protocol.OutcomeCancelled)
	stop(t, r)
}

func checkOutcome(t *testing.T, f *fixture, run *shim.Run, want protocol.Outcome) {
	t.Helper()
	e, err := shim.ReadEntry(f.opener.Journal, run.End().Key)
	if err != nil {
		t.Fatal(err)
	}
	if e.Finish.Outcome != want {
		t.Errorf("outcome %s (%v), want %s", e.Finish.Outcome, e.Finish.Error, want)
	}
}

func TestStartFailureExplains(t *testing.T) {
	f := setup(t)
	f.spec.Runtime.Command = []string{"/bin/sh", "-c", "echo no model here >&2; exit 3"}
	_, err := f.opener.Open(t.Context(), f.spec, func(inference.Event) {})
	var failure *inference.Failure
	if !errors.As(err, &failure) || failure.Code != protocol.CodeRuntimeStart {
		t.Fatalf("got %v", err)
	}
	if lines, _ := failure.Details["logs"].([]any); len(lines) == 0 || lines[0] != "no model here" {
		t.Errorf("details %v", failure.Details)
	}
	if left, _ := os.ReadDir(f.opener.Runtimes); len(left) != 0 {
		t.Errorf("directories are left: %v", left)
	}
}

func TestOrphanEnds(t *testing.T) {
	f := setup(t)
	f.opener.Orphan = 10 * time.Millisecond
	r := f.open(t)
	st, err := shim.ReadState(r.Dir())
	if err != nil {
		t.Fatal(err)
	}
	r.Detach()
	// The shim is this process's child, so its end can be waited for.
	p, err := os.FindProcess(st.Shim.PID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := f.opener.Clear(r.Dir()); err != nil {
		t.Error(err)
	}
}

func TestAdoptRefusesAnotherProcess(t *testing.T) {
	f := setup(t)
	r := f.open(t)
	r.Detach()
	path := filepath.Join(r.Dir(), "state.json")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	forged := strings.Replace(string(b), `"start":`, `"start":1`, 1)
	if err := os.WriteFile(path, []byte(forged), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := f.opener.Adopt(t.Context(), r.Dir()); err == nil {
		t.Error("a process with another start time was adopted")
	}
	if err := f.opener.Clear(r.Dir()); err != nil {
		t.Error(err)
	}
}
