package api

import (
	"context"
	"io"
	"strings"
	"sync"
	"testing"

	"windlass/protocol"
)

// fakeOperator notes what it is asked to do.
type fakeOperator struct {
	mu    sync.Mutex
	calls []string
	err   error
}

func (f *fakeOperator) note(parts ...string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.Join(parts, " "))
	return f.err
}

func (f *fakeOperator) Cluster() (string, int) { return "cluster_test", 1 }

func (f *fakeOperator) Members() []protocol.ClusterMember {
	return []protocol.ClusterMember{{Server: "srv_a", Role: protocol.RoleLeader, Self: true, Reachable: true}}
}

func (f *fakeOperator) Transfer(_ context.Context, s string) error { return f.note("transfer", s) }
func (f *fakeOperator) Remove(_ context.Context, s string) error   { return f.note("remove", s) }
func (f *fakeOperator) Leave(context.Context) error                { return f.note("leave") }
func (f *fakeOperator) Join(a []string) error                      { return f.note("join", strings.Join(a, ",")) }
func (f *fakeOperator) Debug() protocol.ClusterDebug               { return protocol.ClusterDebug{Node: "srv_a"} }

func (f *fakeOperator) Save(context.Context) (io.ReadCloser, int64, error) {
	return io.NopCloser(strings.NewReader("snapshot")), int64(len("snapshot")), f.note("save")
}

func (f *fakeOperator) Restore(_ context.Context, r io.Reader) (protocol.ClusterRestored, error) {
	raw, err := io.ReadAll(r)
	if err != nil {
		return protocol.ClusterRestored{}, err
	}
	return protocol.ClusterRestored{Index: 7}, f.note("restore", string(raw))
}

func TestSnapshotsTravel(t *testing.T) {
	w := newWorld(t)
	op := &fakeOperator{}
	w.server.deps.Operator = op
	if a := w.get("/v2/cluster/snapshot"); a.status != 200 || string(a.body) != "snapshot" {
		t.Errorf("%d %s", a.status, a.body)
	}
	for _, id := range []string{"", "?cluster=cluster_other"} {
		if a := w.post("/v2/cluster/restore"+id, "snapshot"); a.status != 422 {
			t.Errorf("%q: %d %s", id, a.status, a.body)
		}
	}
	large := strings.Repeat("s", 1<<20) // arrives in pieces
	var out protocol.ClusterRestored
	if w.post("/v2/cluster/restore?cluster=cluster_test", large).json(t, &out); out.Index != 7 || op.calls[len(op.calls)-1] != "restore "+large {
		t.Errorf("%+v", out)
	}
}

func TestClusterAdministration(t *testing.T) {
	w := newWorld(t)
	op := &fakeOperator{}
	w.server.deps.Operator = op
	var members protocol.ClusterMembers
	w.get("/v2/cluster/members").json(t, &members)
	if !members.Healthy || members.Cluster != "cluster_test" || len(members.Members) != 1 {
		t.Errorf("%+v", members)
	}
	for _, c := range []struct {
		path, body string
		status     int
		call       string
	}{
		{"transfer", ``, 200, "transfer "},
		{"transfer", `{"server": "srv_b"}`, 200, "transfer srv_b"},
		{"transfer", `{"sever": "srv_b"}`, 422, ""},
		{"remove", `{"server": "srv_b"}`, 200, "remove srv_b"},
		{"remove", ``, 422, ""},
		{"leave", ``, 200, "leave"},
		{"join", `{"addresses": ["a:7401", "b:7401"]}`, 200, "join a:7401,b:7401"},
		{"join", `{"addresses": []}`, 422, ""},
		{"join", `{"addresses": ["a"]}`, 422, ""},
		{"join", `[]`, 422, ""},
		{"join", `{`, 400, ""},
	} {
		op.calls = nil
		a := w.post("/v2/cluster/"+c.path, c.body)
		if got := strings.Join(op.calls, "; "); a.status != c.status || got != c.call {
			t.Errorf("%s %s: %d, called %q: %s", c.path, c.body, a.status, got, a.body)
		}
	}
	op.err = protocol.NewError(protocol.CodeConflict, "no majority would remain")
	if a := w.post("/v2/cluster/remove", `{"server": "srv_b"}`); a.status != 409 || !strings.Contains(string(a.body), "no majority") {
		t.Errorf("%d %s", a.status, a.body)
	}
	var debug protocol.ClusterDebug
	if w.get("/v2/cluster/debug").json(t, &debug); debug.Node != "srv_a" {
		t.Errorf("%+v", debug)
	}
}
