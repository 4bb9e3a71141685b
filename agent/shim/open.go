package shim

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/rs/zerolog"

	"windlass/inference"
	"windlass/protocol"
)

// Opener starts and re-adopts shims for one agent.
type Opener struct {
	// Command is our own binary and the words before the directory.
	Command []string
	// Runtimes is the directory that holds one directory for each shim.
	Runtimes string
	// Journal is the directory of results.
	Journal string
	// MarkPrefix tells this agent's processes from those of another.
	MarkPrefix string
	// Orphan is how long a shim goes on without its agent.
	Orphan time.Duration
	Log    zerolog.Logger
}

// listenLimit is how long a shim may take until it listens; it does nothing
// before but read one file.
const listenLimit = 30 * time.Second

// Open starts a shim and waits until its runtime is ready. Events of the start
// go to sink. A refusal is an *inference.Failure; when ctx ends the start is
// given up and its cause returned.
func (o *Opener) Open(ctx context.Context, spec inference.Spec, sink inference.Sink) (*Remote, error) {
	id := strings.ToLower(ulid.Make().String())
	dir := filepath.Join(o.Runtimes, id)
	mark := o.MarkPrefix + id
	spec.Dir = filepath.Join(dir, workDir)
	spec.Env = append(append([]string(nil), spec.Env...), EnvMark+"="+mark)
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return nil, startFailed(err)
	}
	s := Spec{Version: Version, Mark: mark, Instance: spec, Journal: o.Journal, OrphanMs: o.Orphan.Milliseconds()}
	if err := writeJSON(filepath.Join(dir, specFile), s); err != nil {
		return nil, errors.Join(startFailed(err), os.RemoveAll(dir))
	}
	state, err := o.spawn(ctx, dir, mark)
	if err != nil {
		return nil, errors.Join(startFailed(err), os.RemoveAll(dir))
	}
	r := newRemote(o, dir, s, state, sink)
	r.child = true
	return r, r.start(ctx)
}

func startFailed(err error) error {
	return &inference.Failure{Code: protocol.CodeRuntimeStart, Message: fmt.Sprintf("cannot start the runtime's shim: %v", err), Retryable: true}
}

// spawn starts the shim in its own session and waits until it listens.
func (o *Opener) spawn(ctx context.Context, dir, mark string) (State, error) {
	var state State
	logTo, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return state, err
	}
	defer func() { _ = logTo.Close() }()
	pr, pw, err := os.Pipe()
	if err != nil {
		return state, err
	}
	defer func() { _ = pr.Close() }()
	cmd := exec.Command(o.Command[0], append(append([]string(nil), o.Command[1:]...), dir)...)
	// Nothing of the agent's own environment may reach a runtime: it holds secrets.
	cmd.Env = []string{EnvMark + "=" + mark, envReady + "=3", "PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "TMPDIR=" + os.TempDir()}
	cmd.Stdout, cmd.Stderr = logTo, logTo
	cmd.ExtraFiles = []*os.File{pw}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	_ = pw.Close()
	if err != nil {
		return state, err
	}
	pid := cmd.Process.Pid
	// The shim may outlive this process, so nobody waits for it here; Remote
	// collects its exit status once the connection is lost.
	err = cmd.Process.Release()
	deadline := time.Now().Add(listenLimit)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err == nil {
		err = pr.SetReadDeadline(deadline)
	}
	var line []byte
	if err == nil {
		line, err = bufio.NewReader(pr).ReadBytes('\n')
	}
	if err == nil {
		err = json.Unmarshal(line, &state)
	}
	if err != nil {
		tail, _ := os.ReadFile(filepath.Join(dir, logFile))
		Kill(0, func(m string) bool { return m == mark })
		reap(pid)
		return state, fmt.Errorf("the shim ended before it was ready (%w): %s", err, strings.TrimSpace(string(tail[max(0, len(tail)-maxShimLog):])))
	}
	return state, nil
}

// maxShimLog is how much of a shim's own log explains its failure.
const maxShimLog = 2 << 10

// Adopt connects to the shim that runs in dir, after proof that it is the very
// process that was started there.
func (o *Opener) Adopt(ctx context.Context, dir string) (*Remote, error) {
	spec, err := ReadSpec(dir)
	if err != nil {
		return nil, err
	}
	state, err := ReadState(dir)
	if err != nil {
		return nil, err
	}
	if !state.Shim.Alive() {
		return nil, fmt.Errorf("cannot adopt %s: its shim is gone", dir)
	}
	if !strings.HasPrefix(spec.Mark, o.MarkPrefix) {
		return nil, fmt.Errorf("cannot adopt %s: it belongs to another agent", dir)
	}
	r := newRemote(o, dir, spec, state, nil)
	return r, r.start(ctx)
}

// Clear kills what is left of a runtime directory whose shim is gone, and
// removes the directory.
func (o *Opener) Clear(dir string) error {
	mark := o.MarkPrefix + filepath.Base(dir)
	if left := Kill(0, func(m string) bool { return m == mark }); len(left) > 0 {
		return fmt.Errorf("cannot clear %s: processes %v cannot be killed", dir, left)
	}
	return os.RemoveAll(dir)
}

// Strays kills every process with this agent's mark that no directory of keep
// names, and returns how many remain.
func (o *Opener) Strays(keep map[string]bool) int {
	return len(Kill(0, func(m string) bool {
		id, ours := strings.CutPrefix(m, o.MarkPrefix)
		return ours && !keep[id]
	}))
}
