package agent_test

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/agent"
	"windlass/agent/agenttest"
	"windlass/agent/shim"
	"windlass/inference"
	"windlass/inference/command"
	"windlass/protocol"
	"windlass/protocol/client"
)

// patience is how long a test waits for something that must happen; it is
// reached only by a failure.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	switch {
	case len(os.Args) == 3 && os.Args[1] == "shim":
		os.Exit(shim.Main(os.Args[2], []inference.Runtime{command.New()}))
	case len(os.Args) == 4 && os.Args[1] == "agent":
		os.Exit(agentMain(os.Args[2], os.Args[3]))
	}
	os.Exit(m.Run())
}

// agentMain is a whole agent process.
func agentMain(data, addr string) int {
	c, err := client.New(client.Config{Addrs: []string{addr}})
	if err != nil {
		return 1
	}
	a, err := agent.New(config(data), deps(c, zerolog.New(os.Stderr)))
	if err != nil {
		return 1
	}
	if err := a.Run(context.Background()); err != nil {
		_, _ = io.WriteString(os.Stderr, err.Error()+"\n")
		return 1
	}
	return 0
}

func config(data string) agent.Config {
	return agent.Config{
		Name: "host", Data: data, Slots: 2, GPU: agent.GPUConfig{Mode: "none"}, HTTP: agent.HTTPConfig{Listen: agent.ListenOff},
		Runtimes: agent.RuntimesConfig{Allow: []agent.AllowRule{{Kind: "command", Commands: []string{"/bin/sh"}}}},
	}
}

func deps(c agent.Coordinator, log zerolog.Logger) agent.Deps {
	return agent.Deps{
		Coordinator: c, Log: log, Version: "test", Executable: os.Args[0],
		ShimCommand: []string{os.Args[0], "shim"}, Orphan: time.Minute,
	}
}

// fixture is a coordinator with one endpoint and an agent's data directory.
type fixture struct {
	coord  *agenttest.Coordinator
	script *agenttest.Script
	data   string
}

func setup(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{coord: agenttest.New(), script: agenttest.NewScript(t), data: t.TempDir()}
	f.coord.PutEndpoint(f.script.Endpoint("ep_test"))
	t.Cleanup(func() { f.sweep(t) })
	return f
}

// sweep kills what a failed test left.
func (f *fixture) sweep(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(f.data, "agent/identity"))
	if err != nil {
		return
	}
	o := shim.Opener{MarkPrefix: strings.TrimSpace(string(b)) + "."}
	if left := o.Strays(nil); left != 0 {
		t.Errorf("%d processes cannot be killed", left)
	}
}

// run starts an agent in this process; the returned function makes it leave.
func (f *fixture) run(t *testing.T) (*agent.Agent, func()) {
	t.Helper()
	a, err := agent.New(config(f.data), deps(f.coord, zerolog.New(zerolog.NewTestWriter(t))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	leave := func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		done <- nil
	}
	t.Cleanup(leave)
	return a, leave
}

// spawn starts an agent process.
func (f *fixture) spawn(t *testing.T, addr string) *exec.Cmd {
	t.Helper()
	c := exec.Command(os.Args[0], "agent", f.data, addr)
	c.Stderr = os.Stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Process.Kill(); _ = c.Wait() })
	return c
}

func (f *fixture) await(t *testing.T, id protocol.JobID, what string, cond func(agenttest.Job) bool) agenttest.Job {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	j, err := f.coord.Await(ctx, id, cond)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return j
}

func finished(j agenttest.Job) bool { return j.Finish != nil }

// waiting is true when the handler waits at the gate.
func waiting(j agenttest.Job) bool {
	for _, l := range j.Logs {
		if l.Line == "waiting" {
			return true
		}
	}
	return false
}

func TestJobRunsToItsResult(t *testing.T) {
	f := setup(t)
	f.run(t)
	id := f.coord.Submit("ep_test", `{"prompt":"x"}`)
	j := f.await(t, id, "result", finished)
	fin := j.Finish
	if fin.Outcome != protocol.OutcomeCompleted || string(fin.Output) != `{"ok":true}` || j.Attempt != 1 {
		t.Errorf("job %+v", j)
	}
	if fin.ColdStart == nil || !fin.ColdStart.Occurred || fin.ColdStart.Duration <= 0 || fin.Progress == nil || fin.RunMs == 0 {
		t.Errorf("finish lacks its figures: %+v", fin)
	}
	warm := f.await(t, f.coord.Submit("ep_test", `{}`), "second result", finished)
	if warm.Finish.ColdStart == nil || warm.Finish.ColdStart.Occurred {
		t.Errorf("second job: cold start %+v", warm.Finish.ColdStart)
	}
}

