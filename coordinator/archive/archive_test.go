package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"windlass/coordinator/blob"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// TestWhatIsArchivedIsReadBack draws rows over several segments; some jobs were
// run again and are in more than one.
func TestWhatIsArchivedIsReadBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(t)
		newest := make(map[int]*state.Job)
		for s := range rapid.IntRange(1, 4).Draw(rt, "segments") {
			var list []*state.Job
			ids := rapid.SliceOfNDistinct(rapid.IntRange(1, 60), 1, 40, rapid.ID).Draw(rt, "ids")
			slices.Sort(ids)
			for _, n := range ids {
				j := randomJob(rt, n)
				j.Index = uint64(rapid.IntRange(0, 3).Draw(rt, "index")*10 + s)
				if old := newest[n]; old == nil || j.Index > old.Index {
					newest[n] = j
				}
				list = append(list, j)
			}
			w.write(list...)
		}
		var want []int
		for n := 60; n >= 0; n-- {
			if j := newest[n]; j != nil {
				want = append(want, n)
				w.has(j)
			} else if w.job(id(n)) != nil {
				rt.Fatalf("%d was found and never archived", n)
			}
		}
		if got := w.walk(protocol.JobID{}); !slices.Equal(got, want) {
			rt.Fatalf("walked over %v, want %v", got, want)
		}
		for walk := w.a.Newest(w.view(), protocol.JobID{}); ; {
			j, err := walk.Next(t.Context())
			if err != nil {
				rt.Fatal(err)
			}
			if j == nil {
				break
			}
			if want := newest[number(j.ID)]; j.Index != want.Index || !bytes.Equal(fsm.EncodeJob(j), fsm.EncodeJob(want)) {
				rt.Fatalf("walked over index %d of %d, want %d", j.Index, number(j.ID), want.Index)
			}
		}
		before := rapid.IntRange(0, 61).Draw(rt, "before")
		below := slices.DeleteFunc(slices.Clone(want), func(n int) bool { return n >= before })
		if got := w.walk(id(before)); !slices.Equal(got, below) {
			rt.Fatalf("walked below %d over %v, want %v", before, got, below)
		}
		checkMerge(rt, w, newest)
	})
}

// checkMerge replaces all segments by one, which must say the same.
func checkMerge(rt *rapid.T, w *world, newest map[int]*state.Job) {
	wr := w.a.NewWriter()
	if err := w.a.Merge(w.t.Context(), w.list, wr); err != nil {
		rt.Fatal(err)
	}
	g := w.store(wr)
	w.list = []*state.Segment{g}
	if int(g.Jobs) != len(newest) {
		rt.Fatalf("%d jobs were merged to %d", len(newest), g.Jobs)
	}
	for _, j := range newest {
		w.has(j)
	}
}

func randomJob(t *rapid.T, n int) *state.Job {
	return job(n, func(j *state.Job) {
		j.Status = rapid.SampledFrom([]protocol.Status{protocol.StatusCompleted, protocol.StatusFailed, protocol.StatusCancelled, protocol.StatusTimeout}).Draw(t, "status")
		size := rapid.SampledFrom([]int{0, 10, 1000, 70_000}).Draw(t, "size")
		j.Outcome.Output.Inline = bytes.Repeat([]byte{byte(n)}, size)
		if rapid.Bool().Draw(t, "blob") {
			j.Input = state.Payload{Ref: &state.Blob{SHA256: [32]byte{byte(n)}, Size: 7}}
		}
		if rapid.Bool().Draw(t, "extra") {
			j.Extra = &state.Extra{CallbackURL: "u", IdempotencyKey: "k", ReopenedMs: 3, Tags: []state.Tag{{Key: "a", Value: "b"}}}
		}
		if rapid.IntRange(0, 5).Draw(t, "no outcome") == 0 {
			j.Outcome = nil
		}
		j.Org = rapid.SampledFrom([]string{"org_default", "org_other"}).Draw(t, "org")
	})
}

func TestLookupReadsOneIndexAndOneBlock(t *testing.T) {
	w := newWorld(t)
	for s := range 5 { // all of the same range
		var list []*state.Job
		for n := s; n < 20_000; n += 5 {
			list = append(list, job(n+1))
		}
		w.write(list...)
	}
	size := int(w.list[0].Size - w.list[0].IndexOffset)
	w.has(job(7003))
	if ranges := w.blobs.ranges; ranges > 5+2 {
		t.Errorf("a first lookup read %d parts, want the 5 indexes and a block, or two by mistake of a filter", ranges)
	}
	w.blobs.ranges, w.blobs.bytes = 0, 0
	for n := 1; n <= 500; n++ {
		w.has(job(n * 31))
	}
	if w.blobs.ranges > 500+50 || w.blobs.bytes > w.blobs.ranges*blockBytes {
		t.Errorf("500 lookups read %d parts of %d bytes; an index has %d", w.blobs.ranges, w.blobs.bytes, size)
	}
	w.blobs.ranges = 0
	for n := 1; n <= 500; n++ {
		if w.job(protocol.NewJobID(time.UnixMilli(start+int64(n)))) != nil {
			t.Fatal("found a job that never was")
		}
	}
	if w.blobs.ranges > 0 {
		t.Errorf("lookups of what is not there read %d parts", w.blobs.ranges)
	}
}

