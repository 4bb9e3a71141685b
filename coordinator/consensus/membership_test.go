package consensus

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
	"windlass/protocol"
)

// TestWipedVoterNeverElects is the sequence by which a cluster of three loses
// what two of them acknowledged, when a wiped voter votes again: A and B have
// it, C does not, B is wiped, A is down.
func TestWipedVoterNeverElects(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		a := w.leader()
		rest := w.others(a)
		b, c := rest[0], rest[1]
		w.put(1)
		w.agree(1)
		w.kill(c)
		w.put(2, 3)
		w.until("b has it", func() bool { return len(w.seats[b].fsm.values()) == 3 })
		w.kill(a)
		w.kill(b)
		w.wipe(b)
		w.start(b, c)
		w.pass(5 * time.Minute)
		for _, i := range rest {
			if w.seats[i].IsLeader() {
				t.Fatalf("seat %d leads without what was acknowledged: %v", i, w.seats[i].fsm.values())
			}
		}
		if term := w.seats[b].raft.CurrentTerm(); term != 0 || w.seats[b].formed() {
			t.Fatalf("the wiped one took part in term %d", term)
		}
		w.start(a)
		w.voting(0, 1, 2)
		w.put(4)
		w.agree(1, 2, 3, 4)
	})
}

func TestWipedVoterComesBackAsNonvoter(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		w.put(1)
		w.pass(2 * stableTime) // a leader that is younger than that has nothing to compare with
		b := w.others(w.leader())[0]
		old := w.seats[b].Identity().ServerID
		w.kill(b)
		w.wipe(b)
		w.start(b)
		w.until("it is taken in", func() bool { return w.seats[b].formed() })
		began := time.Now()
		me := w.seats[b].Identity().ServerID
		for _, m := range w.seats[w.leader()].Members() {
			if m.Server == old {
				t.Error("the old one is still a member")
			}
			if m.Server == me && m.Voter {
				t.Error("it may vote at once")
			}
		}
		w.voting(0, 1, 2)
		if stable := time.Since(began); stable < stableTime-2*pollInterval {
			t.Errorf("it may vote after %s", stable)
		}
		w.agree(1)
	})
}

func TestNewServerIsPromotedUnderLoad(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithCancel(t.Context())
		load := make(chan struct{})
		to := w.seats[w.leader()].Proposer()
		go func() {
			defer close(load)
			beat := time.NewTicker(5 * time.Millisecond)
			defer beat.Stop()
			for v := int64(1); ctx.Err() == nil; v++ {
				for range 3 { // more than a server may be behind, between two polls
					to.Propose(ctx, put(v))
				}
				<-beat.C
			}
		}()
		w.pass(2 * time.Second)
		n := w.addSeat()
		w.start(n)
		w.voting(0, 1, 2, n)
		cancel()
		<-load
	})
}

// TestANodeVotesOnceItsPayloadsAreThere: one that keeps up with the log and not
// with the payloads would count towards a majority that keeps them.
func TestANodeVotesOnceItsPayloadsAreThere(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		w.put(1, 2, 3)
		lead := w.leader()
		var copies atomic.Pointer[Copies]
		copies.Store(&Copies{Index: w.seats[lead].track.index() - 1, Missing: 1})
		n := w.addSeat()
		w.seats[n].cfg.Describe = func() Description { return Description{Copies: copies.Load()} }
		w.start(n)
		w.until("it has been taken in", func() bool { return w.seats[n].formed() })
		w.pass(10 * stableTime)
		if len(w.seats[lead].voterIDs()) != 3 {
			t.Error("it votes although a payload is missing")
		}
		// What it says of an entry before it kept up does not count: it was cut off,
		// and nobody sent it what was stored meanwhile.
		w.wire.isolate(w.seats[n].host, true)
		w.pass(10 * contactLimit)
		old := w.seats[lead].track.index()
		copies.Store(&Copies{Index: old})
		w.put(4)
		w.wire.isolate(w.seats[n].host, false)
		w.pass(10 * stableTime)
		if len(w.seats[lead].voterIDs()) != 3 {
			t.Error("it votes with what it had before it was cut off")
		}
		copies.Store(&Copies{Index: w.seats[lead].track.index(), Nowhere: 1})
		w.voting(0, 1, 2, n)
	})
}

func TestAnyMemberTakesAServerIn(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		for _, through := range []int{w.leader(), w.others(w.leader())[0]} {
			n := w.addSeat()
			w.seats[n].cfg.Join = []string{w.seats[through].host}
			w.start(n)
			w.until("it has been taken in", func() bool { return len(w.seats[n].voterIDs()) == n+1 })
		}
	})
}

