package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
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

// controls are what a control group limits, in both versions of the kernel's.
type controls struct {
	controller string            // of version 1
	one, two   map[string]string // file -> text, by version
}

const groups = "/sys/fs/cgroup"

// tenth is a tenth of one processor.
func tenth() controls {
	return controls{"cpu", map[string]string{"cpu.cfs_period_us": "100000", "cpu.cfs_quota_us": "10000"}, map[string]string{"cpu.max": "10000 100000"}}
}

// littleMemory is what a process may take on top of what it has.
func littleMemory() controls {
	return controls{"memory", map[string]string{"memory.limit_in_bytes": "33554432"}, map[string]string{"memory.max": "33554432", "memory.swap.max": "0"}}
}

// limit puts a coordinator into a control group of its own, where this machine
// lets us make them.
func (n *node) limit(c controls) (restore func() error, err error) {
	root, settings := filepath.Join(groups, c.controller), c.one
	if _, err := os.Stat(filepath.Join(groups, "cgroup.controllers")); err == nil {
		root, settings = groups, c.two
	}
	group := filepath.Join(root, filepath.Base(n.b.dir))
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

// noProcessor: the leader gets a tenth of one processor (F30).
func noProcessor(ctx context.Context, a *arena) error {
	return impossible(a.limited(ctx, func(n *node) (func() error, error) { return n.limit(tenth()) }))
}

// impossible passes over what needs control groups where none can be made,
// without root, and says so.
func impossible(err error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.EROFS) {
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

// noMemory: the leader takes in more than its memory holds, and the kernel kills
// it (F30).
func noMemory(ctx context.Context, a *arena) error {
	n, _, err := a.leaderAnd(ctx)
	if err != nil {
		return err
	}
	restore, err := n.limit(littleMemory())
	if err != nil {
		return impossible(err)
	}
	fault := a.inject(a.ofNodes(killLimit, n))
	defer fault.over()
	stop := n.swamp(ctx)
	err = gone(ctx, n, healTime)
	stop()
	if err := errors.Join(err, restore()); err != nil {
		return err
	}
	if !n.killed() {
		return fmt.Errorf("the run is invalid: %s ended, and the kernel did not kill it", n.name)
	}
	fault.measure(ctx)
	fault.over()
	return n.start(ctx)
}

const (
	swampers  = 16
	swampBody = 9 << 20 // below the largest body that is taken in whole
)

// swamp sends bodies that a coordinator takes in whole before it refuses them.
func (n *node) swamp(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	body := []byte(`{"input":"` + strings.Repeat("x", swampBody))
	for range swampers {
		all.Go(func() {
			for ctx.Err() == nil {
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+n.api+"/v2/endpoints/"+endpoint+"/runasync", bytes.NewReader(body))
				if err != nil {
					panic(err) // our own addresses and paths
				}
				req.Header.Set("Authorization", "Bearer "+bedKey)
				if resp, err := n.http.Do(req); err == nil {
					_ = resp.Body.Close()
				}
			}
		})
	}
	return func() {
		cancel()
		all.Wait()
	}
}
