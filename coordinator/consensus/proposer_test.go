package consensus

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// entries is a raft that the test answers entry by entry.
type entries chan *entry

type entry struct {
	cmds   []*command.Command
	answer chan error
}

func (e *entry) Error() error { return <-e.answer }

func (e *entry) Response() any {
	out := make([]command.Result, len(e.cmds))
	for i, c := range e.cmds {
		out[i].Count = c.GetPutSettings().MaxBytes
	}
	return out
}

func (e *entry) values() []int64 {
	var out []int64
	for _, c := range e.cmds {
		out = append(out, c.GetPutSettings().MaxBytes)
	}
	return out
}

func (es entries) apply(t *testing.T) func([]byte) future {
	return func(data []byte) future {
		b, err := command.Unmarshal(data)
		if err != nil {
			t.Error(err)
		}
		e := &entry{cmds: b.Commands, answer: make(chan error, 1)}
		es <- e
		return e
	}
}

func propose(t *testing.T, inFlight int) (*Proposer, entries) {
	es := make(entries, 16)
	p := newProposer(&Proposer{
		apply:    es.apply(t),
		leading:  func() bool { return true },
		inFlight: func() int { return inFlight },
		failed:   func() error { return nil },
		clock:    newClock(nil),
	})
	return p, es
}

func TestGroupsShareAnEntryAndAreNeverSplit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, es := propose(t, 1)
		var got [][]command.Result
		done := func(r []command.Result, err error) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, r)
		}
		p.Enqueue([]*command.Command{put(1)}, done)
		first := <-es
		big := make([]*command.Command, maxBatchCommands-1)
		for i := range big {
			big[i] = put(int64(100 + i))
		}
		p.Enqueue([]*command.Command{put(2), put(3)}, done)
		p.Enqueue(big, done) // does not fit behind the pair
		first.answer <- nil
		if second := <-es; !slices.Equal(second.values(), []int64{2, 3}) {
			t.Fatalf("second entry %v", second.values())
		} else {
			second.answer <- nil
		}
		third := <-es
		third.answer <- nil
		p.close()
		if len(third.cmds) != len(big) || len(got) != 3 || got[1][1].Count != 3 || len(got[2]) != len(big) {
			t.Fatalf("third entry of %d commands, answers %d", len(third.cmds), len(got))
		}
	})
}

func TestCallbacksJoinTheNextEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, es := propose(t, 1)
		p.Enqueue([]*command.Command{put(1)}, func([]command.Result, error) {
			p.Enqueue([]*command.Command{put(10)}, func([]command.Result, error) {})
		})
		first := <-es
		p.Enqueue([]*command.Command{put(2)}, func([]command.Result, error) {})
		first.answer <- nil
		second := <-es
		if !slices.Equal(second.values(), []int64{2, 10}) {
			t.Fatalf("second entry %v", second.values())
		}
		second.answer <- nil
		p.close()
	})
}

func TestInFlightFollowsVoters(t *testing.T) {
	for _, limit := range []int{soloInFlight, clusterInFlight} {
		synctest.Test(t, func(t *testing.T) {
			p, es := propose(t, limit)
			var order []int64
			for i := range int64(4) {
				p.Enqueue([]*command.Command{put(i)}, func(r []command.Result, _ error) { order = append(order, r[0].Count) })
				synctest.Wait()
			}
			if len(es) != limit {
				t.Fatalf("%d entries in flight, want %d", len(es), limit)
			}
			go p.close()
			for e := range 4 {
				synctest.Wait()
				if len(es) == 0 {
					break
				}
				_ = e
				(<-es).answer <- nil
			}
			synctest.Wait()
			if !slices.Equal(order, []int64{0, 1, 2, 3}) {
				t.Fatalf("answered in order %v", order)
			}
		})
	}
}

