package queue

import "windlass/protocol"

// unit is what one job costs an organisation of weight 1, in virtual time; a
// power of two so that common weights divide it.
const unit = 1 << 20

// share is start-time fair queueing in whole numbers, per priority: an
// organisation's tag grows by unit/weight with each job served, and the lowest
// tag is served first. One that was idle starts at the present, so it can
// neither save up nor owe.
type share struct {
	orgs []account
	now  [protocol.Priorities]uint64 // tag of the newest job served
}

type account struct {
	weight uint32
	tags   [protocol.Priorities]uint64
	lanes  [protocol.Priorities]int // lanes that are not empty
}

func (s *share) account(org Org) *account {
	for int(org) >= len(s.orgs) {
		s.orgs = append(s.orgs, account{weight: 1})
	}
	return &s.orgs[org]
}

func (s *share) setWeight(org Org, weight uint32) { s.account(org).weight = max(weight, 1) }

func (s *share) tag(org Org, p int) uint64 { return s.orgs[org].tags[p] }

func (s *share) activate(org Org, p protocol.Priority) {
	a := s.account(org)
	if a.lanes[p-1] == 0 {
		a.tags[p-1] = max(a.tags[p-1], s.now[p-1])
	}
	a.lanes[p-1]++
}

func (s *share) deactivate(org Org, p protocol.Priority) { s.account(org).lanes[p-1]-- }

func (s *share) charge(org Org, p protocol.Priority) {
	a := s.account(org)
	s.now[p-1] = max(s.now[p-1], a.tags[p-1])
	a.tags[p-1] += max(unit/uint64(a.weight), 1)
}
