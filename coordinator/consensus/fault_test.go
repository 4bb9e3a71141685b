package consensus

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"windlass/protocol"
)

// TestOneWayCuts are the shapes of reliability F7, two minutes each: the cluster
// goes on, and does not flap.
func TestOneWayCuts(t *testing.T) {
	const length = 2 * time.Minute
	for _, c := range []struct {
		name    string
		cut     func(w *world, leader, a, b string)
		changes uint64 // at most, beside the first leader
	}{
		{"leader and one follower", func(w *world, leader, a, _ string) { w.wire.cut(leader, a, true); w.wire.cut(a, leader, true) }, 0},
		{"leader to one follower", func(w *world, leader, a, _ string) { w.wire.cut(leader, a, true) }, 0},
		{"one follower to leader", func(w *world, leader, a, _ string) { w.wire.cut(a, leader, true) }, 0},
		{"the followers", func(w *world, _, a, b string) { w.wire.cut(a, b, true); w.wire.cut(b, a, true) }, 0},
		{"leader to both", func(w *world, leader, a, b string) { w.wire.cut(leader, a, true); w.wire.cut(leader, b, true) }, 2},
		{"both to leader", func(w *world, leader, a, b string) { w.wire.cut(a, leader, true); w.wire.cut(b, leader, true) }, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			trio(t, func(t *testing.T, w *world) {
				lead := w.leader()
				rest := w.others(lead)
				w.put(1)
				before := w.leaders()
				c.cut(w, w.seats[lead].host, w.seats[rest[0]].host, w.seats[rest[1]].host)
				began, value, longest := time.Now(), int64(2), time.Duration(0)
				for time.Since(began) < length {
					start := time.Now()
					w.put(value)
					longest = max(longest, time.Since(start))
					value++
					w.pass(time.Second)
				}
				if n := w.leaders() - before; n > c.changes {
					t.Errorf("%d leaders in %s, %d allowed", n, length, c.changes)
				}
				if limit := 5 * time.Second; longest > limit {
					t.Errorf("a write took %s", longest)
				}
			})
		})
	}
}

// leaders is the newest term, which counts every election that anybody won.
func (w *world) leaders() uint64 {
	var term uint64
	for _, s := range w.seats {
		if s.member != nil {
			term = max(term, s.raft.CurrentTerm())
		}
	}
	return term
}

// writer writes numbers through whoever leads and keeps those that were
// acknowledged.
type writer struct {
	w    *world
	turn chan struct{} // capacity 1: held by whoever looks at the seats, or changes them

	acked []int64
	none  []int64 // refused for certain
}

// run writes until ctx ends.
func (l *writer) run(ctx context.Context) {
	beat := time.NewTicker(25 * time.Millisecond)
	defer beat.Stop()
	for v := int64(1); ctx.Err() == nil; v++ {
		l.turn <- struct{}{}
		i := slices.IndexFunc(l.w.seats, func(s *seat) bool { return s.member != nil && s.IsLeader() })
		var to *Proposer
		if i >= 0 {
			to = l.w.seats[i].Proposer()
		}
		<-l.turn
		if to != nil {
			one, cancel := context.WithTimeout(ctx, 2*time.Second)
			_, err := to.Propose(one, put(v))
			cancel()
			if err == nil {
				l.acked = append(l.acked, v)
			} else if outcomeOf(err) == outcomeNone {
				l.none = append(l.none, v)
			}
		}
		select {
		case <-beat.C:
		case <-ctx.Done():
		}
	}
}

func outcomeOf(err error) string {
	if e, ok := err.(*protocol.Error); ok {
		text, _ := e.Details["outcome"].(string)
		return text
	}
	return ""
}

func (l *writer) check(t *testing.T) {
	t.Helper()
	for i, s := range l.w.seats {
		if s.member == nil {
			continue
		}
		var missing int64
		l.w.until("everything acknowledged is there", func() bool {
			got := s.fsm.values()
			slices.Sort(got)
			for _, v := range l.acked {
				if _, ok := slices.BinarySearch(got, v); !ok {
					missing = v
					return false
				}
			}
			for _, v := range l.none {
				if _, ok := slices.BinarySearch(got, v); ok {
					t.Fatalf("seat %d has %d, which was refused", i, v)
				}
			}
			return true
		})
		_ = missing
	}
	if len(l.acked) < 100 {
		t.Errorf("only %d writes were acknowledged", len(l.acked))
	}
}

// TestMembershipUnderLoadWithFaults is reliability F19: servers come, go, are
// wiped and killed and cut off while writes go on.
func TestMembershipUnderLoadWithFaults(t *testing.T) {
	for _, seed := range []uint64{3} {
		trio(t, func(t *testing.T, w *world) {
			t.Logf("seed %d", seed)
			random := rand.New(rand.NewPCG(seed, 19))
			l := &writer{w: w, turn: make(chan struct{}, 1)}
			w.addSeat()
			ctx, cancel := context.WithCancel(t.Context())
			load := make(chan struct{})
			go func() {
				defer close(load)
				l.run(ctx)
			}()
			for range 12 {
				l.step(t, random)
			}
			cancel()
			<-load
			for i, s := range w.seats {
				w.wire.isolate(s.host, false)
				if s.member == nil {
					w.start(i)
				}
			}
			w.voting(0, 1, 2, 3)
			l.check(t)
		})
	}
}

