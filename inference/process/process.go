// Package process supervises one child process and everything it spawns.
package process

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// MarkVariable is set in the child's environment to Config.ID. It finds the
	// descendants that left the process group, even after a restart of ours.
	MarkVariable = "WINDLASS_RUNTIME"

	// waitDelay is how long the pipes may stay open after every process is gone;
	// only a process outside our sight can hold them then.
	waitDelay = time.Second
	// killLimit is how long a killed tree may take to vanish; a process in an
	// uninterruptible call (a hung driver) takes longer, and is an error.
	killLimit = 10 * time.Second
	// killPause is the first pause between two looks at a dying tree.
	killPause = 2 * time.Millisecond
)

// Config says what to run.
type Config struct {
	// Command is the program and its arguments. A name without a slash is looked
	// up in the PATH of Env.
	Command []string
	Dir     string
	// Env is the complete environment, "K=V"; only MarkVariable is added.
	Env []string
	// ID marks the tree; it must be unique on the host. End finds the tree by it.
	// A mark that Env has already is kept: a supervisor above us chose it.
	ID string
	// Extra are the child's descriptors from 3 on; Start closes them.
	Extra []*os.File
	// Stdout and Stderr read the child's output until it ends. They must not
	// stop before, or the child blocks.
	Stdout func(io.Reader)
	Stderr func(io.Reader)
	// Readers read further pipes, whose write ends are among Extra and whose read
	// ends are Inputs, in the same way; both have the same length.
	Inputs  []*os.File
	Readers []func(io.Reader)
	// NoCgroup keeps the tree in our own cgroup.
	NoCgroup bool
}

// Exit says how the main process ended.
type Exit struct {
	Code   int            // -1 after a signal
	Signal syscall.Signal // 0 after an exit
}

// Process is a started child. It is done when its whole tree is gone.
type Process struct {
	id      string
	pid     int
	started uint64 // kernel start time of pid, in clock ticks
	stdin   *os.File
	group   *cgroup
	streams []*stream
	reading sync.WaitGroup
	active  atomic.Int64 // unix nanoseconds of the last output
	exited  chan struct{}
	done    chan struct{}

	exit Exit  // valid once exited is closed
	err  error // valid once done is closed: why the tree could not be ended
}

// Start starts the child in its own session, with parent-death signal, and in
// its own cgroup where ours can be divided.
func Start(cfg Config) (*Process, error) {
	defer closeAll(cfg.Extra)
	cfg.ID = markOf(cfg)
	p := &Process{id: cfg.ID, exited: make(chan struct{}), done: make(chan struct{})}
	p.touch()
	path, err := lookPath(cfg.Command, cfg.Dir, cfg.Env)
	var files []*os.File
	if err == nil {
		files, err = p.pipes(cfg)
	}
	if err != nil {
		closeAll(cfg.Inputs)
		return nil, fmt.Errorf("cannot start process: %w", err)
	}
	if !cfg.NoCgroup {
		p.group = newCgroup(cfg.ID)
	}
	attr := &os.ProcAttr{
		Dir: cfg.Dir, Env: withMark(cfg.Env, cfg.ID),
		Files: append(files, cfg.Extra...),
	}
	begun := make(chan error)
	go p.run(path, cfg.Command, attr, begun)
	err = <-begun
	closeAll(files)
	if err != nil {
		<-p.done
		return nil, fmt.Errorf("cannot start process: %w", err)
	}
	return p, nil
}

// pipes makes the standard descriptors; it returns the child's ends and starts
// the readers of ours.
func (p *Process) pipes(cfg Config) ([]*os.File, error) {
	in, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	child := []*os.File{in}
	var ours []*os.File
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			closeAll(append(append(child, stdin), ours...))
			return nil, err
		}
		child, ours = append(child, w), append(ours, r)
	}
	p.stdin = stdin
	ours = append(ours, cfg.Inputs...)
	for i, read := range append([]func(io.Reader){cfg.Stdout, cfg.Stderr}, cfg.Readers...) {
		p.read(ours[i], read)
	}
	return child, nil
}

// read drains r with read until its end.
func (p *Process) read(r *os.File, read func(io.Reader)) {
	s := &stream{file: r, p: p}
	p.streams = append(p.streams, s)
	p.reading.Go(func() {
		defer func() { _ = r.Close() }()
		if read != nil {
			read(s)
		}
		_, _ = io.Copy(io.Discard, s)
		s.busy.Store(false)
	})
}

