package host

import (
	"fmt"
	"runtime"
	"sync"
	"syscall"

	"github.com/prometheus/procfs"

	"windlass/protocol"
)

// kib is the unit of /proc/meminfo.
const kib = 1024

// Sampler measures the host. Its zero value is not usable; see NewSampler.
type Sampler struct {
	fs   procfs.FS
	disk string

	mu   sync.Mutex
	busy float64 // processor seconds at the last sample
	all  float64
}

// NewSampler measures the host whose procfs is root and whose data lie below disk.
func NewSampler(root, disk string) (*Sampler, error) {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return nil, fmt.Errorf("cannot open procfs %s: %w", root, err)
	}
	return &Sampler{fs: fs, disk: disk}, nil
}

// Sample reads the host's state. CPUPercent is the mean of all cores since the
// sample before, and since boot on the first call.
func (s *Sampler) Sample() (protocol.HostSample, error) {
	st, err := s.fs.Stat()
	if err != nil {
		return protocol.HostSample{}, fmt.Errorf("cannot read processor state: %w", err)
	}
	out := protocol.HostSample{Cores: runtime.NumCPU(), CPUPercent: s.cpuPercent(st.CPUTotal)}
	mem, err := s.fs.Meminfo()
	if err != nil {
		return out, fmt.Errorf("cannot read memory state: %w", err)
	}
	if mem.MemTotal != nil && mem.MemAvailable != nil {
		out.MemoryTotal = int64(*mem.MemTotal) * kib
		out.MemoryUsed = out.MemoryTotal - int64(*mem.MemAvailable)*kib
	}
	load, err := s.fs.LoadAvg()
	if err != nil {
		return out, fmt.Errorf("cannot read load: %w", err)
	}
	out.Load1 = load.Load1
	var fsStat syscall.Statfs_t
	if err := syscall.Statfs(s.disk, &fsStat); err != nil {
		return out, fmt.Errorf("cannot read free space of %s: %w", s.disk, err)
	}
	out.DiskFree = int64(fsStat.Bavail) * int64(fsStat.Bsize)
	return out, nil
}

func (s *Sampler) cpuPercent(c procfs.CPUStat) float64 {
	// Guest time is already part of user time in this file.
	busy := c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal
	all := busy + c.Idle + c.Iowait
	s.mu.Lock()
	defer s.mu.Unlock()
	dBusy, dAll := busy-s.busy, all-s.all
	s.busy, s.all = busy, all
	if dAll <= 0 {
		return 0
	}
	return min(100, max(0, 100*dBusy/dAll))
}

// Memory returns the host's memory in bytes, 0 when it cannot be read.
func Memory(root string) int64 {
	fs, err := procfs.NewFS(root)
	if err != nil {
		return 0
	}
	mem, err := fs.Meminfo()
	if err != nil || mem.MemTotal == nil {
		return 0
	}
	return int64(*mem.MemTotal) * kib
}
