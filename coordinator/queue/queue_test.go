package queue

import (
	"encoding/binary"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"windlass/protocol"
)

func jobID(n uint64) protocol.JobID {
	var id protocol.JobID
	binary.BigEndian.PutUint64(id[8:], n)
	return id
}

func item(seq uint64, e Endpoint, p protocol.Priority) Item {
	return Item{Job: jobID(seq), Seq: seq, Endpoint: e, Priority: p}
}

func every(Endpoint) bool { return true }

func drain(q *Queue, fits func(Endpoint) bool) []uint64 {
	var out []uint64
	for {
		it, ok := q.Best(fits)
		if !ok {
			return out
		}
		q.Take(it.Job)
		out = append(out, it.Seq)
	}
}

func TestPriorityThenSubmission(t *testing.T) {
	q := New()
	q.Push(item(4, 0, protocol.PriorityLow))
	q.Push(item(3, 1, protocol.PriorityNormal))
	q.Push(item(2, 0, protocol.PriorityNormal))
	q.Push(item(5, 2, protocol.PriorityCritical))
	q.Push(item(1, 0, protocol.PriorityNormal)) // returned: older than what waits
	if diff := cmp.Diff([]uint64{5, 1, 2, 3, 4}, drain(q, every)); diff != "" {
		t.Fatal(diff)
	}
}

func TestEndpointsThatDoNotFitAreLeft(t *testing.T) {
	q := New()
	q.Push(item(1, 0, protocol.PriorityCritical))
	q.Push(item(2, 1, protocol.PriorityLow))
	if diff := cmp.Diff([]uint64{2}, drain(q, func(e Endpoint) bool { return e == 1 })); diff != "" {
		t.Fatal(diff)
	}
	if q.Len() != 1 {
		t.Fatalf("%d jobs left, want 1", q.Len())
	}
}

func TestDelayedJobReturnsToItsPlace(t *testing.T) {
	q := New()
	late := item(1, 0, protocol.PriorityNormal)
	late.NotBeforeMs = 100
	q.Push(late)
	q.Push(item(2, 0, protocol.PriorityNormal))
	if it, _ := q.Best(every); it.Seq != 2 {
		t.Fatalf("job %d is first, want 2", it.Seq)
	}
	if at, ok := q.NextMs(); !ok || at != 100 {
		t.Fatalf("next time is %d, %v, want 100", at, ok)
	}
	if q.Ripe(99) != 0 || q.Ripe(100) != 1 {
		t.Fatal("the job did not ripen at 100")
	}
	if it, _ := q.Best(every); it.Seq != 1 {
		t.Fatalf("job %d is first, want 1", it.Seq)
	}
}

func TestHeldJobKeepsItsPlaceAndItsTtl(t *testing.T) {
	q := New()
	held := item(1, 0, protocol.PriorityNormal)
	held.ExpireMs, held.Held = 100, true
	q.Push(held)
	q.Push(item(2, 0, protocol.PriorityNormal))
	if it, _ := q.Best(every); it.Seq != 2 || q.Count(0, protocol.PriorityNormal) != 1 {
		t.Fatalf("job %d is first of %d, want 2 alone", it.Seq, q.Count(0, protocol.PriorityNormal))
	}
	if at, ok := q.Position(held.Job); !ok || at != 1 {
		t.Fatalf("its place is %d, %v", at, ok)
	}
	held.Held = false
	q.Push(held)
	if diff := cmp.Diff([]uint64{1, 2}, drain(q, every)); diff != "" {
		t.Fatal(diff)
	}
	held.Held = true
	q.Push(held)
	if got := q.Expired(100, 10); len(got) != 1 || q.Len() != 0 {
		t.Fatalf("expired %v, %d are left", got, q.Len())
	}
}

func TestExpiredJobsLeave(t *testing.T) {
	q := New()
	for seq := range uint64(5) {
		it := item(seq+1, 0, protocol.PriorityNormal)
		it.ExpireMs = int64(10 * (seq + 1))
		q.Push(it)
	}
	if got := q.Expired(30, 2); len(got) != 2 || got[0].Seq != 1 || got[1].Seq != 2 {
		t.Fatalf("expired %v, want jobs 1 and 2", got)
	}
	if got := q.Expired(30, 10); len(got) != 1 || got[0].Seq != 3 {
		t.Fatalf("expired %v, want job 3", got)
	}
	if q.Len() != 2 {
		t.Fatalf("%d jobs left, want 2", q.Len())
	}
}

