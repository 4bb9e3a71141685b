package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/protocol/retry"
	"windlass/scripts/chaos/check"
	"windlass/scripts/chaos/record"
)

const (
	stormAgents = 400              // as many as this machine simulates beside three coordinators
	stormLimit  = 60 * time.Second // until all are parked again
	stormSlots  = 1
	parkedFor   = time.Second // a poll that was not refused by then is parked
	stormPoint  = "ep_storm"
)

// simAgent speaks the agents' protocol without a host behind it: it registers,
// parks, holds its job until it is told to end it, and beats.
type simAgent struct {
	b      *bed
	name   string
	id     protocol.AgentID
	client *client.Client
	done   <-chan struct{} // jobs may end now
	parked atomic.Int64    // record.Now of the newest park

	mu        sync.Mutex
	life      protocol.Incarnation
	seq       uint64
	reporting uint64 // of the report that is not answered
	held      []protocol.HeldAttempt
	tasks     map[protocol.JobID]int
}

// storm: every agent loses its connection at once, when the leader is killed.
// All are parked again in time, and none loses the lease that it holds (F27).
func storm(ctx context.Context, b *bed) error {
	if err := b.startAll(ctx); err != nil {
		return err
	}
	b.point = stormPoint
	if _, err := b.client.ApplyEndpoint(ctx, protocol.Endpoint{
		ID: stormPoint, Resources: protocol.ResourceSpec{CPU: true},
		Runtime: protocol.RuntimeSpec{Kind: "command", Command: []string{"simulated"}},
	}); err != nil {
		return err
	}
	live, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan struct{})
	var agents []*simAgent
	var all sync.WaitGroup
	for i := range stormAgents {
		s, err := newSimAgent(b, i, done)
		if err != nil {
			return err
		}
		agents = append(agents, s)
		all.Go(func() { s.live(live) })
	}
	c := &caller{b: b, name: "client"}
	for range agents {
		if _, err := c.must(ctx, b.newOrder(0)); err != nil {
			return err
		}
	}
	if err := b.eventually(ctx, stormLimit, "every agent holds its job", func() bool { return howMany(agents, (*simAgent).holds) == len(agents) }); err != nil {
		return err
	}
	if err := stormKills(ctx, b, agents); err != nil {
		return err
	}
	close(done)
	err := b.settle(ctx)
	stop()
	all.Wait()
	return err
}

func stormKills(ctx context.Context, b *bed, agents []*simAgent) error {
	a := &arena{bed: b, name: "reconnect-storm"}
	for range 2 {
		n, _, err := a.leaderAnd(ctx)
		if err != nil {
			return err
		}
		struck := record.Now()
		over, err := a.outage(ctx, a.ofNodes(killLimit, n), func() error { n.kill(); return nil })
		if err != nil {
			return err
		}
		// A sync that a follower relays is parked at the next leader without its agent
		// hearing of it: that one counts when its hold ends.
		back := func(s *simAgent) bool {
			at := s.parked.Load()
			return at > struck && record.Span(at, record.Now()) > parkedFor
		}
		if err := b.eventually(ctx, stormLimit, "every agent is parked again", func() bool { return howMany(agents, back) == len(agents) }); err != nil {
			return err
		}
		fmt.Printf("  %d agents are parked again %s after the leader was killed\n", len(agents), record.Span(struck, record.Now()).Round(10*time.Millisecond))
		over()
		if err := n.start(ctx); err != nil {
			return err
		}
	}
	return nil
}

func howMany(agents []*simAgent, is func(*simAgent) bool) int {
	n := 0
	for _, s := range agents {
		if is(s) {
			n++
		}
	}
	return n
}

// eventually waits for a condition, for so much time of this machine's own.
func (b *bed) eventually(ctx context.Context, d time.Duration, what string, ok func() bool) error {
	for began := record.Now(); !ok(); {
		if b.own(began) > d {
			return fmt.Errorf("not within %s: %s", d, what)
		}
		if err := pause(ctx, again); err != nil {
			return fmt.Errorf("never %s: %w", what, err)
		}
	}
	return nil
}

func newSimAgent(b *bed, i int, done <-chan struct{}) (*simAgent, error) {
	bases := b.bases()
	rand.Shuffle(len(bases), func(i, j int) { bases[i], bases[j] = bases[j], bases[i] })
	c, err := client.New(client.Config{Addrs: bases, Key: bedKey, UserAgent: "windlass-chaos-agent"})
	return &simAgent{
		b: b, name: fmt.Sprint("sim-", i), id: protocol.NewAgentID(time.Now()), client: c, done: done,
		tasks: make(map[protocol.JobID]int),
	}, err
}

func (s *simAgent) holds() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.held) > 0
}

// live registers, and then parks and beats side by side, until ctx ends.
func (s *simAgent) live(ctx context.Context) {
	for ctx.Err() == nil {
		if err := s.register(ctx); err != nil {
			_ = pause(ctx, retry.Backoff{}.Delay(0))
			continue
		}
		life, end := context.WithCancel(ctx)
		var both sync.WaitGroup
		both.Go(func() { defer end(); s.park(life) })
		both.Go(func() { defer end(); s.beat(life) })
		both.Wait()
		end()
	}
}

