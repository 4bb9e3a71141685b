package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"unsafe"
)

// limitFiles lowers the number of files that a coordinator may have open to
// what it has open now.
func (n *node) limitFiles() (restore func() error, err error) {
	pid := n.pid()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return nil, err
	}
	var old syscall.Rlimit
	if err := prlimit(pid, nil, &old); err != nil {
		return nil, err
	}
	low := old
	low.Cur = uint64(len(open))
	if err := prlimit(pid, &low, nil); err != nil {
		return nil, err
	}
	return func() error {
		if n.pid() != pid || !n.alive() {
			return nil // it ended, and the next life has its own limit
		}
		return prlimit(pid, &old, nil)
	}, nil
}

func prlimit(pid int, set, get *syscall.Rlimit) error {
	_, _, errno := syscall.Syscall6(syscall.SYS_PRLIMIT64, uintptr(pid), syscall.RLIMIT_NOFILE, uintptr(unsafe.Pointer(set)), uintptr(unsafe.Pointer(get)), 0, 0)
	if errno != 0 {
		return fmt.Errorf("cannot change the limit of open files: %w", errno)
	}
	return nil
}

func (p *proc) pid() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd.Process.Pid
}

const (
	cpuGroups   = "/sys/fs/cgroup/cpu" // version 1
	cpuGroups2  = "/sys/fs/cgroup"     // version 2
	quotaPeriod = "100000"             // us
	quotaTime   = "10000"              // us of it: a tenth of one processor
)

// limitProcessor gives a coordinator a tenth of one processor, where this
// machine lets us make control groups.
func (n *node) limitProcessor() (restore func() error, err error) {
	group, root := filepath.Join(cpuGroups, filepath.Base(n.b.dir)), cpuGroups
	settings := map[string]string{"cpu.cfs_period_us": quotaPeriod, "cpu.cfs_quota_us": quotaTime}
	if _, err := os.Stat(filepath.Join(cpuGroups2, "cgroup.controllers")); err == nil {
		group, root = filepath.Join(cpuGroups2, filepath.Base(n.b.dir)), cpuGroups2
		settings = map[string]string{"cpu.max": quotaTime + " " + quotaPeriod}
	}
	if err := os.Mkdir(group, 0o755); err != nil {
		return nil, err
	}
	for name, value := range settings {
		if err := os.WriteFile(filepath.Join(group, name), []byte(value), 0o644); err != nil {
			return nil, errors.Join(err, os.Remove(group))
		}
	}
	pid := []byte(strconv.Itoa(n.pid()))
	err = os.WriteFile(filepath.Join(group, "cgroup.procs"), pid, 0o644)
	return func() error {
		if n.alive() {
			if err := os.WriteFile(filepath.Join(root, "cgroup.procs"), pid, 0o644); err != nil {
				return err
			}
		}
		return os.Remove(group)
	}, err
}

// noFiles: the leader may open no further file or connection for a while (F30).
func noFiles(ctx context.Context, a *arena) error { return a.limited(ctx, (*node).limitFiles) }

// noProcessor: the leader gets a tenth of one processor (F30). Where no control
// group can be made, without root, it says so and does nothing.
func noProcessor(ctx context.Context, a *arena) error {
	err := a.limited(ctx, (*node).limitProcessor)
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) {
		fmt.Println("    no control group can be made here:", err)
		return nil
	}
	return err
}

func (a *arena) limited(ctx context.Context, limit func(*node) (func() error, error)) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	restore, err := limit(n)
	if err != nil {
		return err
	}
	over := a.fault(a.ofNodes(0, n))
	defer over()
	err = pause(ctx, cutTime)
	return errors.Join(err, restore())
}
