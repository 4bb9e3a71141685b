package wire

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// space is a network namespace. It has no name: it goes when this process and
// all that run in it are gone.
type space struct{ file *os.File }

const threadSpace = "/proc/thread-self/ns/net"

// newSpace makes an empty one, in which the loopback is up.
func newSpace() (*space, error) {
	var s *space
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot make a network namespace: %w", err)
		}
		f, err := os.Open(threadSpace)
		if err != nil {
			return err
		}
		s = &space{f}
		return loopbackUp()
	})
	return s, err
}

// path is where other processes find it. A process id would not do: a thread of
// ours may be in another namespace than the others, and it may be the first one.
func (s *space) path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), s.file.Fd()) }

// enter runs fn in the namespace. A process that fn starts stays in it.
func (s *space) enter(fn func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(s.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("cannot enter a network namespace: %w", err)
		}
		return fn()
	})
}

// onThread runs fn on a thread of its own, which ends with it: what fn changes
// of it, nobody else meets.
func onThread(fn func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		done <- fn()
	}()
	return <-done
}

// tool runs a program in the namespace and returns what it says.
func (s *space) tool(input, name string, args ...string) (string, error) {
	var out bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := s.enter(cmd.Start); err != nil {
		return "", fmt.Errorf("cannot start %s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

func (s *space) close() error { return s.file.Close() }

// loopbackUp brings up the loopback of the namespace that this thread is in.
func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	req, err := unix.NewIfreq("lo")
	if err == nil {
		req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		err = unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, req)
	}
	if err := errors.Join(err, unix.Close(fd)); err != nil {
		return fmt.Errorf("cannot bring up a loopback: %w", err)
	}
	return nil
}