// TestUnreachableServerIsNotTakenIn: one that advertises an address at which
// others cannot reach it would only weaken the quorum.
func TestUnreachableServerIsNotTakenIn(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		n := w.addSeat()
		w.wire.cut(w.seats[w.leader()].host, w.seats[n].host, true)
		w.seats[n].cfg.Join = []string{w.seats[w.others(w.leader())[0]].host}
		// The way to the new one is cut in one direction; in memory a call needs
		// both, so only the leader fails.
		w.start(n)
		w.until("a remedy", func() bool { return w.seats[n].log.has("set peer.advertise") })
		if len(w.seats[w.leader()].Members()) != 3 {
			t.Error("it was taken in")
		}
	})
}

func TestRemove(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		n := w.addSeat()
		w.start(n)
		w.voting(0, 1, 2, 3)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()

		first := w.leader() // a follower asks for the leader's removal
		rest := w.others(first)
		if err := w.seats[rest[0]].Remove(ctx, w.seats[first].Identity().ServerID); err != nil {
			t.Fatal(err)
		}
		w.voting(rest...)
		w.until("the removed one knows", func() bool {
			select {
			case <-w.seats[first].Removed():
				return true
			default:
				return false
			}
		})
		w.put(1)
		w.stop(first)

		// One of three is down: the third cannot go.
		alive := slices.DeleteFunc(slices.Clone(rest), func(i int) bool { return i == w.leader() })
		w.kill(alive[0])
		w.until("it is missed", func() bool { return !reachable(w.seats[w.leader()].member, w.seats[alive[0]].memory.Self().Server) })
		for _, i := range []int{alive[1], w.leader()} {
			err := w.seats[w.leader()].Remove(ctx, w.seats[i].Identity().ServerID)
			if protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "start the others first") {
				t.Fatalf("removed with %v", err)
			}
		}
		w.put(2)
		// The one that is down may go.
		if err := w.seats[alive[1]].Remove(ctx, w.seats[alive[0]].memory.Self().Server); err != nil {
			t.Fatal(err)
		}
		w.voting(w.leader(), alive[1])
		w.put(3)

		// Removed, and started again, it joins anew with what it has.
		w.start(first)
		w.voting(first, rest[indexOf(rest, w.leader())], alive[1])
		w.put(4)
		w.until("it has all", func() bool { return slices.Equal(slices.Compact(w.seats[first].fsm.values()), []int64{1, 2, 3, 4}) })
	})
}

func indexOf(list []int, v int) int { return slices.Index(list, v) }

func reachable(m *member, server string) bool {
	return slices.ContainsFunc(m.Members(), func(m Member) bool { return m.Server == server && m.Reachable })
}

func TestLeave(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		for _, leads := range []bool{true, false} {
			i := w.leader()
			if !leads {
				i = w.others(i)[0]
				if w.seats[i].member == nil {
					i = w.others(w.leader())[1]
				}
			}
			if err := w.seats[i].Leave(ctx); err != nil {
				t.Fatal(err)
			}
			w.stop(i)
		}
		last := w.leader()
		if got := w.seats[last].voterIDs(); len(got) != 1 {
			t.Fatalf("voters %v", got)
		}
		if err := w.seats[last].Leave(ctx); protocol.CodeOf(err) != protocol.CodeConflict || !strings.Contains(err.Error(), "stop it instead") {
			t.Fatalf("the last one left: %v", err)
		}
		w.put(1)
		for i, s := range w.seats { // started again they join anew
			if s.member == nil {
				w.start(i)
			}
		}
		w.voting(0, 1, 2)
		w.agree(1)
	})
}

func TestDeadServerIsRemovedOnlyAboveTheMinimum(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		dead := w.others(w.leader())[0]
		w.kill(dead)
		w.pass(10 * deadTime)
		w.put(1)
		if n := len(w.seats[w.leader()].Members()); n != 3 {
			t.Fatalf("%d members with expect 3", n)
		}
		n := w.addSeat()
		w.start(n)
		w.until("the dead one is removed", func() bool { return len(w.seats[w.leader()].Members()) == 3 })
		alive := w.others(dead)
		w.voting(alive...)
		w.put(2)

		// It comes back with an old log: one more, as a non-voter first.
		w.start(dead)
		w.voting(0, 1, 2, 3)
		w.agree(1, 2)
	})
}

// TestNewLeaderJudgesNobodyByOldSilence: the time counts under its own eyes.
func TestNewLeaderJudgesNobodyByOldSilence(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		n := w.addSeat()
		w.start(n)
		w.voting(0, 1, 2, 3)
		dead := slices.DeleteFunc(w.others(w.leader()), func(i int) bool { return i == n })[0]
		w.kill(dead)
		w.pass(deadTime - 10*time.Second)
		if err := w.seats[w.leader()].Transfer(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
		w.leader()
		w.pass(deadTime / 2)
		if got := len(w.seats[w.leader()].Members()); got != 4 {
			t.Fatal("removed by a leader that had seen it silent for half a minute")
		}
		w.until("the dead one is removed", func() bool { return len(w.seats[w.leader()].Members()) == 3 })
	})
}

