package record

import (
	"syscall"
	"time"
	"unsafe"
)

// clockMonotonic is Linux's number of the clock that nobody can set.
const clockMonotonic = 1

// Now is this machine's monotonic clock in nanoseconds. All processes of a
// machine read the same one, so the records of clients, handlers and agents can
// be put in order.
func Now() int64 {
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 {
		panic(errno) // only for a clock that does not exist
	}
	return ts.Nano()
}

// Span is the time between two readings of Now.
func Span(from, to int64) time.Duration { return time.Duration(to - from) }
