package wire

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// Enclosure is a place that a run has for itself: processes, mounts and a
// network of its own. The kernel takes all of it away when the run ends,
// however it ends: processes are killed, disks unmounted, bridges removed.
//
// A program calls Enclose first. Outside, it starts itself again inside and
// returns what that returned; inside it returns Inside.
type Enclosure int

// What Enclose found.
const (
	Inside  Enclosure = iota // go on; this is the enclosure
	Ended                    // the program ran inside and has ended: exit with the code
	Without                  // none can be made here; go on, and clean up by yourself
)

// unable is the exit code of a first process that could not start the program.
const unable = 125

// roleEnv tells a process what it is.
const (
	roleEnv    = "CHAOS_ENCLOSURE"
	roleFirst  = "first"  // the first process inside, which all others go with
	roleInside = "inside" // the program itself
)

// Enclose makes the enclosure. err says why there is none.
func Enclose() (where Enclosure, code int, err error) {
	switch os.Getenv(roleEnv) {
	case roleInside:
		return Inside, 0, os.Unsetenv(roleEnv)
	case roleFirst:
		if err := os.Setenv(roleEnv, roleInside); err != nil {
			return Ended, 1, err
		}
		code, err := first()
		if err != nil {
			fmt.Fprintln(os.Stderr, "chaos:", err)
			code = unable
		}
		return Ended, code, nil
	}
	if os.Geteuid() != 0 {
		return Without, 0, errors.New("it needs root")
	}
	// The first process is killed with this thread.
	runtime.LockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), roleEnv+"="+roleFirst) // it was not set
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := cmd.Start(); err != nil {
		return Without, 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for {
		select {
		case s := <-signals:
			_ = cmd.Process.Signal(s)
		case <-ended:
			if cmd.ProcessState.ExitCode() == unable {
				signal.Stop(signals)
				return Without, 0, errors.New("it could not be furnished")
			}
			return Ended, cmd.ProcessState.ExitCode(), nil
		}
	}
}

// first is process 1 inside: it makes the place, starts the program, and takes
// leave of every process whose parent is gone.
func first() (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("cannot keep mounts to ourselves: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 0, fmt.Errorf("cannot mount /proc: %w", err)
	}
	if err := loopbackUp(); err != nil {
		return 0, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	self, err := os.Executable()
	if err != nil {
		return 0, err
	}
	p, err := os.StartProcess(self, os.Args, &os.ProcAttr{
		Env: os.Environ(), Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
	})
	if err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			_ = p.Signal(s)
		}
	}()
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return 0, fmt.Errorf("cannot wait for the run: %w", err)
		case pid == p.Pid && status.Signaled():
			return 128 + int(status.Signal()), nil
		case pid == p.Pid:
			return status.ExitStatus(), nil
		}
	}
}
