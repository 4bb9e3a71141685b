package inference_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"windlass/inference"
	"windlass/inference/fake"
	"windlass/protocol"
)

const loadTime = 5 * time.Second

// slowStart takes loadTime, all of it model load.
func slowStart(int, inference.Spec) []fake.Step {
	return []fake.Step{{Wait: loadTime, Event: inference.Event{
		Type: inference.EventPhase, Phase: inference.PhaseModelLoad, Seconds: loadTime.Seconds(),
	}}}
}

type bench struct {
	*testing.T
	runtime *fake.Runtime
	pool    *inference.Pool
}

// inBubble runs f with a pool on a fake runtime in virtual time.
func inBubble(t *testing.T, config fake.Config, most int, f func(b bench)) {
	synctest.Test(t, func(t *testing.T) {
		if config.Start == nil {
			config.Start = slowStart
		}
		rt := fake.New(config)
		pool := inference.NewPool(inference.PoolConfig{
			Open: func(ctx context.Context, _ inference.Key, spec inference.Spec, sink inference.Sink) (inference.Instance, error) {
				return rt.Start(ctx, spec, sink)
			},
			MaxInstances: most,
		})
		f(bench{t, rt, pool})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			t.Error(err)
		}
		if n := len(rt.Live()); n > 0 {
			t.Errorf("%d instances outlived the pool", n)
		}
	})
}

func key(endpoint string) inference.Key { return inference.Key{Endpoint: endpoint, Revision: 1} }

func (b bench) acquire(k inference.Key, slots int) *inference.Lease {
	b.Helper()
	l, err := b.pool.Acquire(b.Context(), k, inference.Spec{Concurrency: slots}, nil)
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func (b bench) live(want int) {
	b.Helper()
	synctest.Wait()
	if got := len(b.runtime.Live()); got != want {
		b.Errorf("%d live instances, want %d", got, want)
	}
}

func TestPoolReusesWarmInstances(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		first := b.acquire(key("ep"), 1)
		if c := first.ColdStart(); !c.Occurred || c.Duration != 5 || c.Phases.ModelLoad != 5 || *c.CacheHit {
			b.Errorf("first = %+v", c)
		}
		first.Release()
		first.Discard() // only the first call counts
		if w := b.pool.Warm(); len(w) != 1 || w[0].Free != 1 {
			b.Errorf("warm = %+v", w)
		}
		second := b.acquire(key("ep"), 1)
		if c := second.ColdStart(); c.Occurred || c.Duration != 0 || !*c.CacheHit {
			b.Errorf("second = %+v", c)
		}
		if len(b.pool.Warm()) != 0 {
			b.Error("a full instance is warm")
		}
		second.Release()
	})
}

func TestPoolSharesStarts(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				l := b.acquire(key("ep"), 2)
				if !l.ColdStart().Occurred {
					b.Error("a job that waited for the start saw no cold start")
				}
			})
		}
		wg.Wait()
		if n := b.runtime.Starts(); n != 2 {
			b.Errorf("%d starts for 4 jobs on 2 slots each, want 2", n)
		}
	})
}

func TestPoolUnloadsIdleAboveMin(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		b.pool.Configure(key("ep"), inference.Spec{}, protocol.WarmPolicy{Min: 1, Keep: protocol.Duration(time.Minute)})
		b.live(0)
		<-time.After(loadTime)
		b.live(1) // without any job
		one, two := b.acquire(key("ep"), 1), b.acquire(key("ep"), 1)
		b.live(2)
		one.Release()
		two.Release()
		<-time.After(59 * time.Second)
		b.live(2)
		<-time.After(2 * time.Second)
		b.live(1)
		<-time.After(time.Hour)
		b.live(1)
	})
}

func TestPoolDrainsOldRevisions(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		idle, busy := b.acquire(key("ep"), 1), b.acquire(key("ep"), 1)
		idle.Release()
		b.pool.Configure(inference.Key{Endpoint: "ep", Revision: 2}, inference.Spec{}, protocol.WarmPolicy{})
		b.live(1)
		next := b.acquire(inference.Key{Endpoint: "ep", Revision: 2}, 1)
		busy.Release()
		b.live(1)
		next.Release()
		b.pool.Forget("ep")
		b.live(0)
	})
}

func TestPoolEvictsTheIdleInstanceOfLeastValue(t *testing.T) {
	inBubble(t, fake.Config{}, 2, func(b bench) {
		for range 5 {
			b.acquire(key("often"), 1).Release()
		}
		b.acquire(key("rare"), 1).Release()
		<-time.After(inference.MinResidency)
		b.acquire(key("new"), 1).Release()
		var left []string
		for _, w := range b.pool.Warm() {
			left = append(left, w.Endpoint)
		}
		if len(left) != 2 || left[0] != "new" || left[1] != "often" {
			b.Errorf("left = %v", left)
		}
		if ok, err := b.pool.Evict(b.Context()); !ok || err != nil {
			b.Errorf("evict = %t, %v", ok, err)
		}
		b.live(1)
	})
}

