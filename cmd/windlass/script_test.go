package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs testdata/script against the real binary: its child processes
// are itself, so a test binary in its place would prove nothing.
func TestScripts(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "windlass")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build: %v\n%s", err, out)
	}
	dev := startDev(t, binary, dir)
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Webhook-Signature") == "" {
			w.WriteHeader(http.StatusForbidden)
		}
		_, _ = io.WriteString(w, "taken\x1b[31m")
	}))
	t.Cleanup(receiver.Close)
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", dir+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("WINDLASS_ADDR", dev.addr)
			env.Setenv("WINDLASS_API_KEY", dev.key)
			env.Setenv("RECEIVER", receiver.URL)
			env.Values[processesKey{}] = make(map[string]*background)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"setenv-stdout": setenvStdout, "exits": exits, "await": await, "interrupt": interrupt, "absent": absent,
		},
	})
}

// sharedDev is one `windlass dev` for all scripts.
type sharedDev struct{ addr, key string }

func startDev(t *testing.T, binary, dir string) sharedDev {
	t.Helper()
	temp := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temp, 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "dev", "--http", "127.0.0.1:0")
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	log := &syncBuffer{}
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGINT)
		_, _ = io.Copy(io.Discard, out)
		if err := cmd.Wait(); err != nil {
			t.Errorf("windlass dev did not end cleanly: %v\n%s", err, log)
		}
		if left, _ := os.ReadDir(temp); len(left) > 0 {
			t.Errorf("windlass dev left %v behind", left)
		}
	})
	var d sharedDev
	for lines.Scan() && (d.addr == "" || d.key == "") {
		if v, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "export WINDLASS_ADDR="); ok {
			d.addr = v
		}
		if v, ok := strings.CutPrefix(strings.TrimSpace(lines.Text()), "export WINDLASS_API_KEY="); ok {
			d.key = v
		}
	}
	if d.addr == "" || d.key == "" {
		t.Fatalf("windlass dev did not say where it is\n%s", log)
	}
	return d
}

// syncBuffer is written by os/exec and read by a failing test.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setenvStdout NAME: the last command's output becomes a variable.
func setenvStdout(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: setenv-stdout NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}

// exits CODE PROGRAM ARG...: the exit code is the interface.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARG...")
	}
	got := "0"
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		got = strings.TrimPrefix(err.Error(), "exit status ")
	}
	if got != args[0] {
		ts.Fatalf("%v: exit code %s, want %s", args[1:], got, args[0])
	}
}

// background is a program that a script runs beside its other commands.
type background struct {
	cmd   *exec.Cmd
	log   *syncBuffer
	found chan string   // what await looks for
	ended chan struct{} // its output is at its end
}

type processesKey struct{}

func processes(ts *testscript.TestScript) map[string]*background {
	return ts.Value(processesKey{}).(map[string]*background)
}

// await NAME REGEXP PROGRAM ARG...: starts a program and waits for a line on its
// stdout or stderr that matches; the group in REGEXP becomes $NAME.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 3 {
		ts.Fatalf("usage: await NAME REGEXP PROGRAM ARG...")
	}
	b := &background{log: &syncBuffer{}, found: make(chan string, 1), ended: make(chan struct{})}
	path := filepath.Join(filepath.SplitList(ts.Getenv("PATH"))[0], args[2])
	b.cmd = exec.Command(path, args[3:]...)
	b.cmd.Dir = ts.Getenv("WORK")
	b.cmd.Env = append(os.Environ(), "TMPDIR="+ts.Getenv("TMPDIR"))
	r, w, err := os.Pipe()
	ts.Check(err)
	b.cmd.Stdout, b.cmd.Stderr = w, w
	ts.Check(b.cmd.Start())
	ts.Check(w.Close())
	go b.read(r, regexp.MustCompile(args[1]))
	processes(ts)[args[0]] = b
	ts.Defer(func() {
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	})
	select {
	case value := <-b.found:
		ts.Setenv(args[0], value)
	case <-b.ended:
		ts.Fatalf("%v ended without %q:\n%s", args[2:], args[1], b.log)
	}
}

func (b *background) read(r io.ReadCloser, wanted *regexp.Regexp) {
	defer close(b.ended)
	defer r.Close()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		_, _ = fmt.Fprintln(b.log, lines.Text())
		if m := wanted.FindStringSubmatch(lines.Text()); m != nil {
			select {
			case b.found <- m[len(m)-1]:
			default: // only the first counts
			}
		}
	}
}

// interrupt NAME: sends what Ctrl-C sends and waits for an end with code 0.
func interrupt(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 || processes(ts)[args[0]] == nil {
		ts.Fatalf("usage: interrupt NAME")
	}
	b := processes(ts)[args[0]]
	ts.Check(b.cmd.Process.Signal(syscall.SIGINT))
	if err := b.cmd.Wait(); err != nil {
		ts.Fatalf("%s: %v\n%s", args[0], err, b.log)
	}
}

// absent TEXT: no process has this in its environment.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: absent TEXT")
	}
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	ts.Check(err)
	for _, f := range files {
		pid := filepath.Base(filepath.Dir(f))
		env, err := os.ReadFile(f)
		if err == nil && pid != fmt.Sprint(os.Getpid()) && bytes.Contains(env, []byte(args[0])) {
			ts.Fatalf("process %s is still there", pid)
		}
	}
}
