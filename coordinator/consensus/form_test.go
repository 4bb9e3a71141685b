package consensus

import (
	"slices"
	"strings"
	"testing"
	"time"

	"windlass/coordinator/peer"
	"windlass/protocol"
)

func TestSimultaneousFirstStartsFormOneCluster(t *testing.T) {
	for _, late := range []time.Duration{0, time.Millisecond, emptyInterval, 3 * time.Second} {
		virtual(t, 3, func(t *testing.T, w *world) {
			for i := range 3 {
				w.start(i)
				w.pass(late)
			}
			w.voting(0, 1, 2)
			w.put(1)
			w.agree(1)
			cluster := w.seats[0].Identity().ClusterID
			for _, s := range w.seats {
				if s.Identity().ClusterID != cluster || cluster == "" {
					t.Errorf("cluster %q and %q", cluster, s.Identity().ClusterID)
				}
			}
			if n := w.wire.called(methodForm); n != 2 {
				t.Errorf("formed with %d requests", n)
			}
		})
	}
}

func TestWaitsUntilAllExpectedAreThere(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		w.start(0, 1)
		w.pass(time.Minute)
		for _, s := range w.seats[:2] {
			if s.formed() || s.IsLeader() {
				t.Fatal("formed with two of three")
			}
			if !s.log.has("2 of 3 coordinators are here; no answer from host2:7401") {
				t.Errorf("log says %s", s.log.tail())
			}
			if n := s.log.count("2 of 3 coordinators"); n < 3 || n > 8 {
				t.Errorf("said %d times in a minute", n)
			}
			members := s.Members()
			silent := slices.IndexFunc(members, func(m Member) bool { return m.Host == "host2:7401" })
			if len(members) != 3 || silent < 0 || members[silent].Reachable || members[silent].Server != "" {
				t.Errorf("members %+v", members)
			}
			for _, m := range members {
				if m.Host != "host2:7401" && !m.Reachable || m.Voter || m.Joined {
					t.Errorf("member %+v", m)
				}
			}
		}
		w.start(2)
		w.voting(0, 1, 2)
		w.put(1)
		w.agree(1)
	})
}

// TestFormingSurvivesACrash ends the former, or a server that it forms, at
// every step, and starts it again.
func TestFormingSurvivesACrash(t *testing.T) {
	for step := range 6 {
		virtual(t, 3, func(t *testing.T, w *world) {
			lowest := w.lowest()
			calls, died := 0, -1
			w.wire.before = func(from, to, method string) error {
				if method != methodForm || died >= 0 {
					return nil
				}
				calls++
				switch {
				case step < 3 && calls == step+1: // before the first, before the second, and never
					died = lowest
				case step >= 3 && calls == step-2: // the server that is asked
					died = slices.Index(w.hosts(), to)
				default:
					return nil
				}
				return errCrashed
			}
			w.start(0, 1, 2)
			w.pass(5 * time.Second)
			w.wire.mu.Lock()
			w.wire.before = nil
			w.wire.mu.Unlock()
			if died >= 0 {
				w.kill(died)
				w.pass(time.Minute)
				w.start(died)
			}
			w.voting(0, 1, 2)
			w.put(1)
			w.agree(1)
		})
	}
}

// lowest is the seat with the lowest server id.
func (w *world) lowest() int {
	best := 0
	for i, s := range w.seats {
		if s.memory.Self().Server < w.seats[best].memory.Self().Server {
			best = i
		}
	}
	return best
}

// TestHalfBootstrapIsRepeated: raft writes the term, then the configuration.
func TestHalfBootstrapIsRepeated(t *testing.T) {
	for _, expect := range []int{1, 3} {
		virtual(t, 3, func(t *testing.T, w *world) {
			low := w.seats[w.lowest()]
			id := low.memory.identity()
			id.ClusterID, id.Former = "cluster_x", peer.Address{Server: id.ServerID, Host: low.host}.String()
			if err := low.memory.save(id); err != nil {
				t.Fatal(err)
			}
			if err := low.memory.store.SetUint64([]byte(keyCurrentTerm), 1); err != nil {
				t.Fatal(err)
			}
			if expect == 1 {
				low.cfg = Config{Expect: 1, Join: []string{low.host}}
				w.start(w.lowest())
				w.put(1)
				w.agree(1)
				return
			}
			w.start(0, 1, 2)
			w.voting(0, 1, 2)
			if got := low.Identity().ClusterID; got != "cluster_x" {
				t.Errorf("cluster %s", got)
			}
			w.put(1)
			w.agree(1)
		})
	}
}

