package webhook

import (
	"fmt"
	"runtime"
	"testing"

	"pgregory.net/rapid"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// owed is a row with a pending webhook.
func owed(n int, org, url string, dueMs int64) *state.Job {
	return &state.Job{
		ID: id16(n), Org: org, Run: 1, Status: protocol.StatusCancelled, Extra: &state.Extra{CallbackURL: url},
		Outcome: &state.Outcome{Delivery: &state.Delivery{State: protocol.DeliveryPending, NextMs: dueMs, SinceMs: dueMs}},
	}
}

func TestTurnsAreFair(t *testing.T) {
	s := newSchedule()
	n := 0
	for range 200 {
		n++
		s.see(owed(n, "org_a", "https://slow.example/", 0))
	}
	for range 10 {
		n++
		s.see(owed(n, "org_a", "https://fast.example/", 0))
		n++
		s.see(owed(n, "org_b", "https://slow.example/", 0))
	}
	s.promote(0)
	count := make(map[string]int)
	for range 30 {
		e := s.take()
		count[e.lane.org.name+" "+e.lane.host]++
	}
	for _, k := range []string{"org_a https://slow.example", "org_a https://fast.example", "org_b https://slow.example"} {
		if count[k] != 10 {
			t.Errorf("%s had %d of the first 30 turns, want 10", k, count[k])
		}
	}
}

func TestBoundsHold(t *testing.T) {
	s := newSchedule()
	n := 0
	for o := range 40 {
		for h := range 6 {
			for range 20 {
				n++
				s.see(owed(n, fmt.Sprint("org", o), fmt.Sprintf("https://h%d.example/", h), 0))
			}
		}
	}
	s.promote(0)
	var flying []*entry
	for e := s.take(); e != nil; e = s.take() {
		flying = append(flying, e)
		if e.lane.flying > maxLane || e.lane.org.flying > maxOrg || s.flying > maxAll {
			t.Fatalf("%d, %d and %d fly", e.lane.flying, e.lane.org.flying, s.flying)
		}
	}
	if len(flying) != maxAll {
		t.Errorf("%d fly, want %d", len(flying), maxAll)
	}
	for _, e := range flying {
		s.land(e, nil, 0)
	}
	left := 0
	for len(s.entries) > 0 {
		e := s.take()
		if e == nil {
			t.Fatalf("%d are left and none is taken", len(s.entries))
		}
		s.land(e, nil, 0)
		left++
	}
	if left != n-maxAll || len(s.orgs) != 0 || s.ready != 0 || s.flying != 0 {
		t.Errorf("%d were left, want %d; then %d organisations, %d ready, %d flying", left, n-maxAll, len(s.orgs), s.ready, s.flying)
	}
}

// TestScheduleAgreesWithRows drives the schedule with rows that change at random:
// what is owed and due is taken once, and nothing is left behind.
func TestScheduleAgreesWithRows(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := newSchedule()
		rows := make(map[int]*state.Job) // as the table has them
		flying := make(map[*entry]int)
		now := int64(100)
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			n := rapid.IntRange(1, 12).Draw(t, "job")
			switch rapid.SampledFrom([]string{"owe", "owe", "end", "gone", "take", "take", "land", "time"}).Draw(t, "step") {
			case "owe":
				row := owed(n, fmt.Sprint("org", n%3), fmt.Sprintf("https://h%d.example/", n%4), now+int64(rapid.IntRange(-5, 20).Draw(t, "due")))
				row.Run = uint32(rapid.IntRange(1, 2).Draw(t, "run"))
				rows[n] = row
				s.see(row)
			case "end":
				row := owed(n, "org0", "https://h0.example/", 0)
				row.Outcome.Delivery.State = protocol.DeliveryDelivered
				rows[n] = row
				s.see(row)
			case "gone":
				delete(rows, n)
				s.forget(id16(n))
			case "time":
				now += int64(rapid.IntRange(1, 10).Draw(t, "ms"))
			case "take":
				s.promote(now)
				if e := s.take(); e != nil {
					if e.dueMs > now {
						t.Fatalf("taken %d ms before it is due", e.dueMs-now)
					}
					for other := range flying {
						if other.job == e.job {
							t.Fatal("taken while it flies")
						}
					}
					flying[e] = int(e.job[15])
				}
			case "land":
				for e, job := range flying {
					s.land(e, rows[job], 0)
					delete(flying, e)
					break
				}
			}
		}
		for e, job := range flying {
			s.land(e, rows[job], 0)
		}
		want := 0
		for _, row := range rows {
			if row.Owes() {
				want++
			}
		}
		s.promote(1 << 40)
		got := make(map[protocol.JobID]bool)
		for e := s.take(); e != nil; e = s.take() {
			row := rows[int(e.job[15])]
			if row == nil || !row.Owes() || got[e.job] || row.Webhook().NextMs != e.dueMs || row.Run != e.run {
				t.Fatalf("job %d is taken: %+v", e.job[15], row)
			}
			got[e.job] = true
			s.land(e, nil, 0)
		}
		if len(got) != want || len(s.entries) != 0 || len(s.orgs) != 0 || s.ready != 0 {
			t.Fatalf("%d were taken, want %d; %d entries and %d organisations are left", len(got), want, len(s.entries), len(s.orgs))
		}
	})
}

// TestHeapOfPending bounds what each of very many pending deliveries costs beside its row.
func TestHeapOfPending(t *testing.T) {
	const many = 1 << 18
	heapBytes := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	row := owed(1, "org_a", "https://slow.example/", 0)
	before := heapBytes()
	s := newSchedule()
	for n := range many {
		row.ID = id16(n)
		s.see(row)
	}
	waiting := float64(heapBytes()-before) / many
	s.promote(0)
	ready := float64(heapBytes()-before) / many
	t.Logf("%.0f bytes for each that waits, %.0f when all are due", waiting, ready)
	if waiting > 160 || ready > 200 {
		t.Errorf("a pending delivery costs %.0f to %.0f bytes, at most 160 and 200 are allowed", waiting, ready)
	}
	runtime.KeepAlive(s)
}
