package consensus

import (
	"testing"

	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
)

func TestTransportKeepsRaftsOptions(t *testing.T) {
	a, b := listener(t), listener(t)
	if _, ok := raft.Transport(a).(raft.WithPreVote); !ok {
		t.Error("pre-vote is hidden from raft")
	}
	if _, ok := raft.Transport(a).(raft.WithClose); !ok {
		t.Error("close is hidden from raft")
	}
	// A heartbeat must come through the main loop's channel although a handler
	// for the fast path was set, and a pre-vote must arrive at all.
	b.SetHeartbeatHandler(func(raft.RPC) { t.Error("heartbeat took the fast path") })
	served := make(chan any, 2)
	go func() {
		for range 2 {
			rpc := <-b.Consumer()
			served <- rpc.Command
			switch rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
			default:
				rpc.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
			}
		}
	}()
	beat := raft.AppendEntriesRequest{Term: 1, RPCHeader: raft.RPCHeader{Addr: []byte(a.LocalAddr())}}
	if err := a.AppendEntries("b", b.LocalAddr(), &beat, &raft.AppendEntriesResponse{}); err != nil {
		t.Fatal(err)
	}
	var vote raft.RequestPreVoteResponse
	if err := a.RequestPreVote("b", b.LocalAddr(), &raft.RequestPreVoteRequest{}, &vote); err != nil || !vote.Granted {
		t.Fatalf("pre-vote: %+v %v", vote, err)
	}
	if _, ok := (<-served).(*raft.AppendEntriesRequest); !ok {
		t.Error("heartbeat did not come first")
	}
	if _, err := a.AppendEntriesPipeline("b", b.LocalAddr()); err != raft.ErrPipelineReplicationNotSupported {
		t.Errorf("pipelining is on: %v", err)
	}
}

func listener(t *testing.T) network {
	t.Helper()
	id := peer.Identity{Server: newID("srv_"), Cluster: "cluster_test"}
	port, err := peer.Listen(peer.Config{Listen: "127.0.0.1:0", Self: func() peer.Identity { return id }, Log: nop()})
	if err != nil {
		t.Fatal(err)
	}
	serve(t, port)
	n := newNetwork(newStream(port, id.Server), newBridge(nop()))
	t.Cleanup(func() { n.Close() })
	return n
}
