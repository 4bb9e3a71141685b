package broker

import (
	"context"

	"windlass/coordinator/command"
	"windlass/protocol"
)

const (
	// rejectTerm is how long an agent is not offered an endpoint after it gave a
	// job of it back, in milliseconds (agent.md 4.2).
	rejectTerm = 10_000
	// stallTerm is how long no lease is proposed after the log failed, in
	// milliseconds: long enough to not turn in circles, short for a recovery.
	stallTerm = 200
	// maxGroup bounds the leases of one group, so that it fits into a batch.
	maxGroup = 256
)

// proposal is one group for the log. Its lease commands are made outside the
// lock from grants, which do not change.
type proposal struct {
	group  []*command.Command
	grants []*grant // become Lease commands behind group
	done   func([]command.Result, error)
}

func (p *proposal) commands() []*command.Command {
	for _, g := range p.grants {
		p.group = append(p.group, leaseCommand(g))
	}
	return p.group
}

// proposeGrants turns pending grants into groups of leases.
func (t *term) proposeGrants() {
	for len(t.pending) > 0 {
		n := min(len(t.pending), maxGroup)
		grants := t.pending[:n:n]
		t.pending = t.pending[n:]
		t.outbox = append(t.outbox, proposal{grants: grants, done: func(_ []command.Result, err error) {
			t.lock()
			t.settle(grants, err != nil)
			t.match()
			t.unlock()
		}})
	}
	t.pending = nil
}

// propose queues one command whose answer nobody waits for: what it changed is
// seen in the feed.
func (t *term) propose(c *command.Command, done func(error)) {
	t.outbox = append(t.outbox, proposal{group: []*command.Command{c}, done: func(r []command.Result, err error) {
		if err == nil && len(r) == 1 && r[0].Code != "" {
			err = protocol.NewError(r[0].Code, r[0].Message)
		}
		t.lock()
		if done != nil {
			done(err)
		}
		t.match()
		t.unlock()
	}})
}

type answer struct {
	results []command.Result
	err     error
}

// begin proposes a group; its answer comes on the channel.
func (t *term) begin(group ...*command.Command) <-chan answer {
	ch := make(chan answer, 1)
	t.cfg.Proposer.Enqueue(group, func(r []command.Result, err error) { ch <- answer{r, err} })
	return ch
}

// wait returns a proposal's answer. When the caller leaves or the term ends
// first, the group may still be applied.
func (t *term) wait(ctx context.Context, ch <-chan answer) ([]command.Result, error) {
	select {
	case a := <-ch:
		return a.results, a.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case <-t.ended:
	}
	select {
	case a := <-ch:
		return a.results, a.err
	default:
		return nil, errTermOver()
	}
}

// beginWrite proposes one command of a client.
func (t *term) beginWrite(c *command.Command) <-chan answer {
	if submit := c.GetSubmit(); submit != nil {
		return t.beginSubmit(submit)
	}
	if cancel := c.GetCancel(); cancel != nil {
		t.addMeasured(cancel)
	}
	return t.begin(c)
}

// addMeasured tells the log what is known here of the run that a cancel ends:
// its agent is not asked any more.
func (t *term) addMeasured(c *command.Cancel) {
	j := t.cfg.Store.Job(protocol.JobID(c.GetJob()))
	if j == nil || j.Lease == nil || t.cfg.Store.View().Meta().Feature < command.FeatureAPI {
		return
	}
	started, facts := t.cfg.Board.Measured(j.ID, j.Attempt)
	raw, err := protocol.EncodeJSON(facts)
	if err != nil || started == 0 {
		return // a cancel is worth more than what it measured
	}
	c.Attempt, c.StartedMs, c.Facts = j.Attempt, started, raw
}

// leaseParts is one allocation instead of three: there is one for every job.
type leaseParts struct {
	command command.Command
	op      command.Command_Lease
	lease   command.Lease
}

func leaseCommand(g *grant) *command.Command {
	p := &leaseParts{lease: command.Lease{
		Job: g.item.Job[:], ExpectAttempt: g.item.Attempt, Agent: g.agent.id[:], Incarnation: g.incarnation[:],
		Revision: g.revision, Reason: g.reason,
	}}
	p.op.Lease = &p.lease
	p.command.Op = &p.op
	return &p.command
}

func releaseCommand(l *lease, reason command.Release_Reason, detail string) *command.Command {
	return &command.Command{Op: &command.Command_Release{Release: &command.Release{
		Job: l.job.ID[:], Attempt: l.job.Attempt, Agent: l.job.Lease.Agent[:], Incarnation: l.job.Lease.Incarnation[:],
		Reason: reason, Detail: detail,
	}}}
}

// release proposes to give a lease back, once.
func (t *term) release(l *lease, reason command.Release_Reason, detail string) {
	if l.releasing || l.finishing {
		return
	}
	l.releasing = true
	t.propose(releaseCommand(l, reason, detail), func(err error) {
		if err != nil {
			l.releasing = false // the lease is looked at again when it is due
		}
	})
}