func TestShareFollowsWeights(t *testing.T) {
	q := New()
	q.SetWeight(1, 3)
	for seq := range uint64(400) {
		it := item(seq+1, Endpoint(seq%2), protocol.PriorityNormal)
		it.Org = Org(seq % 2)
		q.Push(it)
	}
	served := [2]int{}
	for range 100 {
		it, _ := q.Best(every)
		q.Take(it.Job)
		served[it.Org]++
	}
	if served != [2]int{25, 75} {
		t.Fatalf("served %v of 100, want [25 75]", served)
	}
}

func TestIdleOrganisationSavesNothingUp(t *testing.T) {
	q := New()
	for seq := range uint64(200) {
		q.Push(item(seq+1, 0, protocol.PriorityNormal))
	}
	for range 100 {
		it, _ := q.Best(every)
		q.Take(it.Job)
	}
	for seq := range uint64(100) {
		it := item(1000+seq, 1, protocol.PriorityNormal)
		it.Org = 1
		q.Push(it)
	}
	served := [2]int{}
	for range 50 {
		it, _ := q.Best(every)
		q.Take(it.Job)
		served[it.Org]++
	}
	if served[0] < 24 || served[1] < 24 {
		t.Fatalf("served %v of 50, want halves", served)
	}
}

// model is the naive queue: one slice, sorted when asked.
type model struct{ items []Item }

func (m *model) remove(job protocol.JobID) {
	m.items = slices.DeleteFunc(m.items, func(it Item) bool { return it.Job == job })
}

func (m *model) best(fits func(Endpoint) bool) (Item, bool) {
	var ready []Item
	for _, it := range m.items {
		if it.NotBeforeMs == 0 && !it.Held && fits(it.Endpoint) {
			ready = append(ready, it)
		}
	}
	if len(ready) == 0 {
		return Item{}, false
	}
	return slices.MinFunc(ready, before), true
}

func before(a, b Item) int {
	if a.Priority != b.Priority {
		return int(a.Priority) - int(b.Priority)
	}
	return int(int64(a.Seq) - int64(b.Seq))
}

func (m *model) position(job protocol.JobID) int {
	at := slices.IndexFunc(m.items, func(it Item) bool { return it.Job == job })
	n := 1
	for _, it := range m.items {
		if it.Endpoint == m.items[at].Endpoint && it.NotBeforeMs == 0 && !it.Held && before(it, m.items[at]) < 0 {
			n++
		}
	}
	return n
}

func (m *model) expired(now int64) []Item {
	var out []Item
	for _, it := range m.items {
		if it.ExpireMs != 0 && it.ExpireMs <= now {
			out = append(out, it)
		}
	}
	slices.SortFunc(out, func(a, b Item) int {
		if a.ExpireMs != b.ExpireMs {
			return int(a.ExpireMs - b.ExpireMs)
		}
		return int(int64(a.Seq) - int64(b.Seq))
	})
	for _, it := range out {
		m.remove(it.Job)
	}
	return out
}

func TestQueueAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		q, m, now := New(), &model{}, int64(0)
		// Few numbers for long lanes with many collisions; up to 700 jobs at
		// the start so that lanes have several blocks.
		for seq := range uint64(rapid.IntRange(0, 700).Draw(t, "prefill")) {
			it := item(seq*3+1, Endpoint(seq%2), protocol.PriorityNormal)
			q.Push(it)
			m.items = append(m.items, it)
		}
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				it := item(rapid.Uint64Range(1, 6000).Draw(t, "seq"), Endpoint(rapid.IntRange(0, 2).Draw(t, "endpoint")), protocol.Priority(rapid.IntRange(1, 4).Draw(t, "priority")))
				if rapid.Bool().Draw(t, "delayed") {
					it.NotBeforeMs = now + rapid.Int64Range(1, 50).Draw(t, "notBefore")
				}
				it.Held = rapid.IntRange(0, 3).Draw(t, "held") == 0
				if rapid.Bool().Draw(t, "expires") {
					it.ExpireMs = now + rapid.Int64Range(1, 50).Draw(t, "expire")
				}
				q.Push(it)
				m.remove(it.Job)
				m.items = append(m.items, it)
			},
			"remove": func(t *rapid.T) {
				for range rapid.IntRange(1, 200).Draw(t, "count") {
					if len(m.items) == 0 {
						return
					}
					job := m.items[rapid.IntRange(0, len(m.items)-1).Draw(t, "index")].Job
					if !q.Remove(job) {
						t.Fatalf("job %v was not there", job)
					}
					m.remove(job)
				}
			},
			"take": func(t *rapid.T) {
				mask := rapid.IntRange(0, 7).Draw(t, "mask")
				fits := func(e Endpoint) bool { return mask&(1<<e) != 0 }
				got, ok := q.Best(fits)
				want, wantOK := m.best(fits)
				if ok != wantOK || got != want {
					t.Fatalf("best is %+v %v, want %+v %v", got, ok, want, wantOK)
				}
				if ok {
					q.Take(got.Job)
					m.remove(got.Job)
				}
			},
			"time": func(t *rapid.T) {
				now += rapid.Int64Range(0, 20).Draw(t, "step")
				if diff := cmp.Diff(m.expired(now), q.Expired(now, 1<<20)); diff != "" {
					t.Fatal(diff)
				}
				q.Ripe(now)
				for i := range m.items {
					if m.items[i].NotBeforeMs <= now && !m.items[i].Held {
						m.items[i].NotBeforeMs = 0
					}
				}
			},
			"": func(t *rapid.T) {
				if q.Len() != len(m.items) {
					t.Fatalf("%d jobs, want %d", q.Len(), len(m.items))
				}
				if len(m.items) > 0 {
					job := m.items[len(m.items)/2].Job
					if got, _ := q.Position(job); got != m.position(job) {
						t.Fatalf("position %d, want %d", got, m.position(job))
					}
				}
			},
		})
	})
}

// TestNothingStaysBehind: what leaves early leaves no entry in any list.
func TestNothingStaysBehind(t *testing.T) {
	q := New()
	for seq := range uint64(3000) {
		it := item(seq+1, 0, protocol.PriorityNormal)
		it.ExpireMs = int64(seq + 1)
		it.NotBeforeMs, it.Held = int64(seq%2), seq%3 == 0
		q.Push(it)
	}
	for seq := range uint64(3000) {
		q.Remove(jobID(seq + 1))
	}
	if q.Len() != 0 || len(q.delayed.items) != 0 || len(q.expiry.items) != 0 || len(q.lanes[0][2].blocks) != 0 || len(q.active[2]) != 0 {
		t.Fatal("entries stayed behind")
	}
}

// TestMemoryPerJob holds the queue's part of the 640 bytes of a waiting job.
func TestMemoryPerJob(t *testing.T) {
	const jobs = 200_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	q := fill(jobs)
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / jobs
	t.Logf("%d bytes per job", per)
	if per > 200 {
		t.Fatalf("%d bytes per job, want at most 200", per)
	}
	runtime.KeepAlive(q)
}

func fill(n int) *Queue {
	q := New()
	for seq := range uint64(n) {
		it := item(seq+1, Endpoint(seq%8), protocol.Priority(seq%4+1))
		it.ExpireMs = int64(seq + 1)
		q.Push(it)
	}
	return q
}

func BenchmarkPushPop(b *testing.B) {
	for name, n := range map[string]int{"1k": 1000, "100k": 100_000, "1M": 1_000_000} {
		b.Run(name, func(b *testing.B) {
			q := fill(n)
			seq := uint64(n)
			b.ReportAllocs()
			for b.Loop() {
				seq++
				it := item(seq, Endpoint(seq%8), protocol.Priority(seq%4+1))
				it.ExpireMs = int64(seq)
				q.Push(it)
				best, _ := q.Best(every)
				q.Take(best.Job)
			}
		})
	}
}

func BenchmarkReturn(b *testing.B) {
	q := fill(1_000_000)
	seq := uint64(0)
	for b.Loop() {
		seq = (seq*2862933555777941757 + 3037000493) % 1_000_000
		it, _ := q.Get(jobID(seq + 1))
		q.Remove(it.Job)
		q.Push(it)
	}
}
