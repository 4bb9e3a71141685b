package consensus

import (
	"slices"
	"testing"
	"time"

	"windlass/coordinator/peer"
)

// loopback is three real nodes: files, sockets and real time.
type loopback struct {
	t     *testing.T
	hosts []string
	dirs  []string
	nodes []*member
	ports []*peer.Port
}

const loopbackWait = time.Minute // for what takes a second on an idle machine

func newLoopback(t *testing.T, n int) *loopback {
	l := &loopback{t: t, nodes: make([]*member, n), ports: make([]*peer.Port, n)}
	for range n {
		// The port is free again, and nobody else on this machine asks for it
		// before we do.
		port, err := peer.Listen(peer.Config{Listen: "127.0.0.1:0", Self: func() peer.Identity { return peer.Identity{} }, Log: nop()})
		if err != nil {
			t.Fatal(err)
		}
		l.hosts = append(l.hosts, port.Host())
		l.dirs = append(l.dirs, t.TempDir())
		if err := port.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func (l *loopback) start(i, expect int, join []string) *member {
	l.t.Helper()
	dir := directory(l.dirs[i])
	port, err := peer.Listen(peer.Config{Listen: l.hosts[i], Self: dir.Self, Log: nop()})
	if err != nil {
		l.t.Fatal(err)
	}
	m, err := open(Config{
		Directory: dir, Port: port, Expect: expect, Join: join,
		Membership: Membership{Poll: 100 * time.Millisecond, Stable: 200 * time.Millisecond},
	})
	if err != nil {
		l.t.Fatal(err)
	}
	serve(l.t, port)
	l.t.Cleanup(func() { m.end(l.t) })
	l.nodes[i], l.ports[i] = m, port
	return m
}

func (l *loopback) stop(i int) {
	l.t.Helper()
	l.nodes[i].end(l.t)
	if err := l.ports[i].Close(); err != nil {
		l.t.Fatal(err)
	}
}

// until waits for something that happens by itself, in real time.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(loopbackWait); !ok(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %s: %s", loopbackWait, what)
		}
	}
}

func (l *loopback) leader() *member {
	l.t.Helper()
	var found *member
	until(l.t, "a leader", func() bool {
		for _, m := range l.nodes {
			if m != nil && m.IsLeader() && m.Barrier(l.t.Context()) == nil {
				found = m
				return true
			}
		}
		return false
	})
	return found
}

func (l *loopback) has(m *member, want ...int64) {
	l.t.Helper()
	until(l.t, "the same values everywhere", func() bool { return slices.Equal(m.fsm.values(), want) })
}

func voters(m *member) int {
	n := 0
	for _, s := range m.Members() {
		if s.Voter && s.Reachable {
			n++
		}
	}
	return n
}

func TestThreeNodesOnLoopback(t *testing.T) {
	l := newLoopback(t, 3)
	for i := range 3 {
		l.start(i, 3, l.hosts)
	}
	first := l.leader()
	first.mustPut(t, 1, 2)
	for _, m := range l.nodes {
		l.has(m, 1, 2)
		until(t, "three voters that answer", func() bool { return voters(m) == 3 })
		if at, ok := m.LeaderPeer(); !ok || at != first.self() {
			t.Errorf("leader at %v", at)
		}
	}
	i := slices.Index(l.nodes, first)
	l.stop(i) // the leader; it comes back with what it missed
	l.nodes[i] = nil
	l.leader().mustPut(t, 3)
	l.has(l.start(i, 3, l.hosts), 1, 2, 3)

	lost := (i + 1) % 3 // is replaced by an empty one at the same address
	l.stop(lost)
	l.nodes[lost] = nil
	old := l.dirs[lost]
	l.dirs[lost] = t.TempDir()
	fresh := l.start(lost, 3, l.hosts)
	l.has(fresh, 1, 2, 3)
	until(t, "the new server votes", func() bool {
		return len(fresh.Members()) == 3 && voters(fresh) == 3
	})
	l.leader().mustPut(t, 4)
	for _, m := range l.nodes {
		l.has(m, 1, 2, 3, 4)
	}
	if was := directory(old); was.Self().Server == fresh.Identity().ServerID {
		t.Error("an empty directory has the id of the old one")
	} else if err := was.Close(); err != nil {
		t.Error(err)
	}
}