// step does one thing to one server, such that at most one is missing at a
// time, waits, and undoes it.
func (l *writer) step(t *testing.T, random *rand.Rand) {
	w := l.w
	i := random.IntN(len(w.seats))
	s := w.seats[i]
	locked := func(f func()) {
		l.turn <- struct{}{}
		f()
		<-l.turn
	}
	if s.member == nil {
		locked(func() { w.start(i) })
	}
	all := []int{0, 1, 2, 3}
	if w.seats[3].member == nil {
		all = all[:3]
	}
	w.voting(all...)
	w.leader()
	pause := time.Duration(random.IntN(15000)) * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	switch random.IntN(5) {
	case 0: // killed
		locked(func() { w.kill(i) })
		w.pass(pause)
		locked(func() { w.start(i) })
	case 1: // wiped
		locked(func() { w.kill(i); w.wipe(i) })
		w.pass(pause)
		locked(func() { w.start(i) })
	case 2: // cut off
		w.wire.isolate(s.host, true)
		w.pass(pause)
		w.wire.isolate(s.host, false)
	case 3: // leaves, and comes back
		if err := s.Leave(ctx); err != nil {
			t.Errorf("leave: %v", err)
			return
		}
		locked(func() { w.stop(i) })
		w.pass(pause)
		locked(func() { w.start(i) })
	case 4: // is removed by another one, and restarted
		if err := w.seats[(i+1)%len(all)].Remove(ctx, s.Identity().ServerID); err != nil {
			t.Errorf("remove: %v", err)
			return
		}
		w.pass(pause)
		locked(func() { w.stop(i); w.start(i) })
	}
}

// shortLogs makes a leader keep so little log that whoever was away for a
// moment needs its snapshot.
func shortLogs(t *testing.T, m *member) {
	t.Helper()
	conf := m.raft.ReloadableConfig()
	conf.TrailingLogs = 1
	if err := m.raft.ReloadConfig(conf); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshotsReachAFollowerAgainAndAgain is reliability F20.
func TestSnapshotsReachAFollowerAgainAndAgain(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		value := int64(0)
		var want []int64
		write := func(n int) {
			for range n {
				value++
				w.put(value)
				want = append(want, value)
			}
		}
		for round := range 10 {
			lead := w.leader()
			away := w.others(lead)[round%2]
			w.wire.isolate(w.seats[away].host, true)
			write(20)
			shortLogs(t, w.seats[lead].member)
			if err := w.seats[lead].raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			write(5)
			w.wire.isolate(w.seats[away].host, false)
			if round%3 == 1 { // interrupted on its way
				w.pass(time.Duration(round) * 10 * time.Millisecond)
				w.wire.isolate(w.seats[away].host, true)
				write(5)
				w.wire.isolate(w.seats[away].host, false)
			}
			w.agree(want...)
		}
		var installs uint64
		for _, s := range w.seats {
			installs += s.Stats().Installs
		}
		if installs < 10 || installs > 30 {
			t.Errorf("%d snapshots were installed for 10 absences", installs)
		}
	})
}

// monotonic makes the in-memory store one, as raft-wal is.
type monotonic struct{ backend }

func (monotonic) IsMonotonic() bool { return true }

// TestDivergedFollowerTakesASnapshot is reliability D4 (hashicorp/raft#697): a
// leader that was cut off has entries of its own at the index of the snapshot
// that the next leader sends it.
func TestDivergedFollowerTakesASnapshot(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		halted := make(chan error, 3)
		for _, s := range w.seats {
			s.cfg.wrap = func(b backend) backend { return monotonic{b} }
			s.cfg.Fatal = func(err error) { halted <- err }
		}
		w.start(0, 1, 2)
		w.voting(0, 1, 2)
		old := w.leader()
		w.put(1)
		w.agree(1)
		w.wire.isolate(w.seats[old].host, true)
		for range 500 { // into its own log; nobody will ever commit them
			w.seats[old].raft.Apply(nil, 0)
		}
		w.until("it steps down", func() bool { return !w.seats[old].IsLeader() })
		w.put(2)
		lead := w.leader()
		for range 100 {
			w.put(3)
		}
		shortLogs(t, w.seats[lead].member)
		if err := w.seats[lead].raft.Snapshot().Error(); err != nil {
			t.Fatal(err)
		}
		if last := w.seats[old].raft.LastIndex(); last <= w.seats[lead].Stats().Snapshot {
			t.Fatalf("no conflict: its log ends at %d, the snapshot at %d", last, w.seats[lead].Stats().Snapshot)
		}
		w.wire.isolate(w.seats[old].host, false)
		select {
		case err := <-halted:
			t.Logf("halted: %v", err)
			w.kill(old)
			w.start(old)
		case <-time.After(2 * time.Minute):
		}
		w.put(4)
		w.agree(1, 2, 3, 4)
		w.voting(0, 1, 2)
	})
}

var _ raft.MonotonicLogStore = monotonic{}