func TestOutcomes(t *testing.T) {
	for _, c := range []struct {
		err     error
		code    protocol.Code
		outcome string
	}{
		{raft.ErrNotLeader, protocol.CodeNoLeader, outcomeNone},
		{raft.ErrLeadershipTransferInProgress, protocol.CodeNoLeader, outcomeNone},
		{raft.ErrLeadershipLost, protocol.CodeNoLeader, outcomeUnknown},
		{raft.ErrRaftShutdown, protocol.CodeUnavailable, outcomeUnknown},
		{errors.New("disk"), protocol.CodeUnavailable, outcomeUnknown},
	} {
		synctest.Test(t, func(t *testing.T) {
			p, es := propose(t, 1)
			go func() { (<-es).answer <- c.err }()
			_, err := p.Propose(t.Context(), put(1))
			wantOutcome(t, err, c.code, c.outcome)
			p.close()
			_, err = p.Propose(t.Context(), put(1))
			wantOutcome(t, err, protocol.CodeUnavailable, outcomeNone)
		})
	}
}

func TestFullQueueBlocksUntilRoomOrContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, es := propose(t, 1)
		locked := sync.Mutex{}
		p.Enqueue([]*command.Command{put(1)}, func([]command.Result, error) {
			locked.Lock() // held by the blocked Enqueue below until it passes
			locked.Unlock()
		})
		first := <-es
		for i := range maxWaiting {
			p.Enqueue([]*command.Command{put(int64(i))}, func([]command.Result, error) {})
		}
		ctx, cancel := context.WithCancel(t.Context())
		refused := make(chan error)
		go func() { _, err := p.Propose(ctx, put(1)); refused <- err }()
		passed := make(chan struct{})
		go func() {
			locked.Lock()
			defer locked.Unlock()
			p.Enqueue([]*command.Command{put(7)}, func([]command.Result, error) {})
			close(passed)
		}()
		synctest.Wait()
		select {
		case <-passed:
			t.Fatal("Enqueue passed a full queue")
		default:
		}
		cancel()
		wantOutcome(t, <-refused, protocol.CodeUnavailable, outcomeNone)
		first.answer <- nil
		<-passed
		go p.close()
		for range maxWaiting/maxBatchCommands + 1 {
			(<-es).answer <- nil
		}
	})
}

func TestInvalidCommandHurtsNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, es := propose(t, 1)
		_, err := p.Propose(t.Context(), &command.Command{})
		wantOutcome(t, err, protocol.CodeInternal, outcomeNone)
		go func() { (<-es).answer <- nil }()
		if _, err := p.Propose(t.Context(), put(1)); err != nil {
			t.Fatal(err)
		}
		p.close()
	})
}

func TestConcurrentProposalsArePacked(t *testing.T) {
	m := start(t, Config{Directory: directory(t.TempDir())})
	m.lead(t)
	const callers, each = 64, 20
	before := m.Stats()
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := range each {
				v := int64(c*each + i + 1)
				r, err := m.Proposer().Propose(t.Context(), put(v))
				if err != nil || r[0].Count != v {
					t.Errorf("put %d: %v %v", v, r, err)
				}
			}
		})
	}
	wg.Wait()
	after := m.Stats()
	commands, syncs := after.Commands-before.Commands, after.Syncs-before.Syncs
	if commands != callers*each || syncs*4 > commands {
		t.Fatalf("%d commands took %d syncs", commands, syncs)
	}
	got := m.fsm.values()
	slices.Sort(got)
	if len(slices.Compact(got)) != callers*each {
		t.Fatalf("%d different values applied", len(got))
	}
}

// BenchmarkPropose is the cost of one command for its caller and the batcher,
// without a disk: 64 callers, as many as an API has in flight.
func BenchmarkPropose(b *testing.B) {
	p := newProposer(&Proposer{
		apply:    func(data []byte) future { return immediate{data} },
		leading:  func() bool { return true },
		inFlight: func() int { return soloInFlight },
		failed:   func() error { return nil },
		clock:    newClock(nil),
	})
	b.ReportAllocs()
	b.SetParallelism(64)
	b.RunParallel(func(pb *testing.PB) {
		for c := put(1); pb.Next(); {
			if _, err := p.Propose(b.Context(), c); err != nil {
				b.Error(err)
			}
		}
	})
	p.close()
	b.ReportMetric(float64(p.commands.Load())/float64(p.batches.Load()), "commands/entry")
}

// immediate answers a batch when it is asked.
type immediate struct{ data []byte }

func (immediate) Error() error { return nil }

func (i immediate) Response() any {
	batch, err := command.Unmarshal(i.data)
	if err != nil {
		return err
	}
	return make([]command.Result, len(batch.Commands))
}
