package consensus

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
)

// TestRecoverFromLostQuorum: two of three are gone for good. The survivor that
// has more becomes the cluster, the others join it empty, and a lost one that
// comes back after all is a stranger.
func TestRecoverFromLostQuorum(t *testing.T) {
	l := newLoopback(t, 3)
	for i := range 3 {
		l.start(i, 3, l.hosts)
	}
	lead := l.leader()
	lead.mustPut(t, 1, 2)
	behind := (slices.Index(l.nodes, lead) + 1) % 3
	l.has(l.nodes[behind], 1, 2)
	l.stop(behind)
	l.nodes[behind] = nil
	l.leader().mustPut(t, 3)
	survivor := (behind + 1) % 3
	lost := (behind + 2) % 3
	for _, i := range []int{lost, survivor} {
		l.stop(i)
		l.nodes[i] = nil
	}

	a, errA := ReadSurvey(l.dirs[behind])
	b, errB := ReadSurvey(l.dirs[survivor])
	if err := errors.Join(errA, errB); err != nil {
		t.Fatal(err)
	}
	if b.Compare(a) <= 0 || a.Compare(b) >= 0 || a.ClusterID != b.ClusterID || len(b.Servers) != 3 || !b.Servers[0].Voter {
		t.Fatalf("survey %+v and %+v", a, b)
	}
	if i := slices.IndexFunc(b.Servers, func(s SurveyServer) bool {
		return s.Address == peer.Address{Server: b.ServerID, Host: l.hosts[survivor]}
	}); i < 0 {
		t.Errorf("servers %+v", b.Servers)
	}

	found, err := Recover(l.dirs[survivor], RecoverConfig{FSM: &ledger{}, Log: nop()})
	if err != nil || found.LastIndex != b.LastIndex {
		t.Fatalf("%+v %v", found, err)
	}
	again, err := Recover(l.dirs[survivor], RecoverConfig{FSM: &ledger{}, Log: nop()}) // as after a crash
	if err != nil || again.ClusterID == b.ClusterID || len(again.Servers) != 1 {
		t.Fatalf("%+v %v", again, err)
	}
	m := l.start(survivor, 3, l.hosts)
	l.has(m, 1, 2, 3)
	m.lead(t)
	m.mustPut(t, 4)

	stranger := l.start(lost, 3, l.hosts) // with its old directory
	l.dirs[behind] = t.TempDir()
	fresh := l.start(behind, 3, l.hosts)
	l.has(fresh, 1, 2, 3, 4)
	until(t, "two voters", func() bool { return voters(m) == 2 })
	for _, s := range m.Members() {
		if s.Server == stranger.Identity().ServerID {
			t.Error("the old server is a member")
		}
	}
	if stranger.IsLeader() || stranger.VerifyLeader(t.Context()) == nil {
		t.Error("the old server leads")
	}
}

func TestSurveyRefusesWhatIsInUse(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	if _, err := ReadSurvey(dir); !errors.Is(err, ErrLocked) {
		t.Fatalf("surveyed: %v", err)
	}
	if _, err := Recover(dir, RecoverConfig{FSM: &ledger{}}); !errors.Is(err, ErrLocked) {
		t.Fatalf("recovered: %v", err)
	}
	if _, err := Recover(t.TempDir(), RecoverConfig{FSM: &ledger{}}); err == nil || !strings.Contains(err.Error(), "holds nothing") {
		t.Fatalf("recovered from nothing: %v", err)
	}
}

// TestRecoverCommitsEverything: also what was never acknowledged.
func TestRecoverCommitsEverything(t *testing.T) {
	dir := t.TempDir()
	m := start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 1)
	m.end(t)
	n, err := openStopped(dir, RecoverConfig{})
	if err != nil {
		t.Fatal(err)
	}
	s, err := n.survey()
	if err != nil {
		t.Fatal(err)
	}
	data, err := command.Marshal(1, []*command.Command{put(2)})
	if err != nil {
		t.Fatal(err)
	}
	err = n.store.StoreLog(&raft.Log{Index: s.LastIndex + 1, Term: s.LastTerm, Type: raft.LogCommand, Data: data})
	if err := errors.Join(err, n.releaseAll()); err != nil {
		t.Fatal(err)
	}
	if _, err := Recover(dir, RecoverConfig{FSM: &ledger{}, Log: nop()}); err != nil {
		t.Fatal(err)
	}
	m = start(t, Config{Directory: directory(dir)})
	m.lead(t)
	m.mustPut(t, 3)
	if got := m.fsm.values(); !slices.Equal(got, []int64{1, 2, 3}) {
		t.Fatalf("recovered %v", got)
	}
}