func TestPoolWaitsForRoom(t *testing.T) {
	inBubble(t, fake.Config{}, 1, func(b bench) {
		held := b.acquire(key("a"), 1)
		ctx, cancel := context.WithTimeoutCause(b.Context(), time.Hour, inference.ErrTimeout)
		defer cancel()
		if _, err := b.pool.Acquire(ctx, key("b"), inference.Spec{}, nil); !errors.Is(err, inference.ErrTimeout) {
			b.Errorf("error = %v", err)
		}
		held.Release()
		b.acquire(key("b"), 1).Release()
		b.live(1)
	})
}

func TestPoolBacksOffFailedStarts(t *testing.T) {
	broken := true
	config := fake.Config{Start: func(int, inference.Spec) []fake.Step {
		if broken {
			return []fake.Step{{Fail: &inference.Failure{Code: protocol.CodeRuntimeStart}}}
		}
		return nil
	}}
	inBubble(t, config, 0, func(b bench) {
		var at []time.Duration
		began := time.Now()
		for range 9 {
			_, err := b.pool.Acquire(b.Context(), key("ep"), inference.Spec{}, nil)
			var f *inference.Failure
			if !errors.As(err, &f) || f.Code != protocol.CodeRuntimeStart {
				b.Fatalf("error = %v", err)
			}
			at = append(at, time.Since(began))
			began = time.Now()
		}
		for n, want := range []time.Duration{0, 1, 2, 4, 8, 16, 32, 60, 60} {
			if at[n] != want*time.Second {
				b.Errorf("start %d came after %v, want %v", n, at[n], want*time.Second)
			}
		}
		broken = false
		<-time.After(inference.BackoffMax)
		b.acquire(key("ep"), 1).Release()
		broken = true
		b.pool.Forget("ep")
		b.live(0)
	})
}

func TestPoolRetiresCrashedInstances(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		l := b.acquire(key("ep"), 1)
		l.Discard()
		b.live(0)
		l = b.acquire(key("ep"), 1)
		l.Instance().(*fake.Instance).Crash()
		b.live(0)
		l.Release()
		l = b.acquire(key("ep"), 1)
		if !l.ColdStart().Occurred {
			b.Error("the crashed instance was reused")
		}
		l.Release()
	})
}

func TestPoolEndsStartsThatNobodyWants(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		ctx, cancel := context.WithCancelCause(b.Context())
		done := make(chan error)
		go func() {
			_, err := b.pool.Acquire(ctx, key("ep"), inference.Spec{}, nil)
			done <- err
		}()
		synctest.Wait()
		cancel(inference.ErrCancelled)
		if err := <-done; !errors.Is(err, inference.ErrCancelled) {
			b.Errorf("error = %v", err)
		}
		<-time.After(loadTime)
		b.live(0)
		l := b.acquire(key("ep"), 1) // without back-off: the start did not fail
		if l.ColdStart().Duration != 5 {
			b.Errorf("cold start = %+v", l.ColdStart())
		}
		l.Release()
	})
}

// TestPoolKeepsStartsBetweenShortJobs: each job that finds no free instance is
// served by the one before it, long before another one has started.
func TestPoolKeepsStartsBetweenShortJobs(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		const short = 100 * time.Millisecond
		before := b.acquire(key("ep"), 1)
		for began := time.Now(); time.Since(began) < 2*loadTime; {
			next := make(chan *inference.Lease)
			go func() { next <- b.acquire(key("ep"), 1) }()
			<-time.After(short)
			before.Release()
			before = <-next
		}
		before.Release()
		if n := b.runtime.Starts(); n != 2 {
			b.Errorf("%d starts for two jobs at once, want 2", n)
		}
		b.live(2)
	})
}

func TestPoolAdoptsRunningInstances(t *testing.T) {
	inBubble(t, fake.Config{}, 0, func(b bench) {
		inst, err := b.runtime.Start(b.Context(), inference.Spec{Concurrency: 2}, nil)
		if err != nil {
			b.Fatal(err)
		}
		leases, err := b.pool.Adopt(key("ep"), inst, 1)
		if err != nil || len(leases) != 1 {
			b.Fatalf("%d leases, %v", len(leases), err)
		}
		if w := b.pool.Warm(); len(w) != 1 || w[0].Free != 1 {
			b.Errorf("warm = %+v", w)
		}
		leases[0].Release()
	})
}

func TestPoolCloseWaitsForLeasesThenForces(t *testing.T) {
	inBubble(t, fake.Config{StopTime: time.Second}, 0, func(b bench) {
		b.acquire(key("ep"), 1) // never released: Close ends it when its context does
		idle := b.acquire(key("ep"), 1)
		idle.Release()
		began := time.Now()
		ctx, cancel := context.WithTimeout(b.Context(), 20*time.Second)
		defer cancel()
		if err := b.pool.Close(ctx); err != nil {
			b.Error(err)
		}
		if took := time.Since(began); took != 21*time.Second {
			b.Errorf("closed after %v, want the 20 s of the context and the stop", took)
		}
		if _, err := b.pool.Acquire(b.Context(), key("ep"), inference.Spec{}, nil); !errors.Is(err, inference.ErrPoolClosed) {
			b.Errorf("error = %v", err)
		}
	})
}
