package consensus

import (
	"context"
	"encoding/binary"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/rs/zerolog"

	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// benchJobs is the state whose snapshot is written, benchBatch and benchBeat
	// the writes meanwhile: 3,200 submits a second, which a machine that others use
	// too still takes. Beyond what it takes, a backlog would be measured.
	benchJobs  = 1_000_000
	benchBatch = 64
	benchBeat  = 20 * time.Millisecond
)

// BenchmarkSnapshotUnderWrites writes snapshots of a million jobs to a disk while
// batches are committed at a fixed pace, and prints how long these took, from the
// moment at which each was due, with and without a snapshot being written; and
// how long the state machine itself took to apply one. "late" is by how much a
// goroutine that does nothing but sleep was woken late meanwhile: what the
// machine, and not the snapshot, is to blame for.
func BenchmarkSnapshotUnderWrites(b *testing.B) {
	store := state.New()
	fillJobs(b, store)
	applied := &applyTimes{FSM: fsm.New(store)}
	d, err := OpenDirectory(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	n, err := Open(Config{Directory: d, Expect: 1, FSM: applied, Verify: fsm.Verify, Log: zerolog.Nop(), Fatal: func(err error) { b.Error(err) }})
	if err != nil {
		b.Fatal(err)
	}
	defer func() {
		if err := n.Close(context.Background()); err != nil {
			b.Error(err)
		}
	}()
	for range n.Leadership() {
		if n.IsLeader() {
			break
		}
	}
	w := &paced{n: n, next: benchJobs}
	runtime.GC()
	var with, without measured
	var wrote time.Duration
	w.during(func() { <-time.After(2 * time.Second) }, applied, &measured{}) // warm
	for b.Loop() {
		began := time.Now()
		w.during(func() {
			if err := n.raft.Snapshot().Error(); err != nil {
				b.Error(err)
			}
			wrote += time.Since(began)
		}, applied, &with)
		w.during(func() { <-time.After(time.Since(began)) }, applied, &without)
	}
	with.report(b, "with")
	without.report(b, "without")
	b.ReportMetric(wrote.Seconds()/float64(b.N), "s-write")
	b.ReportMetric(0, "ns/op")
}

func fillJobs(b *testing.B, store *state.Store) {
	builder := state.NewBuilder()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	must(builder.Endpoint(&state.Endpoint{Org: "org_default", ID: "ep", Revision: 1, Doc: &protocol.Endpoint{ID: "ep"}}))
	for i := range benchJobs {
		input := make([]byte, 256)
		for k := range input {
			input[k] = byte('a' + (i*31+k*k)%26)
		}
		must(builder.Job(&state.Job{
			ID: benchJob(i), Seq: uint64(i + 1), Org: builder.Intern("org_default"), Target: builder.Intern("ep"),
			CreatedMs: 1_700_000_000_000 + int64(i), TTLMs: 86_400_000, ExecutionMs: 600_000, Run: 1, MaxAttempts: 3, MaxLosses: 3,
			Input: state.Payload{Inline: input}, Status: protocol.StatusQueued, Priority: protocol.PriorityNormal,
		}))
	}
	store.Replace(builder, state.Meta{Seq: benchJobs})
}

func benchJob(i int) (id protocol.JobID) {
	binary.BigEndian.PutUint64(id[:], 0x018b_0000_0000_0000+uint64(i))
	return id
}

// applyTimes notes how long each call of the state machine took.
type applyTimes struct {
	*fsm.FSM

	mu    sync.Mutex
	times []time.Duration
}

func (a *applyTimes) Apply(l *raft.Log) any { return a.ApplyBatch([]*raft.Log{l})[0] }

func (a *applyTimes) ApplyBatch(logs []*raft.Log) []any {
	began := time.Now()
	out := a.FSM.ApplyBatch(logs)
	took := time.Since(began)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.times = append(a.times, took)
	return out
}

func (a *applyTimes) take() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.times
	a.times = nil
	return out
}

// measured are the times of one kind of window.
type measured struct{ commit, apply, late []time.Duration }

func (m *measured) report(b *testing.B, window string) {
	for what, times := range map[string][]time.Duration{"commit": m.commit, "apply": m.apply, "late": m.late} {
		slices.Sort(times)
		ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
		b.ReportMetric(ms(times[len(times)/2]), fmt.Sprintf("ms-%s-p50-%s", what, window))
		b.ReportMetric(ms(times[len(times)*99/100]), fmt.Sprintf("ms-%s-p99-%s", what, window))
		b.ReportMetric(ms(times[len(times)-1]), fmt.Sprintf("ms-%s-worst-%s", what, window))
	}
}

// paced writes batches at a fixed pace.
type paced struct {
	n    *Node
	next int
}

// during writes until what returns.
func (w *paced) during(what func(), applied *applyTimes, into *measured) {
	over := make(chan struct{})
	go func() {
		defer close(over)
		what()
	}()
	applied.take()
	var mu sync.Mutex
	var open, naps sync.WaitGroup
	naps.Go(func() {
		for {
			select {
			case <-over:
				return
			default:
			}
			began := time.Now()
			<-time.After(time.Millisecond)
			into.late = append(into.late, time.Since(began)-time.Millisecond)
		}
	})
	tick := time.NewTicker(benchBeat)
	defer tick.Stop()
	for due := time.Now(); ; due = due.Add(benchBeat) {
		for time.Now().Before(due) {
			<-tick.C
		}
		select {
		case <-over:
			open.Wait()
			naps.Wait()
			into.apply = append(into.apply, applied.take()...)
			return
		default:
		}
		cmds := make([]*command.Command, benchBatch)
		for i := range cmds {
			cmds[i] = w.submit()
		}
		open.Add(1)
		w.n.Proposer().Enqueue(cmds, func([]command.Result, error) {
			took := time.Since(due)
			mu.Lock()
			into.commit = append(into.commit, took)
			mu.Unlock()
			open.Done()
		})
	}
}

func (w *paced) submit() *command.Command {
	id := benchJob(w.next)
	w.next++
	return &command.Command{Op: &command.Command_Submit{Submit: &command.Submit{
		Job: id[:], Org: "org_default", Endpoint: "ep", Input: &command.Payload{Inline: []byte(`{"n":1}`)}, MaxAttempts: 3, MaxLosses: 3,
		Priority: uint32(protocol.PriorityNormal), PayloadHash: make([]byte, 32), ExecutionMs: 60_000, QueueLimit: 10 * benchJobs,
	}}}
}
