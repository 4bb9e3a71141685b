package consensus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// halting is a state machine that answers one value with a panic.
type halting struct {
	*ledger
	at  int64
	why any
}

func (h halting) ApplyBatch(logs []*raft.Log) []any {
	for _, l := range logs {
		if b, err := command.Unmarshal(l.Data); l.Type == raft.LogCommand && err == nil && b.Commands[0].GetPutSettings().MaxBytes == h.at {
			panic(h.why)
		}
	}
	return h.ledger.ApplyBatch(logs)
}

// TestUnreadableEntryHalts: an entry that cannot be applied is never skipped.
func TestUnreadableEntryHalts(t *testing.T) {
	for name, c := range map[string]struct {
		err    error
		remedy string
	}{
		"corrupt": {fmt.Errorf("cannot apply log 7: %w", command.ErrCorrupt), remedyReplace},
		"unknown": {fmt.Errorf("cannot apply log 7: %w", command.ErrUnknown), remedyVersion},
		"level":   {fmt.Errorf("cannot apply log 7: %w (%w)", &command.FeatureError{Level: 9}, command.ErrUnknown), "nothing is lost"},
	} {
		t.Run(name, func(t *testing.T) {
			f := halting{ledger: &ledger{}, at: 3, why: c.err}
			fatal := make(chan error, 1)
			n, err := Open(Config{Memory: NewMemory(), Expect: 1, FSM: f, Log: nop(), Fatal: func(err error) { fatal <- err }})
			if err != nil {
				t.Fatal(err)
			}
			m := &member{n, f.ledger}
			defer m.end(t)
			m.lead(t)
			m.mustPut(t, 1, 2)
			_, err = m.Proposer().Propose(t.Context(), put(3))
			wantOutcome(t, err, protocol.CodeUnavailable, outcomeUnknown)
			var halt *HaltError
			if err := <-fatal; !errors.As(err, &halt) || !errors.Is(err, c.err) || !strings.HasSuffix(err.Error(), c.remedy) {
				t.Errorf("halted with %v", err)
			}
			for _, v := range []int64{4, 5} {
				if _, err := m.Proposer().Propose(t.Context(), put(v)); err == nil {
					t.Error("acknowledged after the halt")
				}
			}
			if got := f.values(); len(got) != 2 {
				t.Errorf("state is %v", got)
			}
			if err := m.raft.Snapshot().Error(); err == nil {
				t.Error("a snapshot was taken after the halt")
			}
		})
	}
}

// TestNothingIsAppliedBehindARefusedEntry: what was committed already arrives all
// the same.
func TestNothingIsAppliedBehindARefusedEntry(t *testing.T) {
	entry := func(index uint64, v int64) []*raft.Log {
		data, err := command.Marshal(1, []*command.Command{put(v)})
		if err != nil {
			t.Fatal(err)
		}
		return []*raft.Log{{Index: index, Type: raft.LogCommand, Data: data}}
	}
	f := halting{ledger: &ledger{}, at: 2, why: command.ErrCorrupt}
	tr := newTracker(t.Context(), f, raft.NewInmemSnapshotStore())
	failures := 0
	tr.fail = func(err error) error { failures++; return err }
	for i := range uint64(4) {
		if out := tr.ApplyBatch(entry(i+1, int64(i+1))); len(out) != 1 || (out[0] != nil) != (i == 0) {
			t.Errorf("entry %d answered %v", i+1, out)
		}
	}
	if got := f.values(); len(got) != 1 || tr.index() != 1 || failures != 1 {
		t.Errorf("state %v at %d after %d failures", got, tr.index(), failures)
	}
}

func TestOtherPanicsStayPanics(t *testing.T) {
	defer func() {
		if recover() != "a bug" {
			t.Error("the panic was swallowed")
		}
	}()
	defer func() { haltOnPanic(recover(), func(err error) error { t.Error(err); return err }) }()
	panic("a bug")
}

// sendSnapshot plays a leader that sends its snapshot.
func sendSnapshot(t *testing.T, m *member, index uint64) {
	t.Helper()
	from := raft.ServerAddress("srv_leader")
	_, trans := raft.NewInmemTransport(from)
	defer trans.Close()
	trans.Connect(m.trans.LocalAddr(), m.trans)
	state := `{"Clock":1,"Values":[1,2],"Entries":2}`
	req := &raft.InstallSnapshotRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from), Addr: []byte(from)}, SnapshotVersion: raft.SnapshotVersionMax, Term: 5, Leader: []byte(from), LastLogIndex: index, LastLogTerm: 5,
		Configuration: raft.EncodeConfiguration(raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(from), Address: from}}}), ConfigurationIndex: 1,
		Size: int64(len(state)),
	}
	var resp raft.InstallSnapshotResponse
	if err := trans.InstallSnapshot(raft.ServerID(m.Identity().ServerID), m.trans.LocalAddr(), req, &resp, strings.NewReader(state)); err != nil || !resp.Success {
		t.Fatalf("snapshot was refused: %v", err)
	}
}

func sendEntry(t *testing.T, m *member, index uint64) {
	t.Helper()
	from := raft.ServerAddress("srv_leader")
	_, trans := raft.NewInmemTransport(from)
	defer trans.Close()
	trans.Connect(m.trans.LocalAddr(), m.trans)
	req := &raft.AppendEntriesRequest{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(from), Addr: []byte(from)}, Term: 5, Leader: []byte(from), PrevLogEntry: index - 1, PrevLogTerm: 5,
		Entries: []*raft.Log{{Index: index, Term: 5, Type: raft.LogNoop}}, LeaderCommitIndex: index,
	}
	var resp raft.AppendEntriesResponse
	if err := trans.AppendEntries(raft.ServerID(m.Identity().ServerID), m.trans.LocalAddr(), req, &resp); err != nil || !resp.Success {
		t.Fatalf("entry was refused: %v", err)
	}
}