// TestFormerLostForGood: whoever it asked waits for it, because it may have
// formed the cluster, and says what to do.
func TestFormerLostForGood(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		lowest := w.lowest()
		w.wire.before = func(_, to, method string) error {
			if method == methodForm && w.wire.called(methodForm) == 1 {
				return errCrashed // the second one
			}
			return nil
		}
		w.start(0, 1, 2)
		w.until("one is being formed", func() bool {
			return slices.ContainsFunc(w.others(lowest), func(i int) bool { return w.seats[i].Identity().Former != "" })
		})
		formed := slices.IndexFunc(w.seats, func(s *seat) bool {
			id := s.Identity()
			return id.Former != "" && id.former().Server != id.ServerID
		})
		w.kill(lowest)
		w.wipe(lowest)
		w.wire.mu.Lock()
		w.wire.before = nil
		w.wire.mu.Unlock()
		w.start(lowest)
		w.pass(time.Minute)
		for i, s := range w.seats {
			if s.IsLeader() {
				t.Fatalf("seat %d leads", i)
			}
		}
		if !w.seats[formed].log.has("remove the data directory of this coordinator") {
			t.Errorf("no remedy: %s", w.seats[formed].log.tail())
		}
		w.kill(formed)
		w.wipe(formed)
		w.start(formed)
		w.voting(0, 1, 2)
		w.put(1)
		w.agree(1)
	})
}

// TestFormersWithDifferentViews: each believes that it has the lowest id among
// those it sees, and one gives way.
func TestFormersWithDifferentViews(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		lowest := w.lowest()
		second := w.others(lowest)
		if w.seats[second[0]].memory.Self().Server > w.seats[second[1]].memory.Self().Server {
			slices.Reverse(second)
		}
		// The lowest is seen by nobody at first; the next one asks in vain.
		for _, i := range second {
			w.seats[i].cfg.Expect = 2
		}
		w.wire.before = func(from, to, method string) error {
			if method == methodForm && from != w.seats[lowest].host {
				return errCrashed
			}
			return nil
		}
		w.start(second...)
		w.until("the second is about to form", func() bool { return w.seats[second[0]].Identity().Former != "" })
		w.seats[lowest].cfg.Expect = 2
		w.start(lowest)
		w.until("a cluster", func() bool { return w.seats[lowest].formed() })
		w.wire.mu.Lock()
		w.wire.before = nil
		w.wire.mu.Unlock()
		w.voting(0, 1, 2)
		w.put(1)
		w.agree(1)
	})
}

