package forward

import (
	"bytes"
	"context"
	"encoding"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"windlass/coordinator/command"
	"windlass/coordinator/peer"
	"windlass/protocol"
)

// node is a coordinator among others that a test plays.
type node struct {
	*Forwarder

	mu     sync.Mutex
	leads  bool
	leader peer.Address // zero: none is known
	calls  []call
	answer func(ctx context.Context, c call, out any) error
	local  func(ctx context.Context, c *command.Command) (command.Result, error)
	read   uint64 // ReadIndex
	waits  []uint64
}

// call is one call to another coordinator.
type call struct {
	to       peer.Address
	method   string
	commands []*command.Command
}

var errNotPlayed = errors.New("the test does not play this")

func (n *node) IsLeader() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leads
}

func (n *node) LeaderPeer() (peer.Address, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.leader, n.leader != peer.Address{}
}

func (n *node) VerifyLeader(context.Context) error { return nil }

func (n *node) ReadIndex(context.Context) (uint64, error) { return n.read, nil }

func (n *node) WaitApplied(_ context.Context, index uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.waits = append(n.waits, index)
	return nil
}

func (n *node) Call(ctx context.Context, to peer.Address, method string, in, out any) error {
	c := call{to: to, method: method}
	if req, ok := in.(*request); ok {
		raw, err := req.MarshalBinary()
		if err != nil {
			return err
		}
		var got request
		if err := got.UnmarshalBinary(raw); err != nil {
			return err
		}
		c.commands = got.commands
	}
	n.mu.Lock()
	n.calls = append(n.calls, c)
	answer := n.answer
	n.mu.Unlock()
	return answer(ctx, c, out)
}

func (n *node) follow(leader peer.Address) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.leads, n.leader = false, leader
}

func (n *node) write(ctx context.Context, c *command.Command) (command.Result, error) {
	return n.local(ctx, c)
}

// play runs a scene in virtual time.
func play(t *testing.T, scene func(t *testing.T, n *node)) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{
			answer: func(context.Context, call, any) error { return errNotPlayed },
			local:  func(context.Context, *command.Command) (command.Result, error) { return command.Result{}, errNotPlayed },
		}
		n.Forwarder = New(Config{Cluster: n, Call: n.Call, Write: n.write})
		ctx, cancel := context.WithCancel(t.Context())
		end := n.Begin(ctx)
		var work sync.WaitGroup
		work.Go(end)
		scene(t, n)
		cancel()
		work.Wait()
	})
}

func first() peer.Address  { return peer.Address{Server: "srv_a", Host: "a:1"} }
func second() peer.Address { return peer.Address{Server: "srv_b", Host: "b:1"} }

func submit(id byte) *command.Command {
	return &command.Command{Op: &command.Command_Submit{Submit: &command.Submit{Job: bytes.Repeat([]byte{id}, 16), Org: "org"}}}
}

// commit answers every command of a call with its job.
func commit(_ context.Context, c call, out any) error {
	resp := &response{}
	for _, cmd := range c.commands {
		resp.answers = append(resp.answers, answer{result: command.Result{Job: protocol.JobID(cmd.GetSubmit().GetJob()), Index: 7}})
	}
	return travel(resp, out)
}

// travel encodes and decodes as the port does.
func travel(in encoding.BinaryMarshaler, out any) error {
	raw, err := in.MarshalBinary()
	if err != nil {
		return err
	}
	return out.(encoding.BinaryUnmarshaler).UnmarshalBinary(raw)
}

func lost(sent bool) error { return &peer.Unreachable{Sent: sent, Err: errors.New("it broke")} }

func outcomeOf(err error) any {
	var e *protocol.Error
	if !errors.As(err, &e) {
		return fmt.Sprintf("%v", err)
	}
	return e.Details["outcome"]
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func TestAWriteWhoseOutcomeIsUnknownIsSentToTheNextLeader(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		n.answer = func(ctx context.Context, c call, out any) error {
			if c.to == first() {
				n.follow(second())
				return lost(true)
			}
			return commit(ctx, c, out)
		}
		res, err := n.Write(within(t, 10*time.Second), submit(1))
		if err != nil || res.Index != 7 || res.Job != (protocol.JobID(bytes.Repeat([]byte{1}, 16))) {
			t.Fatalf("%+v, %v", res, err)
		}
		if len(n.calls) != 2 || n.calls[1].to != second() || !bytes.Equal(n.calls[0].commands[0].GetSubmit().GetJob(), n.calls[1].commands[0].GetSubmit().GetJob()) {
			t.Fatalf("calls %+v", n.calls)
		}
	})
}

func TestAWriteOfADeposedLeaderGoesToTheNext(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.leads = true
		n.local = func(context.Context, *command.Command) (command.Result, error) {
			n.follow(second())
			return command.Result{}, protocol.NewError(protocol.CodeNoLeader, "lost").With("outcome", "unknown")
		}
		n.answer = commit
		if res, err := n.Write(within(t, 10*time.Second), submit(1)); err != nil || res.Index != 7 {
			t.Fatalf("%+v, %v", res, err)
		}
	})
}

