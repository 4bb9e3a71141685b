package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"windlass/protocol"
)

// fleetAgent obeys the protocol as an agent does: it takes assignments from the
// answer to its newest sync and, if it takes them there, to its one report. The
// network may lose answers and bring them late.
type fleetAgent struct {
	*statement
	slots  int
	takes  bool
	held   []protocol.HeldAttempt
	parked <-chan syncResult
	cancel context.CancelFunc

	report   <-chan reportResult
	sent     time.Time
	reportNo uint64
	handed   protocol.HeldAttempt          // in the report
	over     map[protocol.HeldAttempt]bool // has a result: it holds no slot
}

// fleet drives agents by a list of numbers and checks what must never happen.
type fleet struct {
	w      *world
	agents []*fleetAgent
	jobs   []protocol.JobID
	runs   map[protocol.HeldAttempt]protocol.AgentID // who accepted an attempt
	ended  map[protocol.HeldAttempt]bool             // its result was answered
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
			f := &fleet{w: w, runs: make(map[protocol.HeldAttempt]protocol.AgentID), ended: make(map[protocol.HeldAttempt]bool)}
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
		f.agents = append(f.agents, &fleetAgent{statement: &statement{testAgent: a}, slots: i + 1, takes: i > 0, over: make(map[protocol.HeldAttempt]bool)})
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
		case 9, 10:
			f.collect(a, false)
			f.end(a, step/64)
			f.answered(a, step/64%4 == 0)
		case 11:
			f.endSlowly(a, step/64)
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
		a.drop(r.resp.Stop)
		switch {
		case r.resp.Seq == a.seq:
			f.accept(a, r.resp.Assign)
		case len(r.resp.Assign) > 0 && r.resp.Seq > a.seq:
			f.fail("an answer to sync %d, newest is %d", r.resp.Seq, a.seq)
		}
	default:
	}
}

func (f *fleet) accept(a *fleetAgent, assign []protocol.Assignment) {
	for _, x := range assign {
		h := protocol.HeldAttempt{Job: x.Job, Attempt: x.Attempt}
		if slices.Contains(a.held, h) {
			continue
		}
		if who, ok := f.runs[h]; ok && who != a.id {
			f.fail("attempt %+v was given to two agents", h)
		}
		if f.ended[h] {
			f.fail("attempt %+v was given to its agent again after its result", h)
		}
		f.runs[h] = a.id
		a.held = append(a.held, h)
	}
	if a.free() < 0 {
		f.fail("%d jobs in %d slots", len(a.held), a.slots)
	}
}

func (a *fleetAgent) drop(stops []protocol.StopAttempt) {
	for _, s := range stops {
		a.held = slices.DeleteFunc(a.held, func(h protocol.HeldAttempt) bool { return h.Job == s.Job && h.Attempt == s.Attempt })
	}
}

func (a *fleetAgent) free() int {
	n := a.slots
	for _, h := range a.held {
		if !a.over[h] {
			n--
		}
	}
	return n
}

func (a *fleetAgent) ask() {
	if a.parked != nil {
		a.leave() // the connection of the older one is cut
	}
	ctx, cancel := context.WithCancel(context.Background())
	a.cancel = cancel
	a.parked = a.send(ctx, a.sayLater(a.free(), a.reportNo, slices.Clone(a.held)...))
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
func (f *fleet) end(a *fleetAgent, n int) {
	f.answered(a, false)
	if len(a.held) == 0 {
		return
	}
	i := n % len(a.held)
	a.handed = a.held[i]
	a.over[a.handed] = true
	finish := completed(a.handed)
	if n%5 == 0 {
		finish = protocol.Finish{Job: finish.Job, Attempt: finish.Attempt, Outcome: protocol.OutcomeFailed, Retryable: true}
	}
	rest := slices.Delete(slices.Clone(a.held), i, i+1)
	req := a.handIn(a.free(), rest, finish)
	req.Takes = a.takes
	if a.takes {
		a.reportNo = req.Capacity.Seq
	}
	a.sent = time.Now()
	a.report = a.start(req)
}

// endSlowly does that with a log and a network that are so slow that the agent's
// syncs overtake the report or its answer.
func (f *fleet) endSlowly(a *fleetAgent, n int) {
	f.collect(a, false)
	if n%2 == 0 {
		f.w.log.hold()
	}
	f.end(a, n)
	a.ask()
	f.w.log.release()
	if n%3 == 0 {
		f.collect(a, n%4 == 0)
		a.ask()
	}
}

// answered takes the answer to the report, unless there is none or it is lost.
func (f *fleet) answered(a *fleetAgent, lost bool) {
	if a.report == nil {
		return
	}
	r := <-a.report
	handed := a.handed
	a.report, a.reportNo, a.handed = nil, 0, protocol.HeldAttempt{}
	if lost || r.err != nil {
		return
	}
	if slices.ContainsFunc(r.resp.Attempts, func(x protocol.AttemptReply) bool { return x.Finished }) {
		a.held = slices.DeleteFunc(a.held, func(h protocol.HeldAttempt) bool { return h == handed })
		f.ended[handed] = true
	}
	if time.Since(a.sent) <= protocol.AckDeadline {
		f.accept(a, r.resp.Assign)
	}
	a.drop(r.resp.Stop)
	if r.resp.Resync && a.parked != nil {
		a.ask()
	}
}

func (f *fleet) reregister(a *fleetAgent) {
	a.leave()
	f.answered(a, true)
	r := a.register(plain(), a.held...)
	a.held = slices.Clone(r.Current)
	for _, x := range r.Adopted {
		h := protocol.HeldAttempt{Job: x.Job, Attempt: x.To}
		a.over[h] = a.over[protocol.HeldAttempt{Job: x.Job, Attempt: x.From}]
		f.runs[h] = a.id
		a.held = append(a.held, h)
	}
	if a.free() < 0 {
		f.fail("%d jobs in %d slots after a registration", len(a.held), a.slots)
	}
}

// check compares the table with what the promises allow.
func (f *fleet) check() {
	running := 0
	for _, id := range f.jobs {
		// An adoption continues what already runs: the limit holds for grants.
		if j := f.w.store.Job(id); j != nil && j.Lease != nil && !strings.HasPrefix(j.Lease.Reason, "adopted") {
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
				f.end(a, 1)
				f.answered(a, false)
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