func TestLargePayloadsAreBlobs(t *testing.T) {
	f := setup(t)
	f.run(t)
	j := f.await(t, f.coord.Submit("ep_test", `"big`+strings.Repeat(" ", protocol.InlineInput)+`"`), "result", finished)
	if j.Finish.Output != nil || j.Finish.OutputRef == nil || len(f.coord.Blob(j.Finish.OutputRef.SHA256)) != int(j.Finish.OutputRef.Size) {
		t.Errorf("output of %d bytes inline, reference %+v", len(j.Finish.Output), j.Finish.OutputRef)
	}
}

func TestAgentKilledMidJob(t *testing.T) {
	f := setup(t)
	srv := httptest.NewServer(f.coord.Handler())
	defer srv.Close()
	first := f.spawn(t, srv.URL)
	id := f.coord.Submit("ep_test", `"gate"`)
	f.await(t, id, "start", waiting)
	if err := first.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait()
	f.script.Open() // the job ends while no agent is there
	f.spawn(t, srv.URL)
	j := f.await(t, id, "result", finished)
	if j.Attempt != 1 || j.Finishes != 1 || j.Refused != 0 || f.script.Runs() != 1 {
		t.Errorf("attempt %d, accepted %d, refused %d, runs %d; want 1, 1, 0, 1", j.Attempt, j.Finishes, j.Refused, f.script.Runs())
	}
	regs := f.coord.Registers()
	if last := regs[len(regs)-1]; len(last.Held) != 1 || last.Held[0].Job != id || last.Agent != regs[0].Agent || last.Incarnation == regs[0].Incarnation {
		t.Errorf("registrations %+v", regs)
	}
}

func TestAgentLeavesAndReturnsMidJob(t *testing.T) {
	f := setup(t)
	_, leave := f.run(t)
	id := f.coord.Submit("ep_test", `"gate"`)
	f.await(t, id, "start", waiting)
	leave()
	// The lease expired meanwhile and the job is queued again: the run is adopted.
	f.coord.Edit(id, func(j *agenttest.Job) { j.Leased = false; j.Rejects = []string{"hold"} })
	f.run(t)
	f.await(t, id, "adoption", func(j agenttest.Job) bool { return j.Leased && j.Attempt == 2 && waiting(j) })
	f.script.Open()
	j := f.await(t, id, "result", finished)
	if j.Finish.Attempt != 2 || f.script.Runs() != 1 || j.Finishes != 1 {
		t.Errorf("job %+v after %d runs", j, f.script.Runs())
	}
}

func TestRuntimeKilled(t *testing.T) {
	f := setup(t)
	f.run(t)
	j := f.await(t, f.coord.Submit("ep_test", `"crash"`), "result", finished)
	fin := j.Finish
	if fin.Outcome != protocol.OutcomeFailed || fin.Error.Code != protocol.CodeRuntimeCrashed || !fin.Retryable {
		t.Errorf("finish %+v, error %v", fin, fin.Error)
	}
	if next := f.await(t, f.coord.Submit("ep_test", `{}`), "next result", finished); next.Finish.Outcome != protocol.OutcomeCompleted {
		t.Errorf("the job after it: %+v", next.Finish)
	}
}

