package fsm

import (
	"bytes"
	"encoding/json"
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (s *step) register(c *command.Register) command.Result {
	a := &state.Agent{
		ID: protocol.AgentID(c.GetAgent()), Org: c.GetOrg(), Name: c.GetName(),
		Incarnation: protocol.Incarnation(c.GetIncarnation()), Index: s.index, SeenMs: s.clock,
	}
	if len(c.GetFacts()) > 0 {
		if err := json.Unmarshal(c.GetFacts(), &a.Facts); err != nil {
			return refuse(protocol.CodeValidation, "The facts cannot be read: "+err.Error())
		}
	}
	before := s.txn.Agent(a.ID)
	if before != nil && bytes.Compare(a.Incarnation[:], before.Incarnation[:]) < 0 {
		return refuse(protocol.CodeStaleIncarnation, "A newer life of this agent has registered")
	}
	if before != nil && before.Org != a.Org && s.txn.Feature() >= command.FeatureAPI {
		return refuse(protocol.CodeConflict, "The agent's id was registered with a key of another organisation: let the agent start with an empty data directory")
	}
	r := command.Result{Replayed: before != nil && sameAgent(before, a)}
	if !r.Replayed {
		s.txn.PutAgent(a)
	}
	for _, h := range c.GetHeld() {
		if s.move(protocol.JobID(h.GetJob()), h.GetAttempt(), a) {
			r.Current = append(r.Current, protocol.HeldAttempt{Job: protocol.JobID(h.GetJob()), Attempt: h.GetAttempt()})
		}
	}
	s.loseOthers(a)
	return r
}

// sameAgent says whether a registration says nothing new.
func sameAgent(before, after *state.Agent) bool {
	return before.Incarnation == after.Incarnation && before.Org == after.Org && before.Name == after.Name &&
		bytes.Equal(encode(before.Facts), encode(after.Facts))
}

// move hands a held attempt to the agent's new incarnation, if it is its own.
func (s *step) move(id protocol.JobID, attempt uint32, a *state.Agent) bool {
	j := s.txn.Job(id)
	if j == nil || j.Lease == nil || j.Attempt != attempt || j.Lease.Agent != a.ID {
		return false
	}
	if j.Lease.Incarnation == a.Incarnation {
		return true
	}
	n, lease := s.copyOf(j), *j.Lease
	lease.Incarnation = a.Incarnation
	n.Lease = &lease
	s.txn.PutJob(n)
	return true
}

// loseOthers releases what earlier lives of the agent leased and the new one
// does not have. Leases of the new life stay: they came after its registration,
// which is only repeated.
func (s *step) loseOthers(a *state.Agent) {
	for _, id := range slices.Clone(s.txn.Leased(a.ID)) { // PutJob changes the list
		j := s.txn.Job(id)
		if j.Lease.Incarnation == a.Incarnation {
			continue
		}
		n := s.copyOf(j)
		s.giveBack(n, true)
		s.txn.PutJob(n)
	}
}

// encode returns the canonical JSON of a document; it has sorted keys, and the
// types in use cannot fail.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("fsm: cannot encode a document: " + err.Error())
	}
	return b
}