func TestWithoutALeaderTheAnswerComesAtOnce(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		began := time.Now()
		_, err := n.Write(within(t, 10*time.Second), submit(1))
		if outcomeOf(err) != "none" || time.Since(began) > 100*time.Millisecond {
			t.Errorf("a write: %v after %v", err, time.Since(began))
		}
		began = time.Now()
		if err := n.Barrier(within(t, 10*time.Second)); protocol.CodeOf(err) != protocol.CodeNoLeader || time.Since(began) > 100*time.Millisecond {
			t.Errorf("a read: %v after %v", err, time.Since(began))
		}
	})
}

func TestAnElectionIsWaitedForOnlyInDoubt(t *testing.T) {
	for _, sent := range []bool{false, true} {
		play(t, func(t *testing.T, n *node) {
			n.follow(first())
			n.answer = func(ctx context.Context, c call, out any) error {
				if c.to == second() {
					return commit(ctx, c, out)
				}
				n.follow(peer.Address{})
				time.AfterFunc(2*time.Second, func() { n.follow(second()) })
				return lost(sent)
			}
			_, err := n.Write(within(t, 10*time.Second), submit(1))
			if sent && err != nil || !sent && outcomeOf(err) != "none" {
				t.Errorf("sent %v: %v", sent, err)
			}
			synctest.Wait()
			pass(3 * time.Second)
		})
	}
}

func TestWhatIsNotKnownIsSaid(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		n.answer = func(context.Context, call, any) error {
			n.follow(peer.Address{})
			return lost(true)
		}
		began := time.Now()
		_, err := n.Write(within(t, 5*time.Second), submit(1))
		if outcomeOf(err) != "unknown" || time.Since(began) < 5*time.Second {
			t.Fatalf("%v after %v", err, time.Since(began))
		}
	})
}

func TestALeaderThatRefusesForEverIsLeft(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		n.answer = func(context.Context, call, any) error { return noLeader("not yet") }
		began := time.Now()
		_, err := n.Write(within(t, time.Minute), submit(1))
		if took := time.Since(began); outcomeOf(err) != "none" || took < patience || took > 2*patience {
			t.Fatalf("%v after %v", err, took)
		}
	})
}

// TestARefusalInDoubtIsNone: the first try may still be on its way to the same
// leader's log and succeed after the second was refused.
func TestARefusalInDoubtIsNone(t *testing.T) {
	for _, moved := range []bool{false, true} {
		play(t, func(t *testing.T, n *node) {
			n.follow(first())
			tries := 0
			n.answer = func(_ context.Context, _ call, out any) error {
				if tries++; tries == 1 {
					if moved {
						n.follow(second())
					}
					return lost(true)
				}
				refused := command.Result{Code: protocol.CodeQueueFull, Message: "full", Limit: "memory", Count: 5}
				return travel(&response{answers: []answer{{result: refused}}}, out)
			}
			res, err := n.Write(within(t, 10*time.Second), submit(1))
			if moved && (err != nil || res.Code != protocol.CodeQueueFull || res.Count != 5) {
				t.Errorf("at the next leader: %+v, %v", res, err)
			}
			if !moved && outcomeOf(err) != "unknown" {
				t.Errorf("at the same leader: %+v, %v", res, err)
			}
		})
	}
}

func TestAHungLeaderIsLeftWithTheElection(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		n.answer = func(ctx context.Context, c call, out any) error {
			if c.to == second() {
				if c.method == methodReadIndex {
					return travel(index(9), out)
				}
				return commit(ctx, c, out)
			}
			<-ctx.Done()
			return &peer.Unreachable{Sent: true, Err: context.Cause(ctx)}
		}
		time.AfterFunc(2*time.Second, func() { n.follow(second()) })
		var both sync.WaitGroup
		both.Go(func() {
			if _, err := n.Write(within(t, 10*time.Second), submit(1)); err != nil {
				t.Errorf("write: %v", err)
			}
		})
		both.Go(func() {
			if err := n.Barrier(within(t, 10*time.Second)); err != nil || n.waits[0] != 9 {
				t.Errorf("read: %v, waited for %v", err, n.waits)
			}
		})
		began := time.Now()
		both.Wait()
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

func TestWritesShareCalls(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		release := make(chan struct{})
		n.answer = func(ctx context.Context, c call, out any) error {
			<-release
			return commit(ctx, c, out)
		}
		var callers sync.WaitGroup
		for i := range byte(100) {
			callers.Go(func() {
				if res, err := n.Write(t.Context(), submit(i)); err != nil || res.Job[0] != i {
					t.Errorf("%d: %+v, %v", i, res, err)
				}
			})
		}
		synctest.Wait()
		// How many share the first ones is the scheduler's choice.
		if len(n.calls) == 0 || len(n.calls) > maxCalls {
			t.Errorf("%d calls are under way, want at most %d", len(n.calls), maxCalls)
		}
		close(release)
		callers.Wait()
		if len(n.calls) > maxCalls+1 {
			t.Errorf("%d calls carried 100 writes, want at most %d", len(n.calls), maxCalls+1)
		}
	})
}

