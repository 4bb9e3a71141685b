package consensus

import (
	"context"
	"testing"
	"time"
)

// TestAReadNeedsAMajority: a leader whose followers are gone still takes itself
// for the leader for a moment. Another one may have been elected meanwhile, so it
// must not answer a read.
func TestAReadNeedsAMajority(t *testing.T) {
	trio(t, func(t *testing.T, w *world) {
		lead := w.leader()
		w.put(1)
		if _, err := w.seats[lead].ReadIndex(t.Context()); err != nil {
			t.Fatal(err)
		}
		for _, i := range w.others(lead) {
			w.kill(i)
		}
		<-time.After(clusterLease / 2) // nothing that they answered before is under way any more
		if !w.seats[lead].IsLeader() {
			t.Fatal("the leader knows already: the test would prove nothing")
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if index, err := w.seats[lead].ReadIndex(ctx); err == nil {
			t.Errorf("a leader without followers answered a read at %d", index)
		}
		w.start(w.others(lead)...)
	})
}
