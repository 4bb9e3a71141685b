package fsm

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"runtime"
	"syscall"
	"testing"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// million is what the measures of the issue are taken with.
const million = 1_000_000

// millionJobs is a state with a million jobs of 256 bytes that wait, with an
// idempotency key each for every tenth. They are built as a restore builds them,
// because submitting them one by one would be most of the benchmark.
func millionJobs(b *testing.B) *world {
	w := newWorld(b)
	builder := state.NewBuilder()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(builder.Endpoint(&state.Endpoint{Org: org1, ID: ep1, Revision: 1, Doc: &protocol.Endpoint{ID: ep1}}))
	for n := range million / 10 {
		must(builder.Key(&state.Key{Org: builder.Intern(org1), Endpoint: builder.Intern(ep1), Key: keyName(n), Job: jobAt(n * 10)}))
	}
	for n := range million {
		input := make([]byte, 256)
		for i := range input {
			input[i] = byte('a' + (n*31+i*i)%26)
		}
		j := &state.Job{
			ID: jobAt(n), Seq: uint64(n + 1), Index: uint64(n), Org: builder.Intern(org1), Target: builder.Intern(ep1),
			CreatedMs: 1_700_000_000_000 + int64(n), TTLMs: 86_400_000, ExecutionMs: 600_000, Run: 1, MaxAttempts: 3, MaxLosses: 3,
			Input: state.Payload{Inline: input}, Status: protocol.StatusQueued, Priority: protocol.PriorityNormal,
		}
		if n%10 == 0 {
			j.Extra = &state.Extra{IdempotencyKey: keyName(n / 10)}
		}
		must(builder.Job(j))
	}
	w.store.Replace(builder, state.Meta{Index: million, Seq: million, ClockMs: 1_700_000_000_000})
	w.index = million
	return w
}

func jobAt(n int) (id protocol.JobID) {
	binary.BigEndian.PutUint64(id[:], 0x018b_0000_0000_0000+uint64(n))
	id[15] = 1
	return id
}

func keyName(n int) string { return fmt.Sprintf("key-%08d", n) }

// BenchmarkMillionSnapshot writes a snapshot of a million jobs while batches are
// applied, and prints how long a batch took at worst, with and without it.
func BenchmarkMillionSnapshot(b *testing.B) {
	w := millionJobs(b)
	n := million
	worst := func(until <-chan struct{}) (longest time.Duration) {
		for {
			select {
			case <-until:
				return longest
			default:
			}
			cmds := make([]*command.Command, 64)
			for i := range cmds {
				n++
				id := jobAt(n)
				cmds[i] = submit(1, func(s *command.Submit) { s.Job, s.QueueLimit = id[:], 10*million })
			}
			log := w.log(cmds...)
			began := time.Now()
			w.fsm.Apply(log)
			longest = max(longest, time.Since(began))
		}
	}
	runtime.GC()
	alone := make(chan struct{})
	time.AfterFunc(2*time.Second, func() { close(alone) })
	without := worst(alone)
	var pause, during, write time.Duration
	var size int64
	rounds := 0
	for b.Loop() {
		rounds++
		began := time.Now()
		snap, err := w.fsm.Snapshot()
		pause = max(pause, time.Since(began))
		if err != nil {
			b.Fatal(err)
		}
		done := make(chan struct{})
		sink := &countingSink{}
		began = time.Now()
		go func() {
			defer close(done)
			if err := snap.Persist(sink); err != nil {
				b.Error(err)
			}
		}()
		during = max(during, worst(done))
		write += time.Since(began)
		size = sink.bytes
	}
	b.ReportMetric(float64(pause.Microseconds())/1000, "ms-pause")
	b.ReportMetric(float64(during.Microseconds())/1000, "ms-worst-batch")
	b.ReportMetric(float64(without.Microseconds())/1000, "ms-worst-batch-without")
	b.ReportMetric(write.Seconds()/float64(rounds), "s-write")
	b.ReportMetric(float64(size)/(1<<20), "MiB")
}

type countingSink struct {
	memorySink
	bytes int64
}

func (s *countingSink) Write(p []byte) (int, error) {
	s.bytes += int64(len(p))
	return len(p), nil
}

// BenchmarkMillionRestore reads that snapshot.
func BenchmarkMillionRestore(b *testing.B) {
	data := millionJobs(b).persist()
	runtime.GC()
	began := processorTime(b)
	for b.Loop() {
		w := newWorld(b)
		if err := w.fsm.Restore(io.NopCloser(bytes.NewReader(data))); err != nil {
			b.Fatal(err)
		}
	}
	perRound(b, began, "restore")
}

// BenchmarkMillionDigest is what a checkpoint costs a node.
func BenchmarkMillionDigest(b *testing.B) {
	view := millionJobs(b).store.View()
	runtime.GC()
	began := processorTime(b)
	for b.Loop() {
		view.Digest()
	}
	perRound(b, began, "digest")
}

// BenchmarkMillionFence is what restoring a backup costs beside that.
func BenchmarkMillionFence(b *testing.B) {
	data := millionJobs(b).persist()
	runtime.GC()
	began := processorTime(b)
	for b.Loop() {
		if err := Fence(bytes.NewReader(data), io.Discard); err != nil {
			b.Fatal(err)
		}
	}
	perRound(b, began, "fence")
}

// processorTime is what this process has used so far: on a machine that does other
// things too, it says more than the clock.
func processorTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func perRound(b *testing.B, began time.Duration, what string) {
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s-"+what)
	b.ReportMetric((processorTime(b)-began).Seconds()/float64(b.N), "s-processor")
}