// TestSnapshotLoopHalts is hashicorp/raft#697 as the follower sees it.
func TestSnapshotLoopHalts(t *testing.T) {
	for name, c := range map[string]struct {
		between func(*testing.T, *member)
		second  uint64
		halts   bool
	}{
		"the same again": {func(*testing.T, *member) {}, 50, true},
		"an older one":   {func(*testing.T, *member) {}, 40, true},
		"a newer one":    {func(*testing.T, *member) {}, 60, false},
		"after an entry": {func(t *testing.T, m *member) { sendEntry(t, m, 51) }, 50, false},
		"much later":     {func(*testing.T, *member) { pass(loopPeriod) }, 50, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var fatal atomic.Pointer[error]
				m := start(t, Config{Memory: NewMemory(), Expect: 3, Fatal: func(err error) { fatal.Store(&err) }})
				sendSnapshot(t, m, 50)
				c.between(t, m)
				sendSnapshot(t, m, c.second)
				err := fatal.Load()
				if (err != nil) != c.halts {
					t.Fatalf("halted: %v", err)
				}
				if err != nil && !errors.As(*err, new(*HaltError)) {
					t.Errorf("halted with %v", *err)
				}
			})
		})
	}
}

// TestRestartWithSnapshotIsNoLoop: the snapshot that a node restores for itself at
// its start is not the leader's.
func TestRestartWithSnapshotIsNoLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := NewMemory()
		cfg := Config{Memory: memory, Expect: 3, Fatal: func(err error) { t.Error(err) }}
		m := start(t, cfg)
		sendSnapshot(t, m, 50)
		m.end(t)
		m = start(t, cfg)
		sendSnapshot(t, m, 50)
		synctest.Wait()
	})
}

// TestStuckTransferHalts is hashicorp/raft#696: the flag of a transfer stays set.
func TestStuckTransferHalts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var failed atomic.Pointer[error]
		var stuck atomic.Bool
		stuck.Store(true)
		w := newTransferWatchdog(time.Second, func() error {
			if stuck.Load() {
				return raft.ErrLeadershipTransferInProgress
			}
			return raft.ErrNotLeader
		}, func(err error) error { failed.Store(&err); return err })
		done := make(chan struct{})
		go func() { w.run(t.Context()); close(done) }()
		// An ordinary transfer ends, however often it refused something, and the
		// next one is another.
		for range 10 {
			w.answered(raft.ErrLeadershipTransferInProgress)
			pass(stuckTransfers * time.Second)
			stuck.Store(false)
			pass(time.Second)
			stuck.Store(true)
			if err := failed.Load(); err != nil {
				t.Fatalf("a transfer that ended: %v", *err)
			}
		}
		w.answered(errors.New("another error"))
		pass(time.Minute)
		if err := failed.Load(); err != nil {
			t.Fatalf("nothing was refused: %v", *err)
		}
		w.answered(raft.ErrLeadershipTransferInProgress)
		pass((stuckTransfers + 1) * time.Second)
		synctest.Wait()
		err := failed.Load()
		if err == nil || !errors.As(*err, new(*HaltError)) {
			t.Fatalf("a stuck transfer: %v", err)
		}
		<-done
	})
}

// answering is a proposer in front of a raft that answers everything alike.
func answering(t *testing.T, answer error, change func(*Proposer)) *Proposer {
	p := &Proposer{
		apply: func(data []byte) future {
			b, err := command.Unmarshal(data)
			if err != nil {
				t.Error(err)
			}
			e := &entry{cmds: slices.Repeat([]*command.Command{put(0)}, len(b.GetCommands())), answer: make(chan error, 1)}
			e.answer <- answer
			return e
		},
		leading: func() bool { return true }, inFlight: func() int { return 1 },
		failed: func() error { return nil }, clock: newClock(nil),
	}
	change(p)
	newProposer(p)
	t.Cleanup(p.close)
	return p
}

// TestRefusedProposalWakesTheTransferWatchdog shows that it hears of them.
func TestRefusedProposalWakesTheTransferWatchdog(t *testing.T) {
	heard := make(chan error, 1)
	p := answering(t, raft.ErrLeadershipTransferInProgress, func(p *Proposer) { p.answered = func(err error) { heard <- err } })
	_, err := p.Propose(t.Context(), put(1))
	wantOutcome(t, err, protocol.CodeNoLeader, outcomeNone)
	if err := <-heard; !errors.Is(err, raft.ErrLeadershipTransferInProgress) {
		t.Errorf("heard %v", err)
	}
}

// TestCommandAboveTheLevelIsNotProposed keeps entries out of the log that a
// coordinator of the version before could not apply.
func TestCommandAboveTheLevelIsNotProposed(t *testing.T) {
	newest := &command.Command{Op: &command.Command_DropSegment{DropSegment: &command.DropSegment{Numbers: []uint64{1}}}}
	var level atomic.Uint32
	p := answering(t, nil, func(p *Proposer) { p.level = level.Load })
	_, err := p.Propose(t.Context(), newest)
	wantOutcome(t, err, protocol.CodeUnavailable, outcomeNone)
	if _, err := p.Propose(t.Context(), put(1)); err != nil {
		t.Fatalf("a command of the base level: %v", err)
	}
	level.Store(command.FeatureArchive)
	if _, err := p.Propose(t.Context(), newest); err != nil {
		t.Fatalf("at its level: %v", err)
	}
}
