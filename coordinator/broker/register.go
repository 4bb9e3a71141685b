package broker

import (
	"context"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// registration is one that is under way: first it is proposed, then what it may
// continue.
type registration struct {
	term    *term
	req     *protocol.RegisterRequest
	current []protocol.HeldAttempt // set once it is committed
	from    []protocol.HeldAttempt // whose adoption was proposed
	adopted []protocol.Adoption
}

func (t *term) register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	r, wait, err := t.beginRegister(&req)
	if err != nil {
		return protocol.RegisterResponse{}, err
	}
	defer r.end()
	for wait != nil {
		results, err := t.wait(ctx, wait)
		if err != nil {
			return protocol.RegisterResponse{}, err
		}
		if wait, err = r.next(results); err != nil {
			return protocol.RegisterResponse{}, err
		}
	}
	return r.response(), nil
}

// beginRegister proposes a registration. What is returned without an error has
// to be ended.
func (t *term) beginRegister(req *protocol.RegisterRequest) (*registration, <-chan answer, error) {
	if req.Agent.IsZero() || req.Incarnation.IsZero() {
		return nil, nil, protocol.Invalid("agent", nil, "A registration names its agent and its incarnation")
	}
	if req.Protocol[0] > protocol.ProtocolMinor || req.Protocol[1] < protocol.MinProtocolMin {
		return nil, nil, protocol.NewError(protocol.CodeUpgradeRequired, "This agent speaks no version of the agent protocol that this coordinator speaks: upgrade the older of the two")
	}
	facts, err := protocol.EncodeJSON(req.Facts)
	if err != nil {
		return nil, nil, protocol.Invalid("facts", nil, "Must be a JSON object")
	}
	t.reserve(req)
	return &registration{term: t, req: req}, t.begin(registerCommand(req, facts)), nil
}

// next takes the answer to what was proposed; it returns what to wait for, or
// nil when the registration is complete.
func (r *registration) next(results []command.Result) (<-chan answer, error) {
	if r.from != nil {
		for i, result := range results {
			if result.Code == "" {
				r.adopted = append(r.adopted, protocol.Adoption{Job: r.from[i].Job, From: r.from[i].Attempt, To: result.Attempt})
			}
		}
		return nil, nil
	}
	if results[0].Code != "" {
		return nil, protocol.NewError(results[0].Code, results[0].Message)
	}
	r.current = results[0].Current
	group := r.adopt()
	if len(group) == 0 {
		return nil, nil
	}
	return r.term.begin(group...), nil
}

func (r *registration) end() { r.term.unreserve(r.req) }

func (r *registration) response() protocol.RegisterResponse {
	return protocol.RegisterResponse{
		Current: r.current, Adopted: r.adopted,
		HoldMs: r.term.jitter(protocol.SyncHold).Milliseconds(), BeatMs: protocol.BeatPeriod.Milliseconds(),
		LeaseMs: protocol.LeaseTerm.Milliseconds(), AckMs: protocol.AckDeadline.Milliseconds(),
		Minor: min(r.req.Protocol[1], protocol.ProtocolMinor),
	}
}

// reserve keeps the held jobs out of the queue until the registration knows
// whether it continues them, and frees a sync that the agent had parked.
func (t *term) reserve(req *protocol.RegisterRequest) {
	t.lock()
	for _, h := range req.Held {
		t.reserved[h.Job]++
		t.queue.Remove(h.Job)
	}
	if a := t.agents[req.Agent]; a != nil && a.waiter != nil {
		t.wake(a, reply{})
	}
	t.unlock()
}

func (t *term) unreserve(req *protocol.RegisterRequest) {
	t.lock()
	for _, h := range req.Held {
		if t.reserved[h.Job]--; t.reserved[h.Job] > 0 {
			continue
		}
		delete(t.reserved, h.Job)
		t.requeue(h.Job)
	}
	t.match()
	t.unlock()
}

// adopt makes the commands that give the runs that are queued again, and that
// the agent still has, a new attempt. They repeat an adoption whose answer was lost.
func (r *registration) adopt() []*command.Command {
	req := r.req
	ours := make(map[protocol.HeldAttempt]bool, len(r.current))
	for _, h := range r.current {
		ours[h] = true
	}
	serves := &state.Agent{Org: ownOrg(req.Org), Facts: req.Facts}
	var group []*command.Command
	for _, h := range req.Held {
		row := r.term.served(serves, h.Job)
		if ours[h] || row == nil {
			continue
		}
		again := row.Lease != nil && row.Lease.Agent == req.Agent && row.Lease.Incarnation == req.Incarnation && row.Attempt == h.Attempt+1
		if again || row.Adoptable && row.Attempt == h.Attempt {
			group = append(group, adoptCommand(req, h))
			r.from = append(r.from, h)
		}
	}
	return group
}

func registerCommand(req *protocol.RegisterRequest, facts []byte) *command.Command {
	r := &command.Register{
		Agent: req.Agent[:], Name: req.Name, Incarnation: req.Incarnation[:], Facts: facts, Org: ownOrg(req.Org),
	}
	for _, h := range req.Held {
		r.Held = append(r.Held, &command.Held{Job: h.Job[:], Attempt: h.Attempt})
	}
	return &command.Command{Op: &command.Command_Register{Register: r}}
}

func adoptCommand(req *protocol.RegisterRequest, h protocol.HeldAttempt) *command.Command {
	return &command.Command{Op: &command.Command_Adopt{Adopt: &command.Adopt{
		Job: h.Job[:], FromAttempt: h.Attempt, Agent: req.Agent[:], Incarnation: req.Incarnation[:],
	}}}
}