// stream is our end of one of the child's output pipes.
type stream struct {
	file *os.File
	p    *Process
	busy atomic.Bool // bytes were read, and the reader has not come back for more
}

// Read implements io.Reader.
func (s *stream) Read(b []byte) (int, error) {
	s.busy.Store(false)
	n, err := s.file.Read(b)
	if n > 0 {
		s.busy.Store(true)
		s.p.touch()
	}
	return n, err
}

func (p *Process) touch() { p.active.Store(time.Now().UnixNano()) }

// run starts the child and is its life. It holds one operating system thread
// from start to end: the parent-death signal fires when the thread that started
// the child ends, even if the process lives on (golang/go issue 27505).
func (p *Process) run(path string, argv []string, attr *os.ProcAttr, begun chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	proc, err := startProcess(path, argv, attr, p.group)
	if err != nil {
		close(p.exited)
		begun <- err
		p.closePipes()
		p.group.remove()
		return
	}
	p.pid = proc.Pid
	p.started = startTime(p.pid)
	begun <- nil
	state, err := proc.Wait()
	p.exit = exitOf(state, err)
	close(p.exited)
	// The main process is the runtime: what it leaves behind is nobody's.
	p.err = p.killTree()
	p.closePipes()
	p.group.remove()
}

func exitOf(state *os.ProcessState, err error) Exit {
	if err != nil || state == nil {
		return Exit{Code: -1}
	}
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return Exit{Code: -1, Signal: ws.Signal()}
	}
	return Exit{Code: state.ExitCode()}
}

// closePipes waits for the readers to reach the end of what was written, and no
// longer than waitDelay for who else holds the pipe.
func (p *Process) closePipes() {
	_ = p.stdin.Close()
	deadline := time.Now().Add(waitDelay)
	for _, s := range p.streams {
		_ = s.file.SetReadDeadline(deadline)
	}
	p.reading.Wait()
}

// PID is the main process.
func (p *Process) PID() int { return p.pid }

// Stdin is the pipe to the child; close it to tell that nothing more comes.
func (p *Process) Stdin() *os.File { return p.stdin }

// LastOutput is when the child last wrote anything.
func (p *Process) LastOutput() time.Time { return time.Unix(0, p.active.Load()) }

// Exited is closed when the main process ended; Exit is valid then.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Done is closed when every process of the tree is gone and all output is read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how the main process ended; valid once Exited is closed.
func (p *Process) Exit() Exit { return p.exit }

// Signal sends sig to the main process alone; nothing happens after its end.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(p.pid, sig)
	}
}

// Stop ends the tree: SIGTERM to the group, and when ctx ends SIGKILL to all. It
// returns when every process is gone; the error names those that are not.
func (p *Process) Stop(ctx context.Context) error {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGTERM)
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		p.Kill()
	}
	<-p.done
	return p.err
}

// Kill sends SIGKILL to the group; the rest of the tree follows. Done tells
// when all are gone.
func (p *Process) Kill() {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.pid, syscall.SIGKILL)
		_ = syscall.Kill(p.pid, syscall.SIGKILL)
	}
}

// killTree kills until no process of the tree is left.
func (p *Process) killTree() error {
	deadline := time.Now().Add(killLimit)
	pause := killPause
	for {
		p.group.kill()
		pids := p.live()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot end processes %v: still live after SIGKILL; look for a hung driver or file system", pids)
		}
		time.Sleep(pause)
		pause = min(2*pause, 100*time.Millisecond)
	}
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			_ = f.Close()
		}
	}
}

// lookPath finds the program as the child's own environment would, not as ours.
func lookPath(command []string, dir string, env []string) (string, error) {
	if len(command) == 0 || command[0] == "" {
		return "", errors.New("the command is empty; set runtime.command")
	}
	name := command[0]
	if hasSlash(name) {
		return name, nil
	}
	for d := range pathList(env) {
		if path := executable(d, dir, name); path != "" {
			return path, nil
		}
	}
	return "", fmt.Errorf("%q: %w in the PATH of the runtime; write its full path or set env.PATH", name, exec.ErrNotFound)
}
