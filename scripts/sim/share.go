package main

import "windlass/protocol"

// share follows the fair share between organisations (DESIGN 3.7) from what can
// be seen: who waits, and who is served. An organisation's tag is what it was
// served; who was idle starts at the present. Whether somebody's last job left
// the queue for a moment cannot be seen, so a tag is known within bounds.
type share struct {
	orgs map[string]*account
	now  [protocol.Priorities + 1]bounds // the highest tag that was served
}

type account struct {
	tags    [protocol.Priorities + 1]bounds
	waiting [protocol.Priorities + 1]int
}

type bounds struct{ low, high uint64 }

func newShare() share { return share{orgs: make(map[string]*account)} }

func (s *share) account(org string) *account {
	a := s.orgs[org]
	if a == nil {
		a = &account{}
		s.orgs[org] = a
	}
	return a
}

// restart is a new leader's: nobody was served anything.
func (s *share) restart() share {
	fresh := newShare()
	for org, a := range s.orgs { // order does not matter: each on its own
		fresh.account(org).waiting = a.waiting
	}
	return fresh
}

func (s *share) join(org string, p protocol.Priority) {
	a := s.account(org)
	if a.waiting[p] == 0 {
		a.tags[p].low = max(a.tags[p].low, s.now[p].low)
	}
	a.waiting[p]++
}

func (s *share) leave(org string, p protocol.Priority) { s.account(org).waiting[p]-- }

// look takes in that anybody may have been idle since the last grant.
func (s *share) look(p protocol.Priority) {
	for _, a := range s.orgs { // order does not matter: each on its own
		a.tags[p].high = max(a.tags[p].high, s.now[p].high)
	}
}

// ahead reports whether one organisation certainly had more than another.
func (s *share) ahead(one, other string, p protocol.Priority) bool {
	return s.account(one).tags[p].low > s.account(other).tags[p].high
}

// unit is what one job costs an organisation of weight 1.
const unit = 1 << 20

// charge is a grant from the queue.
func (s *share) charge(org string, p protocol.Priority, weight uint64) {
	a := s.account(org)
	s.now[p].low = max(s.now[p].low, a.tags[p].low)
	s.now[p].high = max(s.now[p].high, a.tags[p].high)
	cost := max(unit/max(weight, 1), 1)
	a.tags[p].low += cost
	a.tags[p].high += cost
}
