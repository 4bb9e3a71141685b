package state

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"windlass/protocol"
)

// put commits one new queued job at the index.
func put(s *Store, index uint64) *Job {
	j := queuedJob(s.Endpoint("org_default", "ep_echo"), int(index), 10)
	txn := s.Begin()
	txn.PutJob(j)
	txn.Commit(index)
	return j
}

func TestCursorContinuesAView(t *testing.T) {
	s, _ := withEndpoint(t)
	put(s, 5)
	v := s.View()
	put(s, 6)
	put(s, 9)
	c := s.Subscribe(v.Index())
	put(s, 10)
	for _, want := range []uint64{6, 9, 10} {
		got, ok, err := c.TryNext()
		if err != nil || !ok || got.Index != want || len(got.List) != 1 {
			t.Fatalf("got %+v, %t, %v, want index %d", got, ok, err, want)
		}
		if v.Job(got.List[0].Job.ID) != nil {
			t.Errorf("the change at %d is in the view already", want)
		}
	}
	if _, ok, err := c.TryNext(); ok || err != nil {
		t.Errorf("there is one more: %t, %v", ok, err)
	}
}

// TestCursorSkipsWhatTheViewHolds subscribes between the two steps of a commit:
// the view is there, its changes are not in the feed yet.
func TestCursorSkipsWhatTheViewHolds(t *testing.T) {
	f := newFeed(4)
	c := f.subscribe(5)
	if got, ok, err := c.TryNext(); ok || err != nil {
		t.Fatalf("before the changes: %+v, %t, %v", got, ok, err)
	}
	f.append(Changes{Index: 5})
	if got, ok, err := c.TryNext(); ok || err != nil {
		t.Errorf("the view's own changes came again: %+v, %t, %v", got, ok, err)
	}
	f.append(Changes{Index: 6})
	if got, ok, err := c.TryNext(); !ok || err != nil || got.Index != 6 {
		t.Errorf("got %+v, %t, %v, want index 6", got, ok, err)
	}
}

func TestCursorBehindWhatIsKeptSaysSo(t *testing.T) {
	s, _ := withEndpoint(t)
	held := s.Subscribe(1)
	for i := range uint64(keptChanges + 5) {
		put(s, 2+i)
	}
	if _, _, err := s.Subscribe(1).TryNext(); !errors.Is(err, ErrTooOld) {
		t.Errorf("a late subscription answered %v", err)
	}
	// A cursor that exists keeps its place.
	for i := range uint64(keptChanges + 5) {
		if got, err := held.Next(t.Context()); err != nil || got.Index != 2+i {
			t.Fatalf("got %+v, %v, want index %d", got, err, 2+i)
		}
	}
	newest := s.View().Index()
	if _, ok, err := s.Subscribe(newest - keptChanges).TryNext(); !ok || err != nil {
		t.Errorf("the oldest that is kept answered %t, %v", ok, err)
	}
}

func TestNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := withEndpoint(t)
		c := s.Subscribe(s.View().Index())
		got := make(chan Changes)
		go func() {
			changes, err := c.Next(t.Context())
			if err != nil {
				t.Error(err)
			}
			got <- changes
		}()
		synctest.Wait()
		put(s, 2)
		if changes := <-got; changes.Index != 2 {
			t.Errorf("got %+v", changes)
		}

		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() { _, err := c.Next(ctx); failed <- err }()
		synctest.Wait()
		cancel()
		if err := <-failed; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}

		go func() { _, err := c.Next(t.Context()); failed <- err }()
		synctest.Wait()
		s.Replace(NewBuilder(), Meta{Index: 7})
		if err := <-failed; !errors.Is(err, ErrAbandoned) {
			t.Errorf("got %v", err)
		}
		if _, _, err := c.TryNext(); !errors.Is(err, ErrAbandoned) {
			t.Errorf("afterwards: %v", err)
		}
		// An index of before the restore misses what the snapshot brought.
		if _, _, err := s.Subscribe(2).TryNext(); !errors.Is(err, ErrTooOld) {
			t.Errorf("got %v", err)
		}
	})
}

// TestReadersSeeWholeBatches runs under -race: each batch moves one job between
// two states and counts must agree with rows in every view.
func TestReadersSeeWholeBatches(t *testing.T) {
	s, e := withEndpoint(t)
	const batches = 300
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			v := s.View()
			c := s.Subscribe(v.Index())
			jobs := countJobs(v)
			for jobs < batches {
				changes, err := c.Next(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				jobs += len(changes.List)
				v := s.View()
				if n := countJobs(v); n != v.Queued(e.Org) || n != v.Endpoint(e.Org, e.ID).Live {
					t.Errorf("%d jobs, %d queued, %d live", n, v.Queued(e.Org), v.Endpoint(e.Org, e.ID).Live)
					return
				}
			}
		})
	}
	for i := range uint64(batches) {
		put(s, 2+i)
	}
	wg.Wait()
}

func countJobs(v *View) (n int) {
	v.Jobs(protocol.JobID{}, false, func(*Job) bool { n++; return true })
	return n
}
