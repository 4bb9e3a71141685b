package broker

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"windlass/protocol"
)

// TestParkedSyncIsSmall: ten thousand parked polls must be cheap, so one keeps
// nothing of its request. What a goroutine that waits costs by itself is apart.
func TestParkedSyncIsSmall(t *testing.T) {
	run(t, func(w *world) {
		const agents = 500
		fleet := make([]*testAgent, agents)
		for i := range fleet {
			fleet[i], _ = w.agent(plain())
		}
		measure := func(call func(context.Context, protocol.SyncRequest) error, waiters int) int64 {
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			before := heap()
			for _, a := range fleet {
				req := a.request(4)
				req.Rejected = make([]protocol.Reject, 100) // 4 KB that must not stay
				wg.Go(func() {
					if err := call(ctx, req); err == nil {
						t.Error("a sync was answered")
					}
				})
			}
			synctest.Wait()
			if n := w.broker.Stats().Waiters; n != waiters {
				t.Fatalf("%d syncs are parked, want %d", n, waiters)
			}
			used := heap() - before
			cancel()
			wg.Wait()
			return used / agents
		}
		waiting := measure(func(ctx context.Context, _ protocol.SyncRequest) error { <-ctx.Done(); return ctx.Err() }, 0)
		parked := measure(func(ctx context.Context, req protocol.SyncRequest) error {
			_, err := w.broker.Sync(ctx, req)
			return err
		}, agents)
		t.Logf("%d bytes for a parked sync, %d for a goroutine that only waits", parked, waiting)
		if parked-waiting > 1024 {
			t.Errorf("%d bytes for each parked sync, want at most 1024", parked-waiting)
		}
	})
}

func heap() int64 {
	var m runtime.MemStats
	synctest.Wait()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkCycle is one job from submit to result through the real state
// machine, with other agents parked that could take it too, or that could not.
func BenchmarkCycle(b *testing.B) {
	for _, c := range []struct {
		idle int
		kind string
	}{{0, "command"}, {10_000, "oip"}, {10_000, "command"}} {
		b.Run(strconv.Itoa(c.idle)+"-"+c.kind, func(b *testing.B) { benchCycle(b, c.idle, c.kind) })
	}
}

func benchCycle(b *testing.B, idle int, kind string) {
	w := newWorld(b)
	w.lead()
	w.endpoint(protocol.Endpoint{ID: testEndpoint})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range idle {
		a := newBenchAgent(b, w, kind)
		wg.Go(func() { _, _ = w.broker.Sync(ctx, a.request(1)) })
	}
	a := newBenchAgent(b, w, "command")
	for w.broker.Stats().Waiters < idle {
		runtime.Gosched()
	}
	warm := []protocol.WarmInstance{{Endpoint: testEndpoint, Revision: w.store.Endpoint(protocol.OrgDefault, testEndpoint).Revision, Free: 1}}
	b.ReportAllocs()
	for b.Loop() {
		got := make(chan syncResult, 1)
		req := a.request(1)
		req.Warm = warm
		go func() {
			r, err := w.broker.Sync(ctx, req)
			got <- syncResult{r, err}
		}()
		for w.broker.Stats().Waiters <= idle {
			runtime.Gosched()
		}
		w.submit(protocol.PriorityNormal)
		r := <-got
		a.finish(1, completed(protocol.HeldAttempt{Job: r.resp.Assign[0].Job, Attempt: r.resp.Assign[0].Attempt}))
	}
	cancel()
	wg.Wait()
	w.stop()
	w.log.close()
}

func newBenchAgent(b *testing.B, w *world, kind string) *testAgent {
	a := &testAgent{w: w, id: protocol.NewAgentID(time.Now()), inc: protocol.NewIncarnation(time.Now())}
	facts := protocol.AgentFacts{Kinds: []string{kind}, Slots: 1}
	if _, err := w.broker.Register(context.Background(), protocol.RegisterRequest{Agent: a.id, Incarnation: a.inc, Facts: facts}); err != nil {
		b.Fatal(err)
	}
	return a
}
