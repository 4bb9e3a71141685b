package coordinator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/blob"
	"windlass/protocol"
	"windlass/protocol/client"
)

// served is a coordinator with its API on a socket and its data on disk.
type served struct {
	*Coordinator
	*client.Client
	end func()
}

func serve(t *testing.T, data string, change func(*Config)) served {
	t.Helper()
	cfg := onDisk(t, data)
	if change != nil {
		change(&cfg)
	}
	c, err := New(cfg, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	cl, err := client.New(client.Config{Addrs: []string{"http://" + c.Addr().String()}, Key: "0123456789abcdef0123456789abcdef", Tries: 1})
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	end := func() {
		once.Do(func() {
			cl.Close()
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(end)
	<-c.Ready()
	return served{c, cl, end}
}

func (s served) echo(t *testing.T) {
	t.Helper()
	_, err := s.ApplyEndpoint(t.Context(), protocol.Endpoint{ID: "ep_echo", Runtime: protocol.RuntimeSpec{Kind: "builtin"}})
	if err != nil {
		t.Fatal(err)
	}
}

// submit queues a job whose input is an object of about size bytes that no
// other job has.
func (s served) submit(t *testing.T, n, size int) (protocol.JobID, error) {
	input := fmt.Sprintf(`{"n": %d, "text": "%s"}`, n, strings.Repeat("x", size))
	res, err := s.Submit(t.Context(), "ep_echo", protocol.SubmitRequest{Input: json.RawMessage(input)})
	return res.JobID, err
}

// fill submits side by side until a submit is refused, at most limit jobs, and
// returns the jobs that were accepted and the refusal.
func (s served) fill(t *testing.T, limit, size int) ([]protocol.JobID, error) {
	var (
		mu      sync.Mutex
		next    int
		jobs    []protocol.JobID
		refused error
		work    sync.WaitGroup
	)
	for range 16 {
		work.Go(func() {
			for {
				mu.Lock()
				n := next
				next++
				stop := n >= limit || refused != nil
				mu.Unlock()
				if stop {
					return
				}
				id, err := s.submit(t, n, size)
				mu.Lock()
				if err != nil {
					refused = err
				} else {
					jobs = append(jobs, id)
				}
				mu.Unlock()
			}
		})
	}
	work.Wait()
	return jobs, refused
}

func memoryFull(t *testing.T, err error) {
	t.Helper()
	var e *protocol.Error
	if !errors.As(err, &e) || e.Code != protocol.CodeQueueFull || e.Code.HTTPStatus() != http.StatusTooManyRequests || e.Details["limit"] != "memory" {
		t.Fatalf("a submit into full memory: %v", err)
	}
}

// runOne takes one job as an agent does and completes it.
func (s served) runOne(t *testing.T) protocol.JobID {
	t.Helper()
	agent, incarnation := protocol.NewAgentID(time.Now()), protocol.NewIncarnation(time.Now())
	_, err := s.Register(t.Context(), protocol.RegisterRequest{
		Agent: agent, Name: "a", Incarnation: incarnation, Protocol: [2]int{protocol.MinProtocolMin, protocol.ProtocolMinor},
		Facts: protocol.AgentFacts{Version: "test", OS: "linux", Arch: "amd64", Cores: 1, Memory: 1 << 30, Slots: 1, Kinds: []string{"builtin"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	sync, err := s.Sync(t.Context(), protocol.SyncRequest{Agent: agent, Incarnation: incarnation, Seq: 1, Capacity: protocol.Capacity{Seq: 1, Free: 1}, HoldMs: 10_000})
	if err != nil || len(sync.Assign) != 1 {
		t.Fatalf("%d assignments, %v", len(sync.Assign), err)
	}
	as := sync.Assign[0]
	rep, err := s.Report(t.Context(), protocol.ReportRequest{
		Agent: agent, Incarnation: incarnation, Capacity: protocol.Capacity{Seq: 2, Draining: true},
		Finished: []protocol.Finish{{Job: as.Job, Attempt: as.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`"` + strings.Repeat("y", 20_000) + `"`)}},
	})
	if err != nil || len(rep.Attempts) != 1 || rep.Attempts[0].Code != "" {
		t.Fatalf("the result was not taken: %+v, %v", rep, err)
	}
	return as.Job
}

// TestMemoryIsBounded is DESIGN 3.10: a full table refuses submits and nothing
// else, also after a restart, until jobs leave it.
func TestMemoryIsBounded(t *testing.T) {
	data := t.TempDir()
	small := func(c *Config) { c.State.MaxBytes = minStateBytes }
	s := serve(t, data, small)
	s.echo(t)
	const size = 15_000 // inline
	jobs, err := s.fill(t, 2*minStateBytes/size, size)
	memoryFull(t, err)
	if n := s.store.View().Bytes(); n > minStateBytes || n < minStateBytes*9/10 {
		t.Errorf("full at %d bytes of %d", n, minStateBytes)
	}
	s.end()

	s = serve(t, data, small)
	_, err = s.submit(t, -1, size)
	memoryFull(t, err)
	if st, err := s.Status(t.Context(), jobs[0], client.StatusOptions{}); err != nil || st.Status != protocol.StatusQueued {
		t.Fatalf("after the restart: %+v, %v", st, err)
	}
	ran := s.runOne(t)
	if st, err := s.Status(t.Context(), ran, client.StatusOptions{}); err != nil || st.Status != protocol.StatusCompleted {
		t.Errorf("a job that ran in full memory: %v, %v", st.Status, err)
	}
	for i, id := range jobs[:20] {
		if id == ran {
			continue
		}
		if st, err := s.Cancel(t.Context(), id); err != nil || st.Status != protocol.StatusCancelled {
			t.Fatalf("cancel %d: %v, %v", i, st.Status, err)
		}
	}
	_, err = s.submit(t, -2, size)
	memoryFull(t, err) // what ended is still shown

	a := s.newArchiver()
	a.Keep = 0 // the minute that an operator must leave it is too long here
	for s.node.Clock().NowMs() <= s.store.View().ClockMs() {
		runtime.Gosched()
	}
	if err := a.Pass(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := s.submit(t, -3, size); err != nil {
		t.Errorf("a submit after jobs left: %v", err)
	}
}

// TestLargeInputsAreOnDisk holds what a queue of large inputs costs in memory:
// their rows, whatever the size of the inputs.
func TestLargeInputsAreOnDisk(t *testing.T) {
	const (
		jobs   = 1000
		size   = 64 << 10
		perJob = 4 << 10 // bytes of heap: the row, its tree nodes, its log entry
	)
	s := serve(t, t.TempDir(), nil)
	s.echo(t)
	if _, err := s.fill(t, 50, size); err != nil { // connections, buffers and caches
		t.Fatal(err)
	}
	before, rows := heap(), s.store.View().Bytes()
	if done, err := s.fill(t, jobs, size); err != nil || len(done) != jobs {
		t.Fatalf("%d jobs of %d: %v", len(done), jobs, err)
	}
	if grown := heap() - before; grown > jobs*perJob {
		t.Errorf("the heap grew by %d bytes for a job of %d, want at most %d", grown/jobs, size, perJob)
	}
	if grown := s.store.View().Bytes() - rows; grown > jobs*perJob/2 {
		t.Errorf("a job's row is %d bytes", grown/jobs)
	}
	var stored int64
	if err := s.blobs.store.Walk(t.Context(), func(c blob.Copy) error { stored += c.Size; return nil }); err != nil {
		t.Fatal(err)
	}
	if stored < jobs*size {
		t.Errorf("%d bytes on disk, want %d", stored, jobs*size)
	}
}

// heap is what is alive after a collection.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers freed in the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
