package bench

import (
	"slices"
	"sync"
	"time"
)

// samples collects latencies of many goroutines.
type samples struct {
	mu sync.Mutex
	ns []int64
}

func (s *samples) add(ns ...int64) {
	s.mu.Lock()
	s.ns = append(s.ns, ns...)
	s.mu.Unlock()
}

// clear empties it.
func (s *samples) clear() {
	s.mu.Lock()
	s.ns = nil
	s.mu.Unlock()
}

func (s *samples) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.ns)
}

// quantile returns the q-quantile, 0 without samples.
func (s *samples) quantile(q float64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.ns) == 0 {
		return 0
	}
	slices.Sort(s.ns)
	return time.Duration(s.ns[min(len(s.ns)-1, int(q*float64(len(s.ns))))])
}
