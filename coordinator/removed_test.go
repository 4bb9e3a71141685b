package coordinator

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// TestRemovedCoordinatorEnds: one that is no member any more must not go on as
// if it were.
func TestRemovedCoordinatorEnds(t *testing.T) {
	var hosts []string
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hosts = append(hosts, ln.Addr().String())
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	var all []*guarded
	ended := make([]chan error, 3)
	for i := range 3 {
		cfg := onDisk(t, t.TempDir())
		cfg.Peer.Listen, cfg.Join, cfg.Expect = hosts[i], hosts, 3
		co, err := New(cfg, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, &guarded{Coordinator: co})
		ended[i] = make(chan error, 1)
		work.Go(func() { ended[i] <- co.Run(ctx) })
	}
	t.Cleanup(work.Wait)
	t.Cleanup(cancel)
	leader := serving(t, all)
	for i, g := range all {
		if g == leader {
			continue
		}
		if err := removed(t, leader, g, ended[i]); err == nil || !strings.Contains(err.Error(), "removed from its cluster") {
			t.Fatalf("ended with %v", err)
		}
		break
	}
}

// removed takes a coordinator out until it ends. One that has not yet heard from
// its leader that it is a member takes the first removal for one of the time
// before it started, and asks to be taken in again.
func removed(t *testing.T, leader, g *guarded, ended <-chan error) error {
	again := time.NewTicker(3 * time.Second) // some rounds of its questions
	defer again.Stop()
	for {
		// Refused while it is no member, and while a change is under way.
		_ = leader.node.Remove(t.Context(), g.node.Identity().ServerID)
		select {
		case err := <-ended:
			return err
		case <-again.C:
		}
	}
}
