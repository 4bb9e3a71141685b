//go:build conformance

package conformance

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

// playedAgent is an agent with GPUs that this machine does not have: it speaks
// the agents' protocol, and reports what a test hands it. How figures are
// measured is shown where they are measured; here, how they are answered.
type playedAgent struct {
	client   *client.Client
	register protocol.RegisterRequest

	mu       sync.Mutex
	seq      uint64
	held     []protocol.HeldAttempt
	assigned chan protocol.Assignment
}

const (
	gpuName   = "NVIDIA A100"
	gigabyte  = 1 << 30
	gpuMemory = 40 * gigabyte
	gpuJobs   = `{"kind": "Endpoint", "id": "ep_gpu", "runtime": {"kind": "command", "command": ["/bin/played"]}, "resources": {"gpus": 1}, "price": {"gpuSecond": 0.5}, "policy": {"maxAttempts": 1, "executionTimeout": "1h"}}`
)

func playAgent(t *testing.T, w *world) *playedAgent {
	t.Helper()
	c, err := client.New(client.Config{Addrs: []string{w.addr}, Key: w.key})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	a := &playedAgent{client: c, assigned: make(chan protocol.Assignment, 16)}
	a.register = protocol.RegisterRequest{
		Agent: protocol.NewAgentID(now), Name: "played", Incarnation: protocol.NewIncarnation(now),
		Protocol: [2]int{protocol.MinProtocolMin, protocol.ProtocolMinor},
		Facts: protocol.AgentFacts{
			Version: "played", OS: "linux", Arch: "amd64", Cores: 16, Memory: 64 * gigabyte, Slots: 8, Kinds: []string{"command"},
			GPUs: []protocol.GPUFact{{UUID: "GPU-0", Name: gpuName, Memory: gpuMemory}},
		},
	}
	if _, err := c.Register(t.Context(), a.register); err != nil {
		t.Fatal(err)
	}
	w.apply(t, gpuJobs)
	ctx, stop := context.WithCancel(context.Background())
	var loops sync.WaitGroup
	loops.Go(func() { a.poll(ctx) })
	loops.Go(func() { a.beat(ctx) })
	t.Cleanup(func() { stop(); loops.Wait(); c.Close() })
	return a
}

func (a *playedAgent) capacity() protocol.Capacity {
	a.seq++
	return protocol.Capacity{Seq: a.seq, Free: 8 - len(a.held), FreeGPUs: 8 - len(a.held)}
}

func (a *playedAgent) poll(ctx context.Context) {
	for n := uint64(1); ctx.Err() == nil; n++ {
		a.mu.Lock()
		req := protocol.SyncRequest{
			Agent: a.register.Agent, Incarnation: a.register.Incarnation, Seq: n, Held: append([]protocol.HeldAttempt{}, a.held...),
			Capacity: a.capacity(), HoldMs: 2000,
		}
		a.mu.Unlock()
		resp, err := a.client.Sync(ctx, req)
		if err != nil {
			continue
		}
		a.mu.Lock()
		for _, as := range resp.Assign {
			a.held = append(a.held, protocol.HeldAttempt{Job: as.Job, Attempt: as.Attempt})
			a.assigned <- as
		}
		a.mu.Unlock()
	}
}

// beat renews the leases of what is held.
func (a *playedAgent) beat(ctx context.Context) {
	tick := time.NewTicker(protocol.BeatPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			_, _ = a.report(ctx, nil, nil)
		}
	}
}

func (a *playedAgent) report(ctx context.Context, update *protocol.AttemptUpdate, finish *protocol.Finish) (protocol.ReportResponse, error) {
	a.mu.Lock()
	if finish != nil {
		for i, h := range a.held {
			if h.Job == finish.Job {
				a.held = append(a.held[:i:i], a.held[i+1:]...)
				break
			}
		}
	}
	req := protocol.ReportRequest{Agent: a.register.Agent, Incarnation: a.register.Incarnation, Held: append([]protocol.HeldAttempt{}, a.held...), Capacity: a.capacity()}
	a.mu.Unlock()
	if update != nil {
		req.Attempts = []protocol.AttemptUpdate{*update}
	}
	if finish != nil {
		req.Finished = []protocol.Finish{*finish}
	}
	return a.client.Report(ctx, req)
}

// take submits a job and waits until it was assigned here.
func (a *playedAgent) take(t *testing.T, w *world, body string) protocol.Assignment {
	t.Helper()
	job := w.submit(t, "ep_gpu", body).ok(t).text(t, "jobId")
	for {
		select {
		case as := <-a.assigned:
			if as.Job.String() == job {
				return as
			}
		case <-time.After(patience):
			t.Fatalf("job %s was not assigned", job)
		}
	}
}

// tell reports the soft state of an attempt.
func (a *playedAgent) tell(t *testing.T, as protocol.Assignment, u protocol.AttemptUpdate) {
	t.Helper()
	u.Job, u.Attempt = as.Job, as.Attempt
	resp, err := a.report(t.Context(), &u, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Attempts) != 1 || resp.Attempts[0].Code != "" {
		t.Fatalf("the update was answered with %+v", resp)
	}
}

// finish reports the result of an attempt.
func (a *playedAgent) finish(t *testing.T, as protocol.Assignment, f protocol.Finish) {
	t.Helper()
	f.Job, f.Attempt = as.Job, as.Attempt
	resp, err := a.report(t.Context(), nil, &f)
	if err != nil {
		t.Fatal(err)
	}
	if len(resp.Attempts) != 1 || resp.Attempts[0].Code != "" {
		t.Fatalf("the result was answered with %+v", resp.Attempts)
	}
}

func pointer[T any](v T) *T { return &v }

// usage is what the figures of S2 would be measured as.
func usage() *protocol.Usage {
	return &protocol.Usage{
		CPUPercent: 45, CPUMs: 1200, Memory: 5 * gigabyte, PeakMemory: 6 * gigabyte, Cores: 16, HostMemory: 64 * gigabyte,
		GPUs: []protocol.GPUUsage{{
			ID: "gpu_0", Type: gpuName, Utilization: pointer(85), MemoryUsed: "12.5GB", MemoryUsedBytes: 12.5 * gigabyte,
			MemoryTotal: "40GB", MemoryTotalBytes: gpuMemory, Temperature: pointer(72), PowerUsage: "280W", PowerUsageWatts: pointer(280.0),
		}},
	}
}

func coldStart() *protocol.ColdStart {
	return &protocol.ColdStart{Occurred: true, Duration: 45.2, Phases: &protocol.ColdStartPhases{ContainerStart: 12.5, ModelLoad: 28.1, DependencyLoad: 4.6}, CacheHit: pointer(false)}
}

func progress(percent float64, step, metadata string) *protocol.Progress {
	return &protocol.Progress{Percent: &percent, Step: step, Metadata: json.RawMessage(metadata), Throughput: &protocol.Throughput{Value: 12.5, Unit: "items/s"}}
}
