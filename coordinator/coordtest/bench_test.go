package coordtest

import (
	"context"
	"encoding/json"
	"sync"
	"testing"

	"windlass/protocol"
)

// BenchmarkFollower and BenchmarkLeader are submits of 64 callers at a coordinator
// that does not lead and at the one that does: what forwarding costs is their
// difference in allocations and, by -cpuprofile, in processor time.
func BenchmarkFollower(b *testing.B) { benchSubmit(b, true) }

// BenchmarkLeader is the other half.
func BenchmarkLeader(b *testing.B) { benchSubmit(b, false) }

func benchSubmit(b *testing.B, follower bool) {
	p := StartPeers(b, 3)
	p.PutEndpoint(endpoint)
	n := p.Leader()
	if follower {
		n = p.Followers()[0]
	}
	b.ResetTimer()
	var work sync.WaitGroup
	next := make(chan int, 1024)
	for range 64 {
		work.Go(func() {
			for range next {
				if _, err := n.Client.Submit(context.Background(), endpoint, protocol.SubmitRequest{Input: json.RawMessage(`{"n":1}`)}); err != nil {
					b.Error(err)
				}
			}
		})
	}
	for i := range b.N {
		next <- i
	}
	close(next)
	work.Wait()
}
