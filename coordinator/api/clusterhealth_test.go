package api

import (
	"strings"
	"testing"

	"windlass/protocol"
)

func TestHealthSaysWhatIsWrong(t *testing.T) {
	three := func(change func(m []protocol.ClusterMember)) protocol.ClusterMembers {
		doc := protocol.ClusterMembers{Cluster: "cluster_x", Expect: 3, Members: []protocol.ClusterMember{
			{Server: "srv_a", Role: protocol.RoleLeader}, {Server: "srv_b", Role: protocol.RoleVoter}, {Server: "srv_c", Role: protocol.RoleVoter},
		}}
		for i := range doc.Members {
			m := &doc.Members[i]
			m.Reachable, m.Applied, m.LastIndex, m.Version = true, 5000, 5000, "v1"
			m.Checkpoint = &protocol.ClusterCheckpoint{Index: 4096, Digest: "3:d"}
		}
		change(doc.Members)
		return doc
	}
	for name, c := range map[string]struct {
		change    func(m []protocol.ClusterMember)
		healthy   bool
		tolerates int
		finding   string
	}{
		"all well": {func([]protocol.ClusterMember) {}, true, 1, ""},
		"one down": {func(m []protocol.ClusterMember) { m[1].Reachable = false }, false, 0, "windlass cluster remove srv_b"},
		"nobody yet": {func(m []protocol.ClusterMember) {
			m[1] = protocol.ClusterMember{Address: "h:7401", Role: protocol.RoleWaiting}
		}, false, 0, "nobody has answered at h:7401"},
		"learner": {func(m []protocol.ClusterMember) { m[2].Role = protocol.RoleLearner }, false, 0, "does not vote yet"},
		"copying": {func(m []protocol.ClusterMember) {
			m[2].Role, m[2].Payloads = protocol.RoleLearner, &protocol.ClusterPayloads{Missing: 12, IdleMs: 2000}
		}, false, 0, "12 payloads are not copied to it yet, the newest came 2s ago"},
		"copying is stuck": {func(m []protocol.ClusterMember) {
			m[2].Role, m[2].Payloads = protocol.RoleLearner, &protocol.ClusterPayloads{Missing: 1, IdleMs: stuckAfter.Milliseconds(), Trouble: "srv_b does not answer"}
		}, false, 0, "(srv_b does not answer): start the coordinators that have them"},
		"nowhere": {func(m []protocol.ClusterMember) {
			m[2].Payloads = &protocol.ClusterPayloads{Nowhere: 2, Names: []string{"0a1b", "0c"}}
		}, true, 1, "2 payloads that srv_c looks for are on no coordinator that answers (0a1b..., 0c...): start the coordinator"},
		"waiting":        {func(m []protocol.ClusterMember) { m[2].Role = protocol.RoleWaiting }, false, 0, "in no cluster yet"},
		"behind":         {func(m []protocol.ClusterMember) { m[2].Applied = 100 }, false, 1, "4900 entries behind"},
		"no leader":      {func(m []protocol.ClusterMember) { m[0].Role = protocol.RoleVoter }, false, 1, "no leader"},
		"clock":          {func(m []protocol.ClusterMember) { m[2].ClockOffsetMs = -2000 }, true, 1, "-2000 ms off"},
		"mixed versions": {func(m []protocol.ClusterMember) { m[2].Version = "v2" }, true, 1, "finish the upgrade"},
		"states differ":  {func(m []protocol.ClusterMember) { m[2].Checkpoint.Digest = "3:e" }, false, 1, "states differ at index 4096"},
		"other encoding": {func(m []protocol.ClusterMember) { m[2].Checkpoint.Digest = "2:e" }, true, 1, ""},
		"other index":    {func(m []protocol.ClusterMember) { m[2].Checkpoint = &protocol.ClusterCheckpoint{Index: 1, Digest: "e"} }, true, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			doc := three(c.change)
			assess(&doc)
			all := strings.Join(doc.Findings, "\n")
			if doc.Healthy != c.healthy || doc.Tolerates != c.tolerates || !strings.Contains(all, c.finding) || c.finding == "" && all != "" {
				t.Errorf("healthy %v, tolerates %d, %q", doc.Healthy, doc.Tolerates, all)
			}
		})
	}
	few := protocol.ClusterMembers{Expect: 3, Members: []protocol.ClusterMember{{Server: "srv_a", Role: protocol.RoleLeader, Reachable: true}}}
	if assess(&few); few.Healthy || !strings.Contains(strings.Join(few.Findings, "\n"), "1 of 3 coordinators vote") {
		t.Errorf("%+v", few)
	}
}
