package coordinator

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/archive"
	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/consensus"
	"windlass/protocol"
)

// deaf is a listener that nobody connects to.
type deaf struct{ net.Listener }

func (deaf) Close() error   { return nil }
func (deaf) Addr() net.Addr { return &net.TCPAddr{} }

// led is a coordinator that leads, without its API.
type led struct {
	*Coordinator
	end func()
}

func lead(t *testing.T, memory *consensus.Memory, change func(*Config, *Options)) led {
	t.Helper()
	keys, err := auth.NewKeys("0123456789abcdef0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	blobs, err := blob.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	cfg, opts := DefaultConfig(), Options{Listener: deaf{}, Keys: keys, Memory: memory, Blobs: blobs}
	if change != nil {
		change(&cfg, &opts)
	}
	c, err := NewWith(cfg, opts, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	work.Go(func() {
		if err := c.followLeadership(ctx); err != nil {
			t.Error(err)
		}
	})
	<-c.Ready()
	return led{c, func() {
		if err := c.shutdown(cancel, &work); err != nil {
			t.Error(err)
		}
		if err := blobs.Close(); err != nil {
			t.Error(err)
		}
	}}
}

func (l led) propose(t *testing.T, c *command.Command) {
	t.Helper()
	r, err := l.node.Proposer().Propose(t.Context(), c)
	if err != nil || r[0].Code != "" {
		t.Fatalf("%v: %v %v", c, r, err)
	}
}

func (l led) endpoint(t *testing.T) {
	t.Helper()
	l.propose(t, &command.Command{Op: &command.Command_PutEndpoint{PutEndpoint: &command.PutEndpoint{
		Org: protocol.OrgDefault, Id: "ep_echo", Create: true, Doc: []byte(`{"kind":"Endpoint","id":"ep_echo","runtime":{"kind":"builtin"}}`),
	}}})
}

func (l led) submit(t *testing.T) protocol.JobID {
	t.Helper()
	id := protocol.NewJobID(time.Now())
	l.propose(t, &command.Command{Op: &command.Command_Submit{Submit: &command.Submit{
		Job: id[:], Org: protocol.OrgDefault, Endpoint: "ep_echo", Priority: uint32(protocol.PriorityNormal),
		Input: &command.Payload{Inline: []byte(`{}`)}, ExecutionMs: 1000, TtlMs: 86_400_000, MaxAttempts: 1, MaxLosses: 1,
	}}})
	return id
}

func TestRetentionRemovesWhatEndedLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := lead(t, consensus.NewMemory(), func(c *Config, _ *Options) { c.Archive.Keep = protocol.Duration(minKeep) })
		defer l.end()
		l.endpoint(t)
		waiting, ended := l.submit(t), make([]protocol.JobID, archive.EvictBatch+10)
		for i := range ended {
			ended[i] = l.submit(t)
			l.propose(t, &command.Command{Op: &command.Command_Cancel{Cancel: &command.Cancel{Job: ended[i][:], Org: protocol.OrgDefault}}})
		}
		pass(minKeep - time.Second)
		if l.store.Job(ended[0]) == nil {
			t.Fatal("removed too early")
		}
		pass(minKeep)
		for _, id := range ended {
			if l.store.Job(id) != nil {
				t.Fatalf("%s is still there", id)
			}
		}
		if l.store.Job(waiting) == nil {
			t.Fatal("a job that waits was removed")
		}
	})
}

func TestTheLeadersLimitsAreReplicated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := consensus.NewMemory()
		for _, want := range []protocol.Size{minStateBytes, 2 * minStateBytes} {
			l := lead(t, memory, func(c *Config, _ *Options) { c.State.MaxBytes = want })
			synctest.Wait()
			if got := l.store.View().Settings().MaxBytes; got != int64(want) {
				t.Errorf("state.maxBytes is %d, want %d", got, want)
			}
			l.end()
		}
	})
}

// TestWallClockJumps restarts the leader with its wall clock a day ahead, then
// a day behind; the replicated clock never goes back.
func TestWallClockJumps(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, last := consensus.NewMemory(), int64(0)
		for _, jump := range []time.Duration{0, 24 * time.Hour, -24 * time.Hour} {
			l := lead(t, memory, func(_ *Config, o *Options) {
				o.WallMs = func() int64 { return time.Now().Add(jump).UnixMilli() }
			})
			if l.store.Endpoint(protocol.OrgDefault, "ep_echo") == nil {
				l.endpoint(t)
			}
			l.submit(t)
			if now := l.store.View().ClockMs(); now < last {
				t.Errorf("replicated clock went back from %d to %d", last, now)
			} else {
				last = now
			}
			l.end()
		}
	})
}
