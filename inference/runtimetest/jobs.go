package runtimetest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"windlass/inference"
)

func (s suite) log(t *testing.T) {
	in := s.start(t, 1)
	_, rec, err := do(t, in, "job_log", s.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range rec.of(inference.EventLog) {
		if strings.Contains(e.Line, "windlass") && e.Source != "" {
			return
		}
	}
	t.Errorf("no log event with the word before Invoke returned: %+v", rec.of(inference.EventLog))
}

func (s suite) concurrent(t *testing.T) {
	in := s.start(t, s.Slots)
	if got := in.Info().Slots; got != s.Slots {
		t.Fatalf("slots = %d, want %d", got, s.Slots)
	}
	var wg sync.WaitGroup
	for n := range s.Slots {
		wg.Go(func() {
			for i := range 5 {
				if _, _, err := do(t, in, fmt.Sprintf("job_%d_%d", n, i), s.Quick); err != nil {
					t.Errorf("slot %d, job %d: %v", n, i, err)
				}
			}
		})
	}
	wg.Wait()
}

// long starts Long and returns when it runs.
func (s suite) long(t *testing.T, ctx context.Context, in inference.Instance) (<-chan error, *recorder) {
	t.Helper()
	rec := newRecorder()
	ended := make(chan error, 1)
	go func() {
		_, err := in.Invoke(ctx, inference.Job{ID: "job_long", Attempt: 1, Input: s.Long}, rec.sink)
		rec.close()
		ended <- err
	}()
	limit := time.After(patience)
	for {
		select {
		case e := <-rec.signal:
			if e.Type == inference.EventProgress {
				return ended, rec
			}
		case err := <-ended:
			t.Fatalf("the long job ended: %v", err)
		case <-limit:
			t.Fatal("the long job sent no progress")
		}
	}
}

func (s suite) cancel(t *testing.T, cause error) {
	in := s.start(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	done, _ := s.long(t, ctx, in)
	cancel(cause)
	select {
	case err := <-done:
		if !errors.Is(err, cause) {
			t.Fatalf("error = %v, want %v", err, cause)
		}
	case <-time.After(patience):
		t.Fatal("the job did not end")
	}
	if s.CancelWarm {
		if _, _, err := do(t, in, "job_next", s.Quick); err != nil {
			t.Fatalf("the job after a cancel: %v", err)
		}
	}
}

func (s suite) endedContext(t *testing.T) {
	in := s.start(t, 1)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(inference.ErrCancelled)
	if _, err := in.Invoke(ctx, inference.Job{ID: "job_void", Input: s.Quick}, nil); !errors.Is(err, inference.ErrCancelled) {
		t.Fatalf("error = %v, want the cause of the context", err)
	}
	if _, _, err := do(t, in, "job_next", s.Quick); err != nil {
		t.Fatalf("the job after: %v", err)
	}
}

func (s suite) stopDuring(t *testing.T) {
	in := s.start(t, 1)
	done, rec := s.long(t, t.Context(), in)
	stop(t, in)
	select {
	case err := <-done:
		if err == nil {
			t.Error("a job on a stopped instance returned a result")
		}
	case <-time.After(patience):
		t.Fatal("Invoke did not return after Stop")
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	if rec.late > 0 {
		t.Errorf("%d events came after Invoke returned", rec.late)
	}
}
