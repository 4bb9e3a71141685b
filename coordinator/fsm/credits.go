package fsm

import (
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// keptGrants is how many grants of an organisation are remembered. Whoever
// proposes one repeats it for seconds; nobody makes so many meanwhile.
const keptGrants = 64

// affordable refuses a job that an organisation that pays with credits has too
// few for.
func (s *step) affordable(org string, amount int64) command.Result {
	o := s.txn.Org(org)
	if amount == 0 || o == nil || !o.Credits.Enabled {
		return command.Result{}
	}
	free := o.Credits.Free()
	if free >= amount {
		return command.Result{}
	}
	r := refuse(protocol.CodeCredits, "The organisation has too few credits for this job")
	r.Count = free
	return r
}

// reserve keeps amount back for a job, and returns what is kept; nothing when the
// organisation does not pay with credits.
func (s *step) reserve(org string, amount int64) protocol.Money {
	o := s.txn.Org(org)
	if amount == 0 || o == nil || !o.Credits.Enabled {
		return 0
	}
	s.credit(o, 0, amount)
	return protocol.Money(amount)
}

// unreserve gives back what was kept for a job that has ended.
func (s *step) unreserve(n *state.Job) {
	if n.Reserved == 0 {
		return
	}
	if o := s.txn.Org(n.Org); o != nil {
		s.credit(o, 0, -int64(n.Reserved))
	}
	n.Reserved = 0
}

// charge takes the cost of an attempt. It may take more than was reserved: what
// ran is paid, and the next submit waits for credits.
func (s *step) charge(org string, cost protocol.Money) {
	if o := s.txn.Org(org); cost != 0 && o != nil && o.Credits.Enabled {
		s.credit(o, -int64(cost), 0)
	}
}

func (s *step) credit(o *state.Org, balance, reserved int64) {
	n := *o
	n.Credits.Balance += balance
	n.Credits.Reserved += reserved
	if n.Credits.Reserved < 0 {
		panic("fsm: an organisation reserves less than nothing")
	}
	s.txn.PutOrg(&n)
}

func (s *step) grantCredits(c *command.GrantCredits) command.Result {
	o := s.txn.Org(c.GetOrg())
	id := [16]byte(c.GetId())
	switch {
	case o == nil:
		return refuse(protocol.CodeOrgNotFound, "The organisation does not exist")
	case slices.Contains(o.Credits.Grants, id):
		return replayed()
	}
	if sum := protocol.Money(o.Credits.Balance + c.GetAmount()); sum > protocol.MaxMoney || sum < -protocol.MaxMoney {
		return refuse(protocol.CodeConflict, "The balance would be larger than can be counted")
	}
	n := *o
	n.Credits.Balance += c.GetAmount()
	n.Credits.Grants = append(slices.Clone(o.Credits.Grants), id)
	if over := len(n.Credits.Grants) - keptGrants; over > 0 {
		n.Credits.Grants = slices.Delete(n.Credits.Grants, 0, over)
	}
	n.Index = s.index
	s.txn.PutOrg(&n)
	return command.Result{}
}