func TestSlowServerDelaysNobody(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		lead := w.leader()
		rest := w.others(lead)
		w.wire.isolate(w.seats[rest[0]].host, true) // its questions hang until they time out
		for range 20 {
			w.pass(pollInterval / 2)
			for _, m := range w.seats[lead].Members() {
				if m.Server == w.seats[rest[1]].Identity().ServerID && (!m.Reachable || m.LastContact > pollInterval+pollInterval/10) {
					t.Fatalf("%+v", m)
				}
			}
		}
		if reachable(w.seats[lead].member, w.seats[rest[0]].Identity().ServerID) {
			t.Error("the silent one counts as reachable")
		}
		w.wire.isolate(w.seats[rest[0]].host, false)
		w.until("it answers again", func() bool { return reachable(w.seats[lead].member, w.seats[rest[0]].Identity().ServerID) })
	})
}

func TestMembersTellWhatTheOthersSay(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		const day = 24 * 60 * 60 * 1000
		for i, s := range w.seats {
			s.cfg.WallMs = func() int64 { return time.Now().UnixMilli() + int64(i)*day }
			s.cfg.Describe = func() Description {
				return Description{HTTP: "http://" + s.host, Version: "v1", Features: [2]uint32{1, 2}, Checkpoint: Checkpoint{Index: 7, Digest: "ab"}}
			}
		}
		w.start(0, 1, 2)
		w.voting(0, 1, 2)
		w.put(1)
		w.agree(1)
		w.pass(2 * pollInterval)
		lead := w.seats[w.leader()].Identity().ServerID
		for i, s := range w.seats {
			for _, m := range s.Members() {
				j := slices.IndexFunc(w.seats, func(s *seat) bool { return s.Identity().ServerID == m.Server })
				other := w.seats[j]
				if m.Description != other.cfg.Describe() || m.Host != other.host || m.Self != (i == j) || m.Leader != (m.Server == lead) || !m.Joined {
					t.Errorf("seat %d of %d: %+v", i, j, m)
				}
				if want := int64(j-i) * day; i != j && (m.OffsetMs < want-1 || m.OffsetMs > want+1) {
					t.Errorf("seat %d of %d: clock is %d ms off, want %d", i, j, m.OffsetMs, want)
				}
				if m.Applied != other.AppliedIndex() || m.Term != other.raft.CurrentTerm() || m.LastIndex != other.raft.LastIndex() {
					t.Errorf("seat %d of %d: %+v", i, j, m)
				}
			}
			if st := s.Stats(); st.Members != 3 || st.Voters != 3 || st.Leaders != 1 || st.Applied == 0 || st.LastIndex < st.Applied {
				t.Errorf("stats %+v", st)
			}
		}
	})
}

func TestTransferNamesTheLeader(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		for _, from := range []int{0, 1, 2} {
			for _, to := range []int{0, 1, 2} {
				id := w.seats[to].Identity().ServerID
				if err := w.seats[from].Transfer(t.Context(), id); err != nil {
					t.Fatal(err)
				}
				w.until("it leads", func() bool { return w.seats[to].IsLeader() })
			}
		}
		if err := w.seats[0].Transfer(t.Context(), "srv_nobody"); protocol.CodeOf(err) != protocol.CodeNotFound {
			t.Fatal(err)
		}
	})
}

func TestReadsAtAFollower(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		lead := w.leader()
		follower := w.seats[w.others(lead)[0]]
		for v := int64(1); v <= 20; v++ {
			w.put(v)
			index, err := w.seats[lead].ReadIndex(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := follower.WaitApplied(t.Context(), index); err != nil {
				t.Fatal(err)
			}
			if got := follower.fsm.values(); got[len(got)-1] != v {
				t.Fatalf("read %v after %d was acknowledged", got, v)
			}
		}
		if _, err := follower.ReadIndex(t.Context()); protocol.CodeOf(err) != protocol.CodeNoLeader {
			t.Fatalf("a follower answered %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := follower.WaitApplied(ctx, 1<<40); err == nil {
			t.Fatal("applied what is not there")
		}
	})
}