func TestACallIsBounded(t *testing.T) {
	big := func(id byte) *command.Command {
		c := submit(id)
		c.GetSubmit().Input = &command.Payload{Inline: make([]byte, maxBytes/4)}
		return c
	}
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		release := make(chan struct{})
		n.answer = func(ctx context.Context, c call, out any) error {
			<-release
			return commit(ctx, c, out)
		}
		var callers sync.WaitGroup
		for i := range byte(40) {
			callers.Go(func() {
				if _, err := n.Write(t.Context(), big(i)); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait() // the first calls are under way, the others wait together
		close(release)
		callers.Wait()
		for _, c := range n.calls {
			if len(c.commands) > 3 {
				t.Errorf("a call carries %d commands of a fourth of its limit", len(c.commands))
			}
		}
	})
}

func TestReadersShareTheNextRound(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		n.follow(first())
		rounds, release := uint64(0), make(chan struct{})
		n.answer = func(_ context.Context, _ call, out any) error {
			rounds++
			at := rounds * 100
			<-release
			return travel(index(at), out)
		}
		var readers sync.WaitGroup
		read := func() {
			if err := n.Barrier(t.Context()); err != nil {
				t.Error(err)
			}
		}
		readers.Go(read)
		synctest.Wait() // the first round is under way: it is no good for the others
		for range 50 {
			readers.Go(read)
		}
		synctest.Wait()
		close(release)
		readers.Wait()
		if rounds != 2 {
			t.Errorf("%d rounds, want 2", rounds)
		}
		late := 0
		for _, w := range n.waits {
			if w == 200 {
				late++
			}
		}
		if late != 50 {
			t.Errorf("%d of 50 readers waited for what the second round said: %v", late, n.waits)
		}
	})
}

func TestAnswersTravelWhole(t *testing.T) {
	full := command.Result{
		Index: 1 << 40, Job: protocol.JobID{1, 2, 3}, Attempt: 7, CreatedMs: 1795372439541, Run: 3, Revision: 9, Replayed: true,
	}
	refused := command.Result{Index: 3, Code: protocol.CodeQueueFull, Message: "full", Limit: "organisation", Count: -1}
	purged := command.Result{Index: 4, Count: 512}
	in := response{answers: []answer{
		{result: full}, {result: refused}, {}, {result: purged},
		{err: protocol.NewError(protocol.CodeNoLeader, "x").With("outcome", "none")},
		{err: protocol.NewError(protocol.CodeInternal, "y")},
	}}
	raw, err := in.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var out response
	if err := out.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	for i := range in.answers {
		if diff := cmp.Diff(in.answers[i].result, out.answers[i].result); diff != "" {
			t.Error(diff)
		}
		if a, b := in.answers[i].err, out.answers[i].err; (a == nil) != (b == nil) || a != nil && (a.Error() != b.Error() || outcomeOf(a) != outcomeOf(b)) {
			t.Errorf("%v became %v", a, b)
		}
	}
	whole := len(out.answers)
	for cut := range raw {
		var part response
		if err := part.UnmarshalBinary(raw[:cut]); err == nil && len(part.answers) == whole {
			t.Errorf("%d of %d bytes pass for all", cut, len(raw))
		}
	}
}

func TestANodeThatDoesNotLeadTakesNothing(t *testing.T) {
	play(t, func(t *testing.T, n *node) {
		raw, err := (&request{commands: []*command.Command{submit(1)}}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range []peer.Handler{n.serveWrite, n.serveReadIndex} {
			if _, err := h(t.Context(), &peer.Request{Body: bytes.NewReader(raw), Size: int64(len(raw))}); outcomeOf(err) != "none" {
				t.Errorf("%v", err)
			}
		}
		n.leads = true
		n.local = func(_ context.Context, c *command.Command) (command.Result, error) {
			if c.GetSubmit().GetJob()[0] == 2 {
				return command.Result{}, errNotPlayed
			}
			return command.Result{Index: 5}, nil
		}
		raw, _ = (&request{commands: []*command.Command{submit(1), submit(2)}}).MarshalBinary()
		got, err := n.serveWrite(t.Context(), &peer.Request{Body: bytes.NewReader(raw), Size: int64(len(raw))})
		if err != nil {
			t.Fatal(err)
		}
		answers := got.(*response).answers
		if answers[0].result.Index != 5 || outcomeOf(known(answers[1].err)) != "unknown" {
			t.Errorf("%+v", answers)
		}
	})
}
