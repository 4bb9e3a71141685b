package broker

import (
	"context"

	"windlass/coordinator/command"
	"windlass/coordinator/queue"
	"windlass/protocol"
)

// submitParts is one allocation for the group of a submit, with room for a lease.
type submitParts struct {
	command command.Command
	op      command.Command_Submit
	group   [2]*command.Command
}

func (t *term) submit(ctx context.Context, s *command.Submit) (command.Result, error) {
	r, err := t.wait(ctx, t.beginSubmit(s))
	if err != nil {
		return command.Result{}, err
	}
	return r[0], nil
}

// beginSubmit proposes the job, fused with its lease when an agent waits for it.
func (t *term) beginSubmit(s *command.Submit) <-chan answer {
	submit := &submitParts{op: command.Command_Submit{Submit: s}}
	submit.command.Op = &submit.op
	submit.group[0] = &submit.command
	ch := make(chan answer, 1)
	p := proposal{group: submit.group[:1]}
	t.lock()
	t.match()
	e := t.endpoints[endpointKey{s.GetOrg(), s.GetEndpoint()}]
	if g := t.fuse(s, e); g != nil {
		p.grants = []*grant{g}
	} else {
		t.count(e, s.GetPriority(), 1)
	}
	p.done = func(r []command.Result, err error) {
		t.lock()
		if p.grants != nil {
			t.settle(p.grants, err != nil)
		} else {
			t.count(e, s.GetPriority(), -1)
		}
		t.match()
		t.unlock()
		ch <- answer{r, err}
	}
	t.outbox = append(t.outbox, p)
	t.unlock()
	return ch
}

// count keeps the submits that are on their way to the queue.
func (t *term) count(e *endpoint, priority uint32, n int) {
	if e == nil || priority > protocol.Priorities {
		return
	}
	e.unfused[priority] += n
	t.unfused += n
}

// fuse grants a job that is not yet submitted, when an agent waits for it and
// nothing better is on its way: what waits in the queue was matched just before,
// so only submits in flight could be better.
func (t *term) fuse(s *command.Submit, e *endpoint) *grant {
	if e == nil || t.now() < t.stalledTo || len(s.GetJob()) != len(protocol.JobID{}) {
		return nil
	}
	a, reason, ok := t.pick(e)
	if !ok || t.betterInFlight(a, s.GetPriority()) {
		return nil
	}
	it := queue.Item{Job: protocol.JobID(s.GetJob()), Org: e.org.number, Endpoint: e.number}
	if _, queued := t.queue.Get(it.Job); queued || t.grants[it.Job] != nil || t.leases[it.Job] != nil {
		return nil // the same submit again
	}
	return t.grant(it, e, a, reason)
}

func (t *term) betterInFlight(a *agent, priority uint32) bool {
	if t.unfused == 0 {
		return false
	}
	for _, e := range t.byNumber {
		if e.row == nil || e.unfused == [protocol.Priorities + 1]int{} {
			continue
		}
		for p := range min(priority, protocol.Priorities) + 1 {
			if e.unfused[p] > 0 && suits(a.row, e.row) == fit && t.takes(a, e) == fit {
				return true
			}
		}
	}
	return false
}
