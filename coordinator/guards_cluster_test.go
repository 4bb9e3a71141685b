package coordinator

import (
	"context"
	"encoding/json"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/protocol/client"
)

// guarded is one of three coordinators whose clock and state a test can bend.
type guarded struct {
	*Coordinator
	client *client.Client
	aheadS atomic.Int64 // of true time, in seconds
	lines  lines
	// bent, when set, changes what this coordinator hashes.
	bent atomic.Pointer[func(*state.View) *state.View]

	mu    sync.Mutex
	halts []error
}

// lines are what a coordinator logged.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) has(part string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Contains(l.text.String(), part)
}

func (g *guarded) halted() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.halts)
}

// startGuarded runs three whose wall clocks are that many seconds ahead, and
// returns once one of them serves.
func startGuarded(t *testing.T, ahead [3]int64) []*guarded {
	t.Helper()
	var hosts []string
	var held []net.Listener
	for range 3 {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		hosts, held = append(hosts, ln.Addr().String()), append(held, ln)
	}
	for _, ln := range held { // all three are chosen before one is bound again
		if err := ln.Close(); err != nil {
			t.Fatal(err)
		}
	}
	var all []*guarded
	for i := range 3 {
		g := &guarded{}
		g.aheadS.Store(ahead[i])
		cfg := onDisk(t, t.TempDir())
		cfg.Peer.Listen, cfg.Join, cfg.Expect = hosts[i], hosts, 3
		co, err := NewWith(cfg, Options{WallMs: func() int64 { return time.Now().UnixMilli() + 1000*g.aheadS.Load() }}, zerolog.New(&g.lines))
		if err != nil {
			t.Fatal(err)
		}
		g.Coordinator = co
		co.states.halt = func(err error) { // the process of a test must not end
			g.mu.Lock()
			defer g.mu.Unlock()
			g.halts = append(g.halts, err)
		}
		take := co.states.take
		co.states.take = func() *state.View {
			view := take()
			if bend := g.bent.Load(); view != nil && bend != nil {
				return (*bend)(view)
			}
			return view
		}
		if g.client, err = client.New(client.Config{Addrs: []string{"http://" + co.Addr().String()}, Key: "0123456789abcdef0123456789abcdef"}); err != nil {
			t.Fatal(err)
		}
		all = append(all, g)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	for _, g := range all {
		work.Go(func() {
			if err := g.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() {
		for _, g := range all {
			g.client.Close()
		}
		cancel()
		work.Wait()
	})
	serving(t, all)
	return all
}

// eventually waits for what happens by itself within a few seconds.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); rest() {
		if time.Now().After(end) {
			t.Fatalf("not within a minute: %s", what)
		}
	}
}

// serving is the coordinator that serves as leader.
func serving(t *testing.T, all []*guarded) (leader *guarded) {
	t.Helper()
	eventually(t, "one serves", func() bool {
		for _, g := range all {
			if _, leads := g.place.Leads(); leads {
				leader = g
			}
		}
		return leader != nil
	})
	return leader
}

func (g *guarded) submit(t *testing.T, ttl time.Duration) protocol.JobID {
	t.Helper()
	r, err := g.client.Submit(t.Context(), "ep_echo", protocol.SubmitRequest{
		Input: json.RawMessage(`{}`), Policy: &protocol.SubmitPolicy{TTL: ttl.Milliseconds()},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.JobID
}

// TestDivergedCoordinatorHalts lets one of three hash another state than it has:
// it halts, and the others say which one it is.
func TestDivergedCoordinatorHalts(t *testing.T) {
	all := startGuarded(t, [3]int64{})
	leader := serving(t, all)
	eventually(t, "equal digests everywhere", func() bool {
		at := all[0].states.current()
		return at.Index > 0 && !slices.ContainsFunc(all, func(g *guarded) bool { return g.states.current() != at })
	})
	wrong := all[0]
	if wrong == leader {
		wrong = all[1]
	}
	bend := func(v *state.View) *state.View {
		other, meta := state.New(), v.Meta()
		meta.Settings.MaxBytes++
		other.Replace(state.NewBuilder(), meta)
		return other.View()
	}
	wrong.bent.Store(&bend)
	if _, err := leader.Checkpoint(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the one that differs halts", func() bool { return wrong.halted() > 0 })
	for _, g := range all {
		if g == wrong {
			continue
		}
		eventually(t, "the others say so", func() bool { return g.lines.has("the state of coordinator " + wrong.node.Identity().ServerID) })
		if g.halted() > 0 {
			t.Error("one that agrees with the majority halted")
		}
	}
	if wrong.halted() != 1 {
		t.Errorf("halted %d times", wrong.halted())
	}
}

// TestWrongClocksDoNotLead is F17: the wall clock of one is a day ahead or behind,
// and it is made the leader again and again. Nothing expires early, nothing
// freezes.
func TestWrongClocksDoNotLead(t *testing.T) {
	for name, day := range map[string]int64{"ahead": 24 * 3600, "behind": -24 * 3600} {
		t.Run(name, func(t *testing.T) {
			all := startGuarded(t, [3]int64{0: day})
			wrong := all[0]
			leader := serving(t, all)
			if leader == wrong {
				t.Fatal("the one with the wrong clock serves")
			}
			leader.endpointEcho(t)
			long := leader.submit(t, time.Hour)
			for range 2 {
				if err := serving(t, all).node.Transfer(t.Context(), wrong.node.Identity().ServerID); err != nil {
					t.Logf("transfer: %v", err) // another one may lead already
				}
				eventually(t, "another one serves again", func() bool { return !wrong.node.IsLeader() && serving(t, all) != wrong })
			}
			if !wrong.lines.has("the wall clock of this coordinator is wrong") {
				t.Error("the one with the wrong clock raised no alarm")
			}
			// The clock of a leader is set while it leads.
			leader = serving(t, all)
			leader.aheadS.Store(day)
			wrong.aheadS.Store(0)
			eventually(t, "the leader hands over", func() bool { return serving(t, all) != leader })
			short := serving(t, all).submit(t, time.Second)
			timesRight(t, all, long, short)
		})
	}
}

// TestOppositeOffsetsBothLead moves leadership between clocks that are four
// seconds ahead and behind.
func TestOppositeOffsetsBothLead(t *testing.T) {
	all := startGuarded(t, [3]int64{4, -4, 0})
	leader := serving(t, all)
	leader.endpointEcho(t)
	long := leader.submit(t, time.Hour)
	last := int64(0)
	for i := range 4 {
		next := all[i%2]
		eventually(t, "it leads", func() bool {
			if now := serving(t, all); now != next {
				_ = now.node.Transfer(t.Context(), next.node.Identity().ServerID)
			}
			return serving(t, all) == next
		})
		next.submit(t, time.Hour)
		if now := next.store.View().ClockMs(); now < last {
			t.Errorf("the replicated clock went back from %d to %d", last, now)
		} else {
			last = now
		}
	}
	// The median is right: neither term began with its leader's own clock.
	if ahead := last - time.Now().UnixMilli(); ahead > 2000 {
		t.Errorf("the replicated clock is %d ms ahead", ahead)
	}
	timesRight(t, all, long, serving(t, all).submit(t, time.Second))
}

// timesRight checks that a job with a short ttl ends and one with a long ttl does
// not, and that the replicated clock is near true time.
func timesRight(t *testing.T, all []*guarded, long, short protocol.JobID) {
	t.Helper()
	status := func(id protocol.JobID) protocol.Status {
		return serving(t, all).store.Job(id).Status
	}
	eventually(t, "a short ttl ends", func() bool { return status(short) == protocol.StatusTimeout })
	if s := status(long); s != protocol.StatusQueued {
		t.Errorf("a job with an hour left is %s", s)
	}
	off := time.Duration(serving(t, all).store.View().ClockMs()-time.Now().UnixMilli()) * time.Millisecond
	if off.Abs() > 2*time.Minute {
		t.Errorf("the replicated clock is off by %s", off)
	}
}

func (g *guarded) endpointEcho(t *testing.T) {
	t.Helper()
	if _, err := g.client.ApplyEndpoint(t.Context(), protocol.Endpoint{Kind: protocol.EndpointKind, ID: "ep_echo", Runtime: protocol.RuntimeSpec{Kind: "builtin"}}); err != nil {
		t.Fatal(err)
	}
}
