package host

import (
	"runtime"
	"sync"
	"time"

	"windlass/protocol"
)

// Meter attributes what one runtime's process tree uses to the jobs that run
// in it. Each interval is divided evenly between the jobs active in it, so
// Begin, Sample and End must each be called when the set changes: all three take
// a reading. Other processes of the host never enter the figures.
type Meter struct {
	root   string
	cores  int
	memory int64

	mu    sync.Mutex
	at    time.Time
	total time.Duration // processor time of the tree at the last reading
	known bool          // a reading was taken
	jobs  map[string]*jobUsage
}

type jobUsage struct {
	cpu     time.Duration
	percent float64
	rss     int64
	peak    int64
}

// NewMeter reads the process table below root.
func NewMeter(root string) *Meter {
	return &Meter{root: root, cores: runtime.NumCPU(), memory: Memory(root), jobs: make(map[string]*jobUsage)}
}

// Begin adds a job; pids are the roots of the runtime's process tree.
func (m *Meter) Begin(job string, pids []int, now time.Time) {
	m.Sample(pids, now)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.jobs[job] = &jobUsage{}
}

// End takes the last reading of a job and removes it. It returns false for a
// job that never had a reading.
func (m *Meter) End(job string, pids []int, now time.Time) (protocol.Usage, bool) {
	m.Sample(pids, now)
	u, ok := m.Usage(job)
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.jobs, job)
	return u, ok
}

// Sample takes a reading. It changes nothing when the table cannot be read or
// the tree is gone.
func (m *Meter) Sample(pids []int, now time.Time) {
	procs, err := ReadProcesses(m.root)
	if err != nil {
		return
	}
	tree := procs.Tree(pids...)
	if len(tree) == 0 {
		return
	}
	total, rss := procs.usage(tree)
	m.mu.Lock()
	defer m.mu.Unlock()
	// A member that ended without being waited for inside the tree takes its
	// time with it; the figure must not go back for that.
	used, wall := max(0, total-m.total), now.Sub(m.at)
	first := !m.known
	m.at, m.total, m.known = now, total, true
	if first || len(m.jobs) == 0 {
		return
	}
	n := len(m.jobs)
	for _, j := range m.jobs {
		j.cpu += used / time.Duration(n)
		if wall > 0 {
			j.percent = 100 * used.Seconds() / (wall.Seconds() * float64(m.cores) * float64(n))
		}
		j.rss = rss / int64(n)
		j.peak = max(j.peak, j.rss)
	}
}

// Usage returns a job's figures so far, false before its first reading.
func (m *Meter) Usage(job string) (protocol.Usage, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	j, ok := m.jobs[job]
	if !ok || j.peak == 0 {
		return protocol.Usage{}, false
	}
	return protocol.Usage{
		CPUPercent: j.percent, CPUMs: j.cpu.Milliseconds(), Memory: j.rss, PeakMemory: j.peak,
		Cores: m.cores, HostMemory: m.memory,
	}, true
}

// usage sums processor time and resident memory. The time of children that
// were waited for moves into their parent, so the sum goes on across their end.
func (p *Processes) usage(pids []int) (time.Duration, int64) {
	const tick = time.Second / 100 // USER_HZ, 100 on every Linux that Go runs on
	var ticks, rss int64
	for _, pid := range pids {
		st := p.stats[pid]
		ticks += int64(st.UTime) + int64(st.STime) + int64(st.CUTime) + int64(st.CSTime)
		rss += int64(st.ResidentMemory())
	}
	return time.Duration(ticks) * tick, rss
}
