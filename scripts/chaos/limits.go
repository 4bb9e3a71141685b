package main

import (
	"fmt"
	"os"
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