func TestShimKilled(t *testing.T) {
	f := setup(t)
	f.run(t)
	id := f.coord.Submit("ep_test", `"gate"`)
	f.await(t, id, "start", waiting)
	dirs, err := os.ReadDir(filepath.Join(f.data, "agent/runtimes"))
	if err != nil || len(dirs) != 1 {
		t.Fatalf("%d runtimes, %v", len(dirs), err)
	}
	st, err := shim.ReadState(filepath.Join(f.data, "agent/runtimes", dirs[0].Name()))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(st.Shim.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	fin := f.await(t, id, "result", finished).Finish
	if fin.Outcome != protocol.OutcomeFailed || fin.Error.Code != protocol.CodeRuntimeCrashed || !fin.Retryable {
		t.Errorf("finish %+v, error %v", fin, fin.Error)
	}
	if !strings.Contains(string(fin.Logs), "waiting") {
		t.Errorf("the log that the agent had is lost: %s", fin.Logs)
	}
}

func TestJournalSurvivesEverything(t *testing.T) {
	f := setup(t)
	written, told := make(chan string, 1), false
	f.coord.SetFault(func(call string) agenttest.Fault {
		// Every report is lost; the one that would carry the result finds it on disk.
		if left, _ := filepath.Glob(filepath.Join(f.data, "agent/journal/job_*.1.json")); call == "report" && len(left) == 1 && !told {
			told = true
			written <- left[0]
		}
		return agenttest.Fault{LoseRequest: call == "report"}
	})
	_, leave := f.run(t)
	id := f.coord.Submit("ep_test", `{}`)
	entry := <-written
	leave()
	f.sweep(t) // everything of the first life is gone
	f.coord.SetFault(nil)
	f.run(t)
	j := f.await(t, id, "result", finished)
	if j.Attempt != 1 || j.Finishes != 1 || f.script.Runs() != 1 {
		t.Errorf("job %+v after %d runs", j, f.script.Runs())
	}
	if _, err := os.Stat(entry); err == nil {
		// The answer is on its way to the agent; one more job proves that it arrived.
		f.await(t, f.coord.Submit("ep_test", `{}`), "next result", finished)
	}
}

func TestLostRepliesAndDuplicates(t *testing.T) {
	f := setup(t)
	n := 0
	f.coord.SetFault(func(call string) agenttest.Fault {
		n++
		if call == "register" {
			return agenttest.Fault{Twice: true}
		}
		return agenttest.Fault{LoseReply: n%2 == 0, Twice: call == "report"}
	})
	f.run(t)
	id := f.coord.Submit("ep_test", `{}`)
	j := f.await(t, id, "result", finished)
	if j.Finishes != 1 || f.script.Runs() != int(j.Attempt) && f.script.Runs() > 1 {
		t.Errorf("job %+v after %d runs", j, f.script.Runs())
	}
}

func TestCancelReachesTheHandler(t *testing.T) {
	f := setup(t)
	f.run(t)
	id := f.coord.Submit("ep_test", `"gate"`)
	f.await(t, id, "start", waiting)
	f.coord.Edit(id, func(j *agenttest.Job) { j.Cancel = true })
	if fin := f.await(t, id, "end", finished).Finish; fin.Outcome != protocol.OutcomeCancelled {
		t.Errorf("finish %+v", fin)
	}
}

func TestDrainGivesBack(t *testing.T) {
	f := setup(t)
	a, leave := f.run(t)
	id := f.coord.Submit("ep_test", `"gate"`)
	f.await(t, id, "start", waiting)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	<-a.Started()
	if err := a.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	j := f.coord.Job(id)
	if j.Finish != nil || len(j.Rejects) != 1 {
		t.Errorf("job %+v", j)
	}
	leave()
	if left, _ := os.ReadDir(filepath.Join(f.data, "agent/runtimes")); len(left) != 0 {
		t.Errorf("runtimes are left: %v", left)
	}
}

func TestForbiddenCommandIsRejectedByName(t *testing.T) {
	f := setup(t)
	doc := f.script.Endpoint("ep_other")
	doc.Runtime.Command = []string{"/usr/bin/env", "sh"}
	f.coord.PutEndpoint(doc)
	f.run(t)
	j := f.await(t, f.coord.Submit("ep_other", `{}`), "rejection", func(j agenttest.Job) bool { return len(j.Rejects) > 0 })
	if !strings.Contains(j.Rejects[0], "/usr/bin/env") {
		t.Errorf("reason %q", j.Rejects[0])
	}
}

func TestSecondAgentIsRefused(t *testing.T) {
	f := setup(t)
	a, _ := f.run(t)
	<-a.Started()
	other, err := agent.New(config(f.data), deps(f.coord, zerolog.Nop()))
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("got %v", err)
	}
}

func TestMetricsAndHealth(t *testing.T) {
	f := setup(t)
	cfg := config(f.data)
	ln := httptest.NewServer(nil) // finds a free port
	cfg.HTTP.Listen = ln.Listener.Addr().String()
	ln.Close()
	a, err := agent.New(cfg, deps(f.coord, zerolog.Nop()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	<-a.Started()
	for path, want := range map[string]string{"/healthz": "ok", "/metrics": "windlass_agent_host_memory_used_bytes"} {
		resp, err := http.Get("http://" + cfg.HTTP.Listen + path)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || !strings.Contains(string(b), want) {
			t.Errorf("%s: %v %s", path, err, b)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
