package broker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"windlass/protocol"
)

// fleetAgent obeys the protocol as an agent does: it takes assignments only
// from the answer to its newest sync, and the network may lose answers.
type fleetAgent struct {
	*testAgent
	slots  int
	held   []protocol.HeldAttempt
	parked <-chan syncResult
	asked  uint64 // seq of the parked sync
	cancel context.CancelFunc
}

// fleet drives agents by a list of numbers and checks what must never happen.
type fleet struct {
	w      *world
	agents []*fleetAgent
	jobs   []protocol.JobID
	runs   map[protocol.HeldAttempt]protocol.AgentID // who accepted an attempt
	bad    string
}

func (f *fleet) fail(format string, args ...any) {
	if f.bad == "" {
		f.bad = fmt.Sprintf(format, args...)
	}
}

func TestCapacityIsNeverExceeded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		plan := rapid.SliceOfN(rapid.IntRange(0, 1<<16), 20, 100).Draw(rt, "plan")
		bad := ""
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.lead()
			f := &fleet{w: w, runs: make(map[protocol.HeldAttempt]protocol.AgentID)}
			f.play(plan)
			f.settle()
			for _, a := range f.agents {
				a.leave()
			}
			w.stop()
			w.log.close()
			bad = f.bad
		})
		if bad != "" {
			rt.Fatal(bad)
		}
	})
}

func (f *fleet) play(plan []int) {
	f.w.endpoint(protocol.Endpoint{ID: testEndpoint, MaxRunning: 5})
	for i := range 3 {
		a, _ := f.w.agent(plain())
		f.agents = append(f.agents, &fleetAgent{testAgent: a, slots: i + 1})
	}
	for _, step := range plan {
		a := f.agents[step/16%len(f.agents)]
		switch step % 16 {
		case 0, 1, 2, 3:
			f.jobs = append(f.jobs, f.w.submit(protocol.Priority(step/64%4+1)))
		case 4, 5, 6:
			f.collect(a, false)
			a.ask()
		case 7:
			f.collect(a, true) // the answer is lost
			a.ask()
		case 8:
			a.leave()
		case 9, 10, 11:
			f.collect(a, false)
			a.end(step / 64)
		case 12:
			if len(f.jobs) > 0 {
				_, _ = f.w.broker.Write(context.Background(), cancelCommand(protocol.OrgDefault, f.jobs[step/16%len(f.jobs)]))
			}
		case 13:
			<-time.After(time.Duration(step/16%20) * time.Second)
		case 14:
			f.w.stop()
			f.w.lead()
		case 15:
			f.collect(a, step/16%2 == 0)
			f.reregister(a)
		}
		synctest.Wait()
		f.check()
	}
}

// collect takes the answer of the parked sync, if there is one.
func (f *fleet) collect(a *fleetAgent, lost bool) {
	synctest.Wait()
	select {
	case r := <-a.parked:
		a.parked = nil
		if lost {
			return
		}
		if protocol.CodeOf(r.err) == protocol.CodeUnknownAgent {
			f.reregister(a)
			return
		}
		f.accept(a, r.resp)
	default:
	}
}

func (f *fleet) accept(a *fleetAgent, r protocol.SyncResponse) {
	a.drop(r.Stop)
	if r.Seq != a.seq {
		if len(r.Assign) > 0 && r.Seq > a.seq {
			f.fail("an answer to sync %d, newest is %d", r.Seq, a.seq)
		}
		return
	}
	for _, x := range r.Assign {
		h := protocol.HeldAttempt{Job: x.Job, Attempt: x.Attempt}
		if slices.Contains(a.held, h) {
			continue
		}
		if who, ok := f.runs[h]; ok && who != a.id {
			f.fail("attempt %+v was given to two agents", h)
		}
		f.runs[h] = a.id
		a.held = append(a.held, h)
	}
	if len(a.held) > a.slots {
		f.fail("%d jobs in %d slots", len(a.held), a.slots)
	}
}

func (a *fleetAgent) drop(stops []protocol.StopAttempt) {
	for _, s := range stops {
		a.held = slices.DeleteFunc(a.held, func(h protocol.HeldAttempt) bool { return h.Job == s.Job && h.Attempt == s.Attempt })
	}
}

func (a *fleetAgent) free() int { return a.slots - len(a.held) }

func (a *fleetAgent) ask() {
	if a.parked != nil {
		a.leave() // the connection of the older one is cut
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.parked = a.send(ctx, a.request(a.free(), slices.Clone(a.held)...))
}

func (a *fleetAgent) leave() {
	if a.cancel != nil {
		a.cancel()
		a.cancel = nil
	}
	if a.parked != nil {
		<-a.parked
		a.parked = nil
	}
}

// end reports one of the held jobs as completed or failed.
func (a *fleetAgent) end(n int) {
	if len(a.held) == 0 {
		return
	}
	i := n % len(a.held)
	finish := completed(a.held[i])
	if n%5 == 0 {
		finish = protocol.Finish{Job: finish.Job, Attempt: finish.Attempt, Outcome: protocol.OutcomeFailed, Retryable: true}
	}
	rest := slices.Delete(slices.Clone(a.held), i, i+1)
	r, err := a.report(a.slots-len(rest), rest, finish)
	if err != nil {
		return
	}
	a.held = rest
	a.drop(r.Stop)
}

func (f *fleet) reregister(a *fleetAgent) {
	a.leave()
	r := a.register(plain(), a.held...)
	a.held = slices.Clone(r.Current)
	for _, x := range r.Adopted {
		h := protocol.HeldAttempt{Job: x.Job, Attempt: x.To}
		f.runs[h] = a.id
		a.held = append(a.held, h)
	}
	if len(a.held) > a.slots {
		f.fail("%d jobs in %d slots after a registration", len(a.held), a.slots)
	}
}

// check compares the table with what the promises allow.
func (f *fleet) check() {
	leased := make(map[protocol.AgentID]int)
	running := 0
	for _, id := range f.jobs {
		if j := f.w.store.Job(id); j != nil && j.Lease != nil {
			leased[j.Lease.Agent]++
			running++
		}
	}
	if running > 5 {
		f.fail("%d jobs run, the endpoint allows 5", running)
	}
}

// settle lets healthy agents finish everything: no job may be left behind.
func (f *fleet) settle() {
	for range 400 {
		open := false
		for _, id := range f.jobs {
			open = open || f.w.store.Job(id).Live()
		}
		if !open {
			return
		}
		for _, a := range f.agents {
			f.collect(a, false)
			for n := len(a.held); n > 0; n-- {
				a.end(1)
			}
			if a.parked == nil {
				a.ask()
			}
		}
		<-time.After(time.Second)
	}
	for _, id := range f.jobs {
		if j := f.w.store.Job(id); j.Live() {
			f.fail("job %s is stuck: %s attempt %d, %v", id, j.Status, j.Attempt, f.w.broker.Explain(j).Reasons)
		}
	}
}