func TestDecide(t *testing.T) {
	me := Identity{ServerID: "srv_b"}
	self := peer.Address{Server: "srv_b", Host: "b:1"}
	empty := func(id string) hello { return hello{Server: id, Host: id + ":1", Expect: 3} }
	in := func(id, cluster string) hello {
		return hello{Server: id, Host: id + ":1", Cluster: cluster, Formed: true, Expect: 3}
	}
	addr := func(id string) peer.Address { return peer.Address{Server: id, Host: id + ":1"} }
	led := in("srv_d", "x")
	led.Led = true
	pending := Identity{ServerID: "srv_b", ClusterID: "x", Former: "srv_a@srv_a:1"}
	asked := hello{Server: "srv_a", Host: "srv_a:1", Cluster: "x", Expect: 3}
	moved := hello{Server: "srv_a", Host: "srv_a:1", Cluster: "y", Expect: 3}
	other := empty("srv_c")
	other.Expect = 5
	for _, c := range []struct {
		name    string
		me      Identity
		answers []hello
		want    plan
		waits   string // part of the reason
	}{
		{"nobody", me, nil, plan{}, "1 of 3"},
		{"all, lower one forms", me, []hello{empty("srv_a"), empty("srv_c")}, plan{}, "srv_a@srv_a:1 forms"},
		{"all, lowest forms", me, []hello{empty("srv_d"), empty("srv_c")}, plan{form: []peer.Address{self, addr("srv_c"), addr("srv_d")}}, ""},
		{"one is in a cluster", me, []hello{empty("srv_c"), in("srv_d", "x")}, plan{join: []peer.Address{addr("srv_d")}}, ""},
		{"different clusters", me, []hello{in("srv_c", "y"), in("srv_d", "x")}, plan{}, "different clusters"},
		{"different clusters, one has a leader", me, []hello{in("srv_c", "y"), led}, plan{join: []peer.Address{addr("srv_d")}}, ""},
		{"one has a leader, all of it are asked", me, []hello{led, in("srv_c", "y"), in("srv_e", "x")}, plan{join: []peer.Address{addr("srv_d"), addr("srv_e")}}, ""},
		{"different expect", me, []hello{empty("srv_d"), other}, plan{}, "expect is 3 here and 5"},
		{"former is away", pending, []hello{in("srv_d", "z")}, plan{}, "remove the data directory"},
		{"former forms", pending, []hello{asked}, plan{}, "forms the cluster"},
		{"former gave up", pending, []hello{moved}, plan{drop: true}, ""},
		{"joining, found", Identity{ServerID: "srv_b", ClusterID: "x"}, []hello{in("srv_d", "x")}, plan{join: []peer.Address{addr("srv_d")}}, ""},
		{"joining, another", Identity{ServerID: "srv_b", ClusterID: "y"}, []hello{in("srv_d", "x")}, plan{}, "remove its data directory"},
		{"joining, nobody", Identity{ServerID: "srv_b", ClusterID: "y"}, []hello{empty("srv_c"), empty("srv_d")}, plan{}, "no member of cluster y"},
	} {
		got := decide(c.me, self, 3, c.answers, nil)
		if c.waits != "" {
			if !strings.Contains(got.wait, c.waits) || got.join != nil || got.form != nil || got.drop {
				t.Errorf("%s: %+v", c.name, got)
			}
			continue
		}
		if got.wait != "" || !slices.Equal(got.join, c.want.join) || !slices.Equal(got.form, c.want.form) || got.drop != c.want.drop {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

// TestOneBecomesThree: a directory that was a cluster of its own keeps it, and
// the empty ones join it.
func TestOneBecomesThree(t *testing.T) {
	virtual(t, 3, func(t *testing.T, w *world) {
		w.seats[1].cfg = Config{Expect: 1, Join: []string{"host1:7401"}}
		w.start(1)
		w.put(1, 2)
		w.start(0) // while there is one, it takes nobody in: its timeouts are those of one
		w.until("a refusal with a remedy", func() bool { return w.seats[0].log.has("set expect and join on it and restart it") })
		w.stop(1)
		w.seats[1].cfg = Config{}
		w.start(1, 2)
		w.voting(0, 1, 2)
		w.put(3)
		w.agree(1, 2, 3)
	})
}

func TestExpectOneRefusesACluster(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		w.stop(0)
		s := w.seats[0]
		port := w.wire.listen(s.host, s.memory.Self)
		defer port.end()
		_, err := open(Config{Memory: s.memory, Port: port, Expect: 1})
		if err == nil || !strings.Contains(err.Error(), "set expect and join") {
			t.Fatalf("opened with %v", err)
		}
	})
}

func TestFormRequestIsRefusedInACluster(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		req := formRequest{Cluster: "cluster_y", Former: w.seats[1].Address()}
		err := w.seats[1].port.Call(t.Context(), w.seats[0].self(), methodForm, req, nil)
		if protocol.CodeOf(err) != protocol.CodeConflict {
			t.Fatal(err)
		}
	})
}
