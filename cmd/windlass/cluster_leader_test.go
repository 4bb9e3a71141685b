package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"windlass/protocol"
	"windlass/protocol/client"
)

// Leadership was handed on a moment before: nobody leads when the members are
// read first.
func TestALeaderThatIsBeingElectedIsWaitedFor(t *testing.T) {
	var asked atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		m := protocol.ClusterMembers{Members: []protocol.ClusterMember{{Server: "srv_a", Role: "voter"}, {Server: "srv_b", Role: "voter"}}}
		if asked.Add(1) > 2 {
			m.Members[1].Role = protocol.RoleLeader
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(m)
	}))
	defer s.Close()
	c, err := client.New(client.Config{Addrs: []string{s.URL}, Key: "key"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m, i, err := awaitLeader(t.Context(), c)
	if err != nil || i != 1 || m.Members[i].Server != "srv_b" || asked.Load() != 3 {
		t.Errorf("%d of %+v after %d questions: %v", i, m, asked.Load(), err)
	}
}