func (s *simAgent) register(ctx context.Context) error {
	s.mu.Lock()
	s.life, s.seq, s.reporting = protocol.NewIncarnation(time.Now()), 0, 0
	req := protocol.RegisterRequest{
		Agent: s.id, Name: s.name, Incarnation: s.life, Held: append([]protocol.HeldAttempt{}, s.held...),
		Facts:    protocol.AgentFacts{Version: "chaos", OS: "linux", Arch: "amd64", Cores: 1, Memory: 1 << 30, Slots: stormSlots, Kinds: []string{"command"}, Commands: []string{"simulated"}},
		Protocol: [2]int{protocol.MinProtocolMin, protocol.ProtocolMinor},
	}
	s.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, protocol.CallLimit)
	defer cancel()
	_, err := s.client.Register(ctx, req)
	return err
}

// syncStatement is what the agent holds and could take.
func (s *simAgent) syncStatement() protocol.SyncRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	return protocol.SyncRequest{
		Agent: s.id, Incarnation: s.life, Seq: s.seq, Held: append([]protocol.HeldAttempt{}, s.held...), Reporting: s.reporting,
		Capacity: protocol.Capacity{Seq: s.seq, Free: stormSlots - len(s.held)}, HoldMs: protocol.SyncHold.Milliseconds(),
	}
}

// reportStatement is the same with results; what they end is not held.
func (s *simAgent) reportStatement(handIn []protocol.Finish) protocol.ReportRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq++
	s.reporting = s.seq
	held := slices.DeleteFunc(slices.Clone(s.held), func(h protocol.HeldAttempt) bool {
		return slices.ContainsFunc(handIn, func(f protocol.Finish) bool { return f.Job == h.Job && f.Attempt == h.Attempt })
	})
	return protocol.ReportRequest{
		Agent: s.id, Incarnation: s.life, Held: held, Finished: handIn, Takes: true,
		Capacity: protocol.Capacity{Seq: s.seq, Free: stormSlots - len(held)},
	}
}

func over(err error) bool {
	code := protocol.CodeOf(err)
	return code == protocol.CodeUnknownAgent || code == protocol.CodeStaleIncarnation
}

func (s *simAgent) park(ctx context.Context) {
	spread := time.Duration(0)
	for failures := 0; ctx.Err() == nil; {
		call, cancel := context.WithTimeout(ctx, protocol.SyncHold+protocol.SyncGrace)
		s.parked.Store(record.Now())
		resp, err := s.client.Sync(call, s.syncStatement())
		cancel()
		switch {
		case err == nil:
			failures, spread = 0, time.Duration(resp.SpreadMs)*time.Millisecond
			s.mu.Lock()
			s.takeLocked(resp.Assign)
			s.mu.Unlock()
		case over(err):
			return
		default:
			s.parked.Store(0)
			wait := retry.Backoff{}.Delay(failures)
			if failures == 0 { // spread over the time that was told, as the real one does
				wait = retry.Jitter(spread)
			}
			failures++
			_ = pause(ctx, wait)
		}
	}
}

func (s *simAgent) takeLocked(jobs []protocol.Assignment) {
	for _, as := range jobs {
		var t task
		if _, again := s.tasks[as.Job]; again || json.Unmarshal(as.Input, &t) != nil {
			continue
		}
		s.tasks[as.Job] = t.N
		s.held = append(s.held, protocol.HeldAttempt{Job: as.Job, Attempt: as.Attempt})
		s.write(t.N, as.Job, record.EventStart)
	}
}

func (s *simAgent) write(task int, job protocol.JobID, event string) {
	err := record.AppendRun(s.b.runsFile(), record.Run{Task: task, Job: job.String(), Agent: s.name, Event: event, At: record.Now()})
	if err != nil {
		panic(err) // without its journal the run would prove nothing
	}
}

// beat reports what is held; once jobs may end it hands in whatever it holds.
func (s *simAgent) beat(ctx context.Context) {
	pace := protocol.BeatPeriod
	for pause(ctx, pace) == nil {
		var handIn []protocol.Finish
		select {
		case <-s.done:
			pace, handIn = time.Second, s.finish()
		default:
		}
		req := s.reportStatement(handIn)
		call, cancel := context.WithTimeout(ctx, protocol.CallLimit)
		resp, err := s.client.Report(call, req)
		cancel()
		s.obey(ctx, &resp)
		if over(err) {
			return
		}
	}
}

// obey forgets the results that were answered and takes what comes next; ctx is
// the incarnation's.
func (s *simAgent) obey(ctx context.Context, resp *protocol.ReportResponse) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reporting = 0
	if ctx.Err() == nil {
		s.takeLocked(resp.Assign)
	}
	for _, a := range resp.Attempts {
		if a.Finished {
			s.held = slices.DeleteFunc(s.held, func(h protocol.HeldAttempt) bool { return h.Job == a.Job && h.Attempt == a.Attempt })
		}
	}
}

func (s *simAgent) finish() []protocol.Finish {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []protocol.Finish
	for _, h := range s.held {
		n := s.tasks[h.Job]
		s.write(n, h.Job, record.EventResult)
		output, err := json.Marshal(map[string]any{"n": n, "sum": check.Answer(n)})
		if err != nil {
			panic(errors.Join(errors.New("a map of numbers and texts"), err))
		}
		out = append(out, protocol.Finish{Job: h.Job, Attempt: h.Attempt, Outcome: protocol.OutcomeCompleted, Output: output, RunMs: 1})
	}
	return out
}
