package bench

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"windlass/coordinator/api"
)

// probeTime is how long each probe of the machine runs.
const probeTime = time.Second

// syncProbe is how many 4 KiB append + fdatasync the disk does per second now.
func syncProbe(dir string) (float64, error) {
	f, err := os.Create(filepath.Join(dir, "sync-probe"))
	if err != nil {
		return 0, fmt.Errorf("cannot probe the disk: %w", err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	n, start := 0, time.Now()
	for time.Since(start) < probeTime {
		if _, err := f.Write(block); err != nil {
			return 0, fmt.Errorf("cannot probe the disk: %w", err)
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return 0, fmt.Errorf("cannot probe the disk: %w", err)
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// httpProbe is how many requests per second plain fasthttp answers now, with as
// many connections and the same request as a submit, and the processor time of
// one; server and load share this process.
func httpProbe(connections int) (rate float64, each time.Duration, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, 0, fmt.Errorf("cannot probe HTTP: %w", err)
	}
	before, err := spent()
	if err != nil {
		return 0, 0, err
	}
	served := make(chan error, 1)
	go func() { served <- api.ServePlain(ln) }()
	var n atomic.Int64
	var wg sync.WaitGroup
	end := time.Now().Add(probeTime)
	for range connections {
		wg.Go(func() {
			c, err := dial(ln.Addr().String(), benchKey)
			if err != nil {
				return
			}
			defer c.close()
			body := submitBody()
			for time.Now().Before(end) {
				if _, _, err := c.post("/", body); err != nil {
					return
				}
				n.Add(1)
			}
		})
	}
	wg.Wait()
	_ = ln.Close()
	<-served
	after, err := spent()
	count := max(n.Load(), 1)
	return float64(count) / probeTime.Seconds(), (after - before) / time.Duration(count), err
}

// spent is the processor time of this process so far.
func spent() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("cannot read processor time: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
