package process

import (
	"bytes"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// settlePause is the pause between two looks at the pipes.
const settlePause = time.Millisecond

// Settle waits until what the child wrote so far was read and handled, at most
// limit: a message on one pipe may overtake a log line on another.
func (p *Process) Settle(limit time.Duration) {
	deadline := time.Now().Add(limit)
	for p.pending() && time.Now().Before(deadline) {
		time.Sleep(settlePause)
	}
}

func (p *Process) pending() bool {
	for _, s := range p.streams {
		if s.pending() {
			return true
		}
	}
	return false
}

// pending reports whether bytes wait in the pipe, or a reader works on some.
func (s *stream) pending() bool {
	if s.busy.Load() {
		return true
	}
	conn, err := s.file.SyscallConn()
	if err != nil {
		return false
	}
	n := 0
	_ = conn.Control(func(fd uintptr) { n, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n > 0
}

// ReadsStdin reports whether a thread of the main process waits in read(2) on
// descriptor 0. It is false where the kernel does not show it.
func (p *Process) ReadsStdin() bool {
	dir := "/proc/" + strconv.Itoa(p.pid) + "/task"
	threads, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, t := range threads {
		b, err := os.ReadFile(dir + "/" + t.Name() + "/syscall")
		f := bytes.Fields(b)
		if err == nil && len(f) > 1 && string(f[0]) == strconv.Itoa(unix.SYS_READ) && string(f[1]) == "0x0" {
			return true
		}
	}
	return false
}
