package shim

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"windlass/agent/host"
)

// Bounds of the last look at a runtime's processes.
const (
	sweepLimit = 5 * time.Second       // SIGKILL works at once unless the kernel itself hangs
	sweepPause = 20 * time.Millisecond // between two looks
)

// Kill ends with SIGKILL whatever carries the mark or descends from parent
// (ignored when 0), except this process, and returns the pids that are left.
func Kill(parent int, match func(mark string) bool) []int {
	deadline := time.Now().Add(sweepLimit)
	for {
		left := remains(parent, match)
		for _, pid := range left {
			_ = unix.Kill(pid, unix.SIGKILL) // it may be gone already
		}
		reapAll(parent)
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
		time.Sleep(sweepPause)
	}
}

func remains(parent int, match func(string) bool) []int {
	procs, err := host.ReadProcesses(host.Root)
	if err != nil {
		return nil
	}
	set := make(map[int]bool)
	for _, pid := range host.Marked(host.Root, EnvMark, match) {
		set[pid] = true
	}
	if parent != 0 {
		for _, pid := range append(procs.Tree(parent), procs.Session(parent)...) {
			set[pid] = true
		}
	}
	delete(set, os.Getpid())
	delete(set, parent)
	var all []int
	for pid := range set {
		all = append(all, pid)
	}
	return procs.Running(all)
}

// reapAll waits for the dead children of parent if that is this process.
func reapAll(parent int) {
	if parent != os.Getpid() {
		return
	}
	procs, err := host.ReadProcesses(host.Root)
	if err != nil {
		return
	}
	for _, pid := range procs.Zombies(parent) {
		reap(pid)
	}
}

func reap(pid int) {
	var ws unix.WaitStatus
	_, _ = unix.Wait4(pid, &ws, unix.WNOHANG, nil)
}

// reaper waits for orphans that a subreaper inherited. A zombie that is there on
// two looks in a row is nobody's: those that the drivers started are waited for
// within moments, and their exit status must not be taken from them.
type reaper struct{ seen map[int]bool }

func (r *reaper) look() {
	procs, err := host.ReadProcesses(host.Root)
	if err != nil {
		return
	}
	now := make(map[int]bool)
	for _, pid := range procs.Zombies(os.Getpid()) {
		if r.seen[pid] {
			reap(pid)
		} else {
			now[pid] = true
		}
	}
	r.seen = now
}
