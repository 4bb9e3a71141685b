package broker

import (
	"encoding/binary"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// BenchmarkRebuildMillion is what a failover with a million queued jobs, of four
// priorities and in sixteen endpoints, adds before the new leader serves.
func BenchmarkRebuildMillion(b *testing.B) {
	const jobs, endpoints = 1_000_000, 16
	builder := state.NewBuilder()
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	name := func(n int) string { return "ep_" + string(rune('a'+n)) }
	for n := range endpoints {
		must(builder.Endpoint(&state.Endpoint{Org: protocol.OrgDefault, ID: name(n), Revision: 1, Doc: &protocol.Endpoint{ID: name(n)}}))
	}
	for n := range jobs {
		var id protocol.JobID
		binary.BigEndian.PutUint64(id[:], 0x018b_0000_0000_0000+uint64(n))
		must(builder.Job(&state.Job{
			ID: id, Seq: uint64(n + 1), Index: uint64(n), Org: builder.Intern(protocol.OrgDefault), Target: builder.Intern(name(n % endpoints)),
			CreatedMs: int64(n), TTLMs: 86_400_000, Run: 1, MaxAttempts: 3, MaxLosses: 3,
			Status: protocol.StatusQueued, Priority: protocol.Priority(1 + n%int(protocol.Priorities)),
		}))
	}
	store := state.New()
	store.Replace(builder, state.Meta{Index: jobs, Seq: jobs})
	used := func() time.Duration {
		var use syscall.Rusage
		must(syscall.Getrusage(syscall.RUSAGE_SELF, &use))
		return time.Duration(use.Utime.Nano() + use.Stime.Nano())
	}
	runtime.GC()
	began := used()
	for b.Loop() {
		t := liveTerm(Config{Store: store, NowMs: nowMs, Board: &testBoard{}, Log: zerolog.Nop()})
		must(t.build())
		t.end()
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s-rebuild")
	b.ReportMetric((used()-began).Seconds()/float64(b.N), "s-processor")
}