// TestDamageIsFoundAndNeverServed flips each byte of a segment, cuts it, and
// exchanges it: a lookup says that the segment is damaged, or answers right.
func TestDamageIsFoundAndNeverServed(t *testing.T) {
	w := newWorld(t)
	list := []*state.Job{job(1), job(2, func(j *state.Job) { j.Input = state.Payload{Ref: &state.Blob{SHA256: [32]byte{9}, Size: 3}} }), job(3)}
	g := w.write(list...)
	good := w.blobs.blobs[g.SHA256]
	other := newWorld(t)
	foreign := other.blobs.blobs[other.write(jobs(1, 3)...).SHA256]
	found := 0
	try := func(what string, b []byte) {
		w.blobs.set(func(m *memory) { m.blobs[g.SHA256] = b })
		w.restart()
		w.alarms = nil
		bad := false
		for _, want := range append(list, job(4)) {
			got, err := w.a.Job(t.Context(), w.view(), want.ID)
			var u *Unreadable
			switch {
			case err != nil && (!errors.As(err, &u) || !u.Damaged || u.Segment != g.Number):
				t.Fatalf("%s: %v", what, err)
			case err != nil:
				bad = true
			case want.ID == id(4) && got != nil, want.ID != id(4) && (got == nil || !bytes.Equal(fsm.EncodeJob(got), fsm.EncodeJob(want))):
				t.Fatalf("%s: job %d is answered with %+v", what, number(want.ID), got)
			}
		}
		err := w.a.References(t.Context(), w.view(), func(blob.Digest) {})
		bad = bad || err != nil
		if bad {
			found++
			if len(w.alarms) != 1 || !w.a.Damaged(g.Number) || w.a.Stats(w.view()).Damaged != 1 {
				t.Fatalf("%s: alarms %v", what, w.alarms)
			}
		}
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1 << (i % 8)
		try(fmt.Sprintf("byte %d", i), b)
	}
	if found < len(good)-headerSize {
		t.Errorf("%d of %d flipped bytes were found; only the %d of the header matter to nobody", found, len(good), headerSize)
	}
	for name, b := range map[string][]byte{"cut": good[:len(good)-1], "empty": nil, "another segment": foreign, "grown in front": append([]byte{0}, good...)} {
		found = 0
		if try(name, b); found == 0 {
			t.Errorf("%s: not found", name)
		}
	}
	delete(w.blobs.blobs, g.SHA256)
	w.restart()
	var u *Unreadable
	if _, err := w.a.Job(t.Context(), w.view(), id(1)); !errors.As(err, &u) || !u.Damaged {
		t.Errorf("a blob that is gone: %v", err)
	}
}

func TestDamagedCopyIsReplaced(t *testing.T) {
	w := newWorld(t)
	g := w.write(jobs(1, 500)...)
	good := w.blobs.blobs[g.SHA256]
	w.blobs.good[g.SHA256] = good
	w.blobs.blobs[g.SHA256] = bytes.Repeat([]byte{7}, len(good))
	w.has(job(77))
	if len(w.alarms) > 0 || w.a.Damaged(g.Number) {
		t.Errorf("alarms %v although another coordinator had a good copy", w.alarms)
	}
	// The other copy is no better.
	w.blobs.good[g.SHA256] = bytes.Repeat([]byte{8}, len(good))
	w.blobs.blobs[g.SHA256] = bytes.Repeat([]byte{7}, len(good))
	w.restart()
	var u *Unreadable
	if j, err := w.a.Job(t.Context(), w.view(), id(77)); !errors.As(err, &u) || !u.Damaged {
		t.Errorf("two damaged copies answer %v, %v", j, err)
	}
}

// TestAbsentStoreIsNoAnswer: what cannot be read is unknown, not absent; and who
// asks for it does not wait for a store that just failed.
func TestAbsentStoreIsNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write(jobs(1, 3)...)
		w.blobs.err = blob.ErrUnreachable
		for range 100 {
			var u *Unreadable
			if _, err := w.a.Job(t.Context(), w.view(), id(2)); !errors.As(err, &u) || u.Damaged {
				t.Fatalf("answered %v", err)
			}
		}
		if w.blobs.ranges != 1 || len(w.alarms) != 0 {
			t.Errorf("the store was asked %d times, alarms %v", w.blobs.ranges, w.alarms)
		}
		if err := w.a.References(t.Context(), w.view(), func(blob.Digest) {}); err == nil {
			t.Error("the references are complete although a segment cannot be read")
		}
		if j := w.job(id(9)); j != nil {
			t.Error("found what no segment covers")
		}
		w.blobs.set(func(m *memory) { m.err = nil })
		pass(doubtTerm)
		w.has(job(2))
	})
}

func TestHangingStoreEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write(jobs(1, 3)...)
		w.blobs.hang = make(chan struct{})
		view := w.view()
		var wg sync.WaitGroup
		for range 3 * maxReads {
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if _, err := w.a.Job(ctx, view, id(2)); !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("answered %v", err)
				}
			})
		}
		synctest.Wait()
		w.blobs.set(func(m *memory) {
			if m.ranges > maxReads {
				t.Errorf("%d reads at a time", m.ranges)
			}
		})
		wg.Wait()
		close(w.blobs.hang)
		w.has(job(2)) // those who gave up say nothing of the segment
	})
}

func TestJobsExpireOneByOne(t *testing.T) {
	w := newWorld(t)
	w.write(jobs(1, 10)...) // job n ended at start + n
	w.nowMs = start + keep.Milliseconds() + 4
	for n := 1; n <= 10; n++ {
		if got := w.job(id(n)) != nil; got != (n > 4) {
			t.Errorf("job %d is found: %t", n, got)
		}
	}
	if got := w.walk(protocol.JobID{}); !slices.Equal(got, []int{10, 9, 8, 7, 6, 5}) {
		t.Errorf("walked over %v", got)
	}
	wr := w.a.NewWriter()
	if err := w.a.Merge(t.Context(), w.list, wr); err != nil || wr.Jobs() != 6 {
		t.Errorf("merged to %d jobs: %v", wr.Jobs(), err)
	}
}

func TestReferencesNameEveryBlob(t *testing.T) {
	w := newWorld(t)
	ref := func(n byte) state.Payload { return state.Payload{Ref: &state.Blob{SHA256: [32]byte{n}, Size: 1}} }
	w.write(job(1, func(j *state.Job) {
		j.Input, j.Outcome.Output, j.Outcome.Logs, j.Outcome.Chunks = ref(1), ref(2), ref(3), ref(4)
	}), job(2, func(j *state.Job) { j.Input = ref(1) }))
	w.write(job(3, func(j *state.Job) { j.Outcome, j.Input = nil, ref(5) }))
	w.write(job(4))
	got := make(map[blob.Digest]int)
	if err := w.a.References(t.Context(), w.view(), func(d blob.Digest) { got[d]++ }); err != nil {
		t.Fatal(err)
	}
	for n := byte(1); n <= 5; n++ {
		if got[[32]byte{n}] != 1 {
			t.Errorf("blob %d is named %d times", n, got[[32]byte{n}])
		}
	}
	for _, g := range w.list {
		if got[g.SHA256] != 1 {
			t.Errorf("segment %d is not named", g.Number)
		}
	}
}

func TestWalkReadsWhatItComesTo(t *testing.T) {
	w := newWorld(t)
	for s := range 20 {
		w.write(jobs(s*100+1, s*100+100)...)
	}
	walk := w.a.Newest(w.view(), protocol.JobID{})
	if _, ok := walk.Bound(); !ok || w.blobs.ranges != 0 {
		t.Errorf("%d parts were read before the first job", w.blobs.ranges)
	}
	for range 150 {
		if j, err := walk.Next(t.Context()); j == nil || err != nil {
			t.Fatal(j, err)
		}
	}
	if w.blobs.ranges != 4 {
		t.Errorf("150 jobs read %d parts, want two indexes and two blocks", w.blobs.ranges)
	}
}

func TestCachesAreBounded(t *testing.T) {
	c := newCache[int](100, func(b []byte) int { return len(b) })
	for n := range 50 {
		c.put(n, make([]byte, 7))
		c.get(0)
	}
	if _, ok := c.get(0); !ok || c.bytes() > 100 || len(c.byKey) != c.order.Len() {
		t.Errorf("%d bytes in %d entries; what is used is kept: %t", c.bytes(), len(c.byKey), ok)
	}
	if c.put(99, make([]byte, 101)); c.bytes() > 100 {
		t.Errorf("a value of 101 bytes is kept")
	}
}

func TestWriterRefusesWhatIsNotEndedOrNotInOrder(t *testing.T) {
	w := newWorld(t).a.NewWriter()
	if err := w.Add(job(5)); err != nil {
		t.Fatal(err)
	}
	for name, j := range map[string]*state.Job{
		"again": job(5), "below": job(4), "live": job(6, func(j *state.Job) { j.Status = protocol.StatusQueued }),
	} {
		if w.Add(j) == nil {
			t.Errorf("%s: taken", name)
		}
	}
}
