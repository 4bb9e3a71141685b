package process

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// output collects the lines of a child and tells of each.
type output struct {
	mu    sync.Mutex
	lines []string
	seen  chan string
}

func collect() *output { return &output{seen: make(chan string, 100)} }

func (o *output) read(r io.Reader) {
	Lines(r, 1<<10, func(b []byte, _ bool) {
		o.mu.Lock()
		o.lines = append(o.lines, string(b))
		o.mu.Unlock()
		o.seen <- string(b)
	})
}

func run(t *testing.T, id, script string) (*Process, *output) {
	t.Helper()
	out := collect()
	p, err := Start(Config{
		Command: []string{"sh", "-c", script}, Dir: t.TempDir(), ID: id,
		Env: []string{"PATH=" + os.Getenv("PATH"), "GREETING=hello"}, Stdout: out.read,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Kill(); <-p.Done() })
	return p, out
}

func TestEnvironmentIsExactlyAsGiven(t *testing.T) {
	t.Setenv("WINDLASS_SECRET", "token")
	p, out := run(t, "run_env", "env")
	<-p.Done()
	env := strings.Join(out.lines, "\n")
	if strings.Contains(env, "token") || !strings.Contains(env, "GREETING=hello") || !strings.Contains(env, MarkVariable+"=run_env") {
		t.Errorf("environment = %s", env)
	}
}

func TestMarkOfTheSupervisorAboveIsKept(t *testing.T) {
	out := collect()
	p, err := Start(Config{
		Command: []string{"sh", "-c", "env"}, Dir: t.TempDir(), ID: "run_own", Stdout: out.read,
		Env: []string{"PATH=" + os.Getenv("PATH"), MarkVariable + "=of a user", MarkVariable + "=run_above"},
	})
	if err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	env := strings.Join(out.lines, "\n")
	if !strings.Contains(env, MarkVariable+"=run_above") || strings.Contains(env, "run_own") {
		t.Errorf("environment = %s", env)
	}
}

func TestExitSaysCodeOrSignal(t *testing.T) {
	p, _ := run(t, "run_code", "exit 3")
	<-p.Done()
	if got := p.Exit(); got.Code != 3 || got.Signal != 0 {
		t.Errorf("exit = %+v", got)
	}
	p, _ = run(t, "run_signal", "kill -SEGV $$")
	<-p.Done()
	if got := p.Exit(); got.Signal != syscall.SIGSEGV {
		t.Errorf("exit = %+v", got)
	}
}

func TestMissingProgramIsAnError(t *testing.T) {
	for _, command := range [][]string{nil, {"no-such-program"}, {"/no/such/program"}, {"./missing"}} {
		if _, err := Start(Config{Command: command, Dir: t.TempDir(), ID: "run_none"}); err == nil {
			t.Errorf("%v started", command)
		}
	}
	_, err := Start(Config{Command: []string{"no-such-program"}, Env: []string{"PATH=/bin"}})
	if !errors.Is(err, exec.ErrNotFound) {
		t.Errorf("error = %v", err)
	}
}

// TestStopFindsEveryEscapee covers the group, a new session, a double fork and a
// child that ignores SIGTERM; they hold the output pipe open all the while.
func TestStopFindsEveryEscapee(t *testing.T) {
	for _, group := range []bool{true, false} {
		script := `sleep 1000 & setsid sleep 1000 & (setsid sh -c 'trap "" TERM; sleep 1000 & wait' &) ; trap "" TERM; echo up; while :; do sleep 1000; done`
		out := collect()
		p, err := Start(Config{
			Command: []string{"sh", "-c", script}, Dir: t.TempDir(), ID: "run_escape" + strconv.FormatBool(group),
			Env: []string{"PATH=" + os.Getenv("PATH")}, Stdout: out.read, NoCgroup: !group,
		})
		if err != nil {
			t.Fatal(err)
		}
		<-out.seen
		if n := len(p.PIDs()); n < 3 {
			t.Errorf("the tree shows %d processes", n)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if err := p.Stop(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if left := p.PIDs(); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
		if left := Marked(p.id); len(left) > 0 {
			t.Errorf("marked and left: %v", left)
		}
	}
}

func TestWhatTheMainProcessLeavesIsEnded(t *testing.T) {
	p, _ := run(t, "run_leave", "setsid sleep 1000 & exit 0")
	<-p.Done()
	if left := Marked("run_leave"); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSignalReachesTheMainProcess(t *testing.T) {
	p, out := run(t, "run_int", `trap 'echo caught; exit 0' INT; echo up; while :; do sleep 0.01; done`)
	<-out.seen
	p.Signal(syscall.SIGINT)
	<-p.Done()
	if got := out.lines[len(out.lines)-1]; got != "caught" {
		t.Errorf("last line = %q", got)
	}
	p.Signal(syscall.SIGINT) // after the end it reaches nobody
}

func TestExtraDescriptorsAndInput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	side := collect()
	p, err := Start(Config{
		Command: []string{"sh", "-c", "read line; echo got $line >&3"}, Dir: t.TempDir(), ID: "run_extra",
		Env: []string{"PATH=" + os.Getenv("PATH")}, Extra: []*os.File{w},
		Inputs: []*os.File{r}, Readers: []func(io.Reader){side.read},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Stdin().WriteString("word\n"); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	if len(side.lines) != 1 || side.lines[0] != "got word" {
		t.Errorf("lines = %q", side.lines)
	}
}

func TestChildDiesWithItsParent(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe)
	cmd.Env = []string{parentVariable + "=1", "PATH=" + os.Getenv("PATH")}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	child, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	for tick := time.NewTicker(time.Millisecond); ; <-tick.C {
		if s, ok := readStat(child); !ok || s.zombie {
			return
		}
	}
}

// parentVariable turns the test binary into a supervisor that shows its child.
const parentVariable = "WINDLASS_TEST_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(parentVariable) == "" {
		os.Exit(m.Run())
	}
	p, err := Start(Config{Command: []string{"sleep", "1000"}, Env: os.Environ(), ID: "run_parent"})
	if err != nil {
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString(strconv.Itoa(p.PID()) + "\n")
	<-p.Done()
}
