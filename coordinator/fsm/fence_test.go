package fsm

import (
	"bytes"
	"errors"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func fenced(t testing.TB, data []byte) *world {
	t.Helper()
	var out bytes.Buffer
	if err := Fence(bytes.NewReader(data), &out); err != nil {
		t.Fatal(err)
	}
	if err := Verify(bytes.NewReader(out.Bytes())); err != nil {
		t.Fatal(err)
	}
	w, err := restored(t, out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// TestFenceRefusesTheOldTimeline: after the backup was taken, work went on; the
// restored state must accept nothing of it.
func TestFenceRefusesTheOldTimeline(t *testing.T) {
	old := populated(t)
	backup := old.persist()
	// The timeline that will be lost: everything is leased, again and again.
	old.ok(register(1, 3))
	for n := 1; n <= 6; n++ {
		if j := old.job(n); j.Status == protocol.StatusQueued {
			old.ok(lease(n, j.Attempt, 1, 3))
		}
	}
	w := fenced(t, backup)
	w.index, w.clock = old.index, old.clock
	for n := 1; n <= 6; n++ {
		if j := w.job(n); j.Lease != nil || j.Status == protocol.StatusInitializing || j.Adoptable {
			t.Fatalf("job %d is %+v", n, j)
		}
	}
	for n := 1; n <= 6; n++ {
		for attempt := range uint32(4) {
			for _, life := range []int{1, 3} {
				w.refused(finish(n, attempt, 1, life, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
				w.refused(release(n, attempt, 1, life, command.Release_LOST), protocol.CodeStaleAttempt)
				w.refused(adopt(n, attempt, 1, life), protocol.CodeStaleIncarnation)
				w.refused(lease(n, attempt, 1, life), protocol.CodeStaleIncarnation)
			}
		}
	}
	w.refused(register(1, 1), protocol.CodeStaleIncarnation)
	// The agent's next life takes nothing over, and works.
	r := w.ok(register(1, 5, held(2, 1), held(5, 1), held(1, 1)))
	if len(r.Current) != 0 {
		t.Errorf("runs of before were taken over: %v", r.Current)
	}
	for attempt := range uint32(4) {
		w.refused(adopt(2, attempt, 1, 5), protocol.CodeConflict)
		w.refused(finish(2, attempt, 1, 5, protocol.OutcomeCompleted), protocol.CodeStaleAttempt)
	}
	granted := w.ok(lease(2, w.job(2).Attempt, 1, 5)).Attempt
	if tries := w.job(2).Tries(); tries != 1 {
		t.Errorf("the first attempt of the new era counts as %d", tries)
	}
	w.ok(finish(2, granted, 1, 5, protocol.OutcomeCompleted))
}

// TestFenceKeepsTheRest compares every row of random states.
func TestFenceKeepsTheRest(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w, m := ready(t), newModel()
		for range rapid.IntRange(10, 80).Draw(rt, "steps") {
			m.index = indexes(w.store.View())
			w.do(randomCommand(rt, w, m))
		}
		f := fenced(t, w.persist())
		before, after := w.store.View(), f.store.View()
		if before.Meta() != after.Meta() {
			rt.Fatalf("meta is %+v, was %+v", after.Meta(), before.Meta())
		}
		if a, b := before.Segments(), after.Segments(); len(a)+len(b) > 0 && !reflect.DeepEqual(a, b) {
			rt.Fatalf("segments are %+v, were %+v", b, a)
		}
		waiting := 0
		before.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
			want := *j
			want.Attempt, _ = state.NextEra(j.Attempt)
			want.Adoptable = false
			if want.Lease != nil {
				want.Lease, want.Status = nil, protocol.StatusQueued
			}
			if want.Waits() {
				waiting++
			}
			got := *after.Job(j.ID)
			if !equalJobs(&got, &want) {
				rt.Fatalf("job is %+v, want %+v", got, want)
			}
			return true
		})
		if got := after.Queued(org1) + after.Queued(org2); got != waiting {
			rt.Fatalf("%d wait, want %d", got, waiting)
		}
		twice := fenced(t, f.persist())
		twice.store.View().Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
			if j.Attempt <= after.Job(j.ID).Attempt {
				rt.Fatalf("a second fence left attempt %d", j.Attempt)
			}
			return true
		})
	})
}

// equalJobs compares what a snapshot keeps of two rows.
func equalJobs(a, b *state.Job) bool {
	x, y := recordWriter{to: new(bytes.Buffer)}, recordWriter{to: new(bytes.Buffer)}
	x.record(typeJob, x.rows.jobRecord(a))
	y.record(typeJob, y.rows.jobRecord(b))
	return bytes.Equal(x.buf, y.buf)
}

func TestFenceRefusesADamagedSnapshot(t *testing.T) {
	data := populated(t).persist()
	for i := range data {
		damaged := bytes.Clone(data)
		damaged[i] ^= 1 << (i % 8)
		if err := Fence(bytes.NewReader(damaged), new(bytes.Buffer)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("bit %d of byte %d: %v", i%8, i, err)
		}
		if err := Fence(bytes.NewReader(data[:i]), new(bytes.Buffer)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut to %d bytes: %v", i, err)
		}
	}
	if err := Fence(bytes.NewReader(data), &brokenSink{}); err == nil || errors.Is(err, ErrSnapshot) {
		t.Errorf("a writer that fails: %v", err)
	}
}

// TestNewerFeatureLevelIsNotRestored: the node must not fall back to an older
// snapshot either, so verifying it says the same.
func TestNewerFeatureLevelIsNotRestored(t *testing.T) {
	w := newWorld(t)
	w.store.Replace(state.NewBuilder(), state.Meta{Index: 5, Feature: command.FeatureMax + 1})
	data := w.persist()
	var level *command.FeatureError
	if err := Verify(bytes.NewReader(data)); !errors.As(err, &level) {
		t.Errorf("verified with %v", err)
	}
	if _, err := restored(t, data); !errors.As(err, &level) {
		t.Errorf("restored with %v", err)
	}
	w.store.Replace(state.NewBuilder(), state.Meta{Index: 5, Feature: command.FeatureMax})
	plain := state.New()
	if plain.Replace(state.NewBuilder(), state.Meta{Index: 5}); plain.View().Digest() == w.store.View().Digest() {
		t.Error("the level does not show in the digest")
	}
	if meta, err := Inspect(bytes.NewReader(w.persist())); err != nil || meta.Index != 5 || meta.Feature != command.FeatureMax {
		t.Errorf("inspected as %+v, %v", meta, err)
	}
}
