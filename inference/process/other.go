//go:build !linux

package process

import (
	"os"
	"syscall"
	"time"
)

// Elsewhere than on Linux, where agents run, a tree is its session alone.

type cgroup struct{}

func newCgroup(string) *cgroup { return nil }

func (*cgroup) kill()   {}
func (*cgroup) remove() {}

func startProcess(path string, argv []string, attr *os.ProcAttr, _ *cgroup) (*os.Process, error) {
	attr.Sys = &syscall.SysProcAttr{Setsid: true}
	return os.StartProcess(path, argv, attr)
}

func startTime(int) uint64 { return 0 }

// PIDs lists the main process while its group lives.
func (p *Process) PIDs() []int {
	if len(p.live()) == 0 {
		return nil
	}
	return []int{p.pid}
}

// live names the group, as kill(2) does.
func (p *Process) live() []int {
	if p.pid == 0 || syscall.Kill(-p.pid, 0) != nil {
		return nil
	}
	return []int{-p.pid}
}

// Marked finds nothing: other systems do not show environments.
func Marked(string) []int { return nil }

// Settle returns at once: other systems do not show what a pipe holds.
func (*Process) Settle(time.Duration) {}

// ReadsStdin is false: other systems do not show it.
func (*Process) ReadsStdin() bool { return false }
