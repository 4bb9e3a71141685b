package broker

import (
	"context"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func (t *term) register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	none := protocol.RegisterResponse{}
	if req.Agent.IsZero() || req.Incarnation.IsZero() {
		return none, protocol.Invalid("agent", nil, "A registration names its agent and its incarnation")
	}
	if req.Protocol[0] > protocol.ProtocolMinor || req.Protocol[1] < protocol.MinProtocolMin {
		return none, protocol.NewError(protocol.CodeUpgradeRequired, "This agent speaks no version of the agent protocol that this coordinator speaks: upgrade the older of the two")
	}
	facts, err := protocol.EncodeJSON(req.Facts)
	if err != nil {
		return none, protocol.Invalid("facts", nil, "Must be a JSON object")
	}
	t.reserve(&req)
	defer t.unreserve(&req)
	r, err := t.one(ctx, registerCommand(&req, facts))
	if err == nil && r.Code != "" {
		err = protocol.NewError(r.Code, r.Message)
	}
	if err != nil {
		return none, err
	}
	adopted, err := t.adopt(ctx, &req, r.Current)
	if err != nil {
		return none, err
	}
	return protocol.RegisterResponse{
		Current: r.Current, Adopted: adopted,
		HoldMs: jitter(protocol.SyncHold).Milliseconds(), BeatMs: protocol.BeatPeriod.Milliseconds(),
		LeaseMs: protocol.LeaseTerm.Milliseconds(), AckMs: protocol.AckDeadline.Milliseconds(),
		Minor: min(req.Protocol[1], protocol.ProtocolMinor),
	}, nil
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

// adopt gives the runs that are queued again, and that the agent still has, a
// new attempt. It repeats an adoption whose answer was lost.
func (t *term) adopt(ctx context.Context, req *protocol.RegisterRequest, current []protocol.HeldAttempt) ([]protocol.Adoption, error) {
	ours := make(map[protocol.HeldAttempt]bool, len(current))
	for _, h := range current {
		ours[h] = true
	}
	var group []*command.Command
	var from []protocol.HeldAttempt
	for _, h := range req.Held {
		row := t.cfg.Store.Job(h.Job)
		if ours[h] || row == nil {
			continue
		}
		again := row.Lease != nil && row.Lease.Agent == req.Agent && row.Lease.Incarnation == req.Incarnation && row.Attempt == h.Attempt+1
		if again || row.Adoptable && row.Attempt == h.Attempt {
			group = append(group, adoptCommand(req, h))
			from = append(from, h)
		}
	}
	if len(group) == 0 {
		return nil, nil
	}
	results, err := t.await(ctx, group...)
	if err != nil {
		return nil, err
	}
	var adopted []protocol.Adoption
	for i, r := range results {
		if r.Code == "" {
			adopted = append(adopted, protocol.Adoption{Job: from[i].Job, From: from[i].Attempt, To: r.Attempt})
		}
	}
	return adopted, nil
}

func registerCommand(req *protocol.RegisterRequest, facts []byte) *command.Command {
	r := &command.Register{
		Agent: req.Agent[:], Name: req.Name, Incarnation: req.Incarnation[:], Facts: facts, Org: protocol.OrgDefault,
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
