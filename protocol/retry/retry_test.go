package retry

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

func TestBoundDoublesUpToMax(t *testing.T) {
	b := Backoff{Base: time.Second, Max: 5 * time.Second}
	want := []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 5 * time.Second, 5 * time.Second}
	for failures, w := range want {
		if got := b.Bound(failures); got != w {
			t.Errorf("Bound(%d) = %v, want %v", failures, got, w)
		}
	}
	if got := b.Bound(1 << 30); got != 5*time.Second {
		t.Errorf("Bound of very many failures = %v, want the maximum", got)
	}
}

func TestDelayStaysWithinBound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := Backoff{
			Base: time.Duration(rapid.Int64Range(-1, int64(time.Hour)).Draw(t, "base")),
			Max:  time.Duration(rapid.Int64Range(-1, int64(time.Hour)).Draw(t, "max")),
		}
		failures := rapid.IntRange(-1, 100).Draw(t, "failures")
		if d := b.Delay(failures); d < 0 || d > b.Bound(failures) {
			t.Fatalf("Delay(%d) = %v outside 0 to %v", failures, d, b.Bound(failures))
		}
	})
}

func TestSleepWaitsInFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := Sleep(t.Context(), time.Minute); err != nil {
			t.Fatalf("Sleep: %v", err)
		}
		if got := time.Since(start); got != time.Minute {
			t.Fatalf("slept %v, want 1m", got)
		}
	})
}

func TestSleepEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		why := errors.New("shutting down")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(why) })
		start := time.Now()
		if err := Sleep(ctx, time.Hour); !errors.Is(err, why) {
			t.Fatalf("Sleep = %v, want the cause", err)
		}
		if got := time.Since(start); got != time.Second {
			t.Fatalf("slept %v, want 1s", got)
		}
		if err := Sleep(ctx, 0); !errors.Is(err, why) {
			t.Fatalf("Sleep on an ended context = %v, want the cause", err)
		}
	})
}

func TestSleepRefusesWhatTheDeadlineForbids(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := Sleep(ctx, time.Minute); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Sleep = %v, want deadline exceeded", err)
		}
		if got := time.Since(start); got != 0 {
			t.Fatalf("waited %v for an answer that could not come", got)
		}
	})
}