// TestOldAddressIsReplaced: a server that moved, and one that was formed by a
// version whose addresses had no server id in them.
func TestOldAddressIsReplaced(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		moved := w.others(w.leader())[0]
		w.stop(moved)
		w.seats[moved].host = "elsewhere:7401"
		w.start(moved)
		w.voting(0, 1, 2)
		w.until("the new address is known", func() bool {
			return slices.ContainsFunc(w.seats[w.leader()].Members(), func(m Member) bool { return m.Host == "elsewhere:7401" && m.Voter && m.Reachable })
		})
		w.put(1)
		w.agree(1)
	})
	virtual(t, 1, func(t *testing.T, w *world) {
		s := w.seats[0]
		conf := raft.Configuration{Servers: []raft.Server{{ID: raft.ServerID(s.memory.Self().Server), Address: "127.0.0.1:7401"}}}
		if err := s.memory.store.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
			t.Fatal(err)
		}
		if err := s.memory.store.StoreLog(&raft.Log{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)}); err != nil {
			t.Fatal(err)
		}
		w.seats[0].cfg = Config{Expect: 1, Join: []string{s.host}}
		w.start(0)
		w.put(1)
		w.until("the address has the id", func() bool { return string(s.configuration().Servers[0].Address) == s.Address() })
	})
}

func TestCloseHandsOnAndFreesThePort(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		old := w.leader()
		began := time.Now()
		w.stop(old)
		if next := w.leader(); time.Since(began) >= clusterTimeout {
			t.Errorf("seat %d led after %s, an election", next, time.Since(began))
		}
		if _, err := w.seats[old].port.Raft().Accept(); err == nil {
			t.Error("the transport was not closed: raft does not see WithClose")
		}
	})
}

// TestChangesAreComparedAndSet: two servers ask at the same time, and autopilot
// promotes only who is a member still.
func TestChangesAreComparedAndSet(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		a, b := w.addSeat(), w.addSeat()
		w.start(a, b)
		w.voting(0, 1, 2, a, b)
		lead := w.seats[w.leader()].Node
		f := pilotRaft{lead.raft, lead}.AddVoter("srv_removed", "srv_removed@host9:7401", 0, 0)
		if f.Error() == nil || len(lead.configuration().Servers) != 5 {
			t.Error("autopilot added a server that is not a member")
		}
		tries := 0
		err := lead.change(func(conf raft.Configuration, index uint64) (raft.IndexFuture, error) {
			if tries++; tries == 1 {
				index-- // another change came in between
			}
			return lead.raft.DemoteVoter(conf.Servers[0].ID, index, 0), nil
		})
		if err != nil || tries != 2 {
			t.Errorf("changed after %d tries: %v", tries, err)
		}
	})
}

// TestSilentVoterIsNoHeir: handing on to one that does not answer would take as
// long as an election.
func TestSilentVoterIsNoHeir(t *testing.T) {
	virtual(t, 5, func(t *testing.T, w *world) {
		for _, s := range w.seats {
			s.cfg = Config{Expect: 5, Join: w.hosts()}
		}
		w.start(0, 1, 2, 3, 4)
		w.voting(0, 1, 2, 3, 4)
		lead := w.leader()
		silent := w.seats[w.others(lead)[0]]
		w.wire.isolate(silent.host, true)
		w.pass(2 * missedPolls * pollInterval)
		m := w.seats[lead].members
		m.mu.Lock()
		for addr, s := range m.seen { // what it said last makes it the best
			if s.lag = 1; addr.Server == silent.Identity().ServerID {
				s.lag = 0
			}
			m.seen[addr] = s
		}
		m.mu.Unlock()
		began := time.Now()
		w.stop(lead)
		next := w.leader()
		if waited := time.Since(began); waited >= clusterTimeout {
			t.Errorf("seat %d led after %s", next, waited)
		}
	})
}

func TestAutopilotSeesTheMomentOfTheQuestion(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		lead := w.seats[w.leader()]
		other := w.seats[w.others(w.leader())[0]].self()
		m := lead.members
		m.mu.Lock()
		m.seen[other] = sighting{hello: hello{Server: other.Server, LastIndex: 7, LastTerm: 2}, at: time.Now(), lag: 3, reachable: true}
		m.mu.Unlock()
		stats := pilot{m}.FetchServerStats(t.Context(), pilot{m}.KnownServers())
		if got := stats[raft.ServerID(other.Server)].LastIndex; got != lead.raft.LastIndex()-3 {
			t.Errorf("it is at %d of %d, and was 3 behind when it was asked", got, lead.raft.LastIndex())
		}
		old := time.Now().Add(-time.Hour)
		m.mu.Lock()
		m.seen[other] = sighting{since: time.Now()}
		m.mu.Unlock()
		if m.dead(other, old) {
			t.Error("a server is dead as soon as it is a member")
		}
		if m.dead(peer.Address{Server: "srv_new", Host: "host9:7401"}, old) {
			t.Error("a server that was never asked is dead")
		}
	})
}
