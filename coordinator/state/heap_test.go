package state

import (
	"runtime"
	"testing"
)

// maxOverhead is the budget of the issue: heap per queued job beyond its payload.
const maxOverhead = 640

func TestHeapPerQueuedJob(t *testing.T) {
	const jobs, payload, perBatch = 100_000, 1024, 100
	s, e := withEndpoint(t)
	before := liveHeap()
	for n := 0; n < jobs; n += perBatch {
		txn := s.Begin()
		for i := range perBatch {
			j := queuedJob(e, n+i, payload)
			txn.PutJob(j)
		}
		txn.Commit(uint64(2 + n))
	}
	overhead := (liveHeap()-before)/jobs - payload
	runtime.KeepAlive(s)
	t.Logf("heap per queued job beyond %d bytes of payload: %d bytes at %d jobs", payload, overhead, jobs)
	if overhead > maxOverhead {
		t.Errorf("heap per queued job is %d bytes beyond its payload, at most %d are allowed", overhead, maxOverhead)
	}
	if got := s.View().Queued("org_default"); got != jobs {
		t.Errorf("queued = %d, want %d", got, jobs)
	}
}

func liveHeap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkSubmit(b *testing.B) {
	const perBatch = 64
	s, e := withEndpoint(b)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		txn := s.Begin()
		for range perBatch {
			txn.PutJob(queuedJob(e, n, 1024))
			n++
		}
		txn.Commit(uint64(2 + n))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/job")
}
