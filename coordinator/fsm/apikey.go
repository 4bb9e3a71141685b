package fsm

import (
	"fmt"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (s *step) createKey(c *command.CreateKey) command.Result {
	id := protocol.KeyID(c.GetId())
	if k := s.txn.APIKey(id); k != nil {
		if k.Hash != [32]byte(c.GetHash()) {
			return refuse(protocol.CodeConflict, "The id belongs to another key")
		}
		return replayed()
	}
	if s.txn.Org(c.GetOrg()) == nil {
		return refuse(protocol.CodeOrgNotFound, "The organisation does not exist")
	}
	if !s.roomForKey(c.GetOrg()) {
		return refuse(protocol.CodeConflict, fmt.Sprintf("The organisation has %d keys: revoke some first", protocol.MaxKeysOrg))
	}
	k := &state.APIKey{
		ID: id, Org: c.GetOrg(), Name: c.GetName(), Endpoints: c.GetEndpoints(), Hash: [32]byte(c.GetHash()),
		CreatedMs: s.clock, ExpiresMs: c.GetExpiresMs(), Index: s.index,
	}
	for _, p := range c.GetPermissions() {
		k.Permissions = append(k.Permissions, protocol.Permission(p))
	}
	s.txn.PutAPIKey(k)
	return command.Result{}
}

// roomForKey makes room for one more key of the organisation by forgetting the
// one that ended first; false when all are live.
func (s *step) roomForKey(org string) bool {
	n := 0
	var first *state.APIKey
	for _, k := range s.txn.APIKeys() {
		if k.Org != org {
			continue
		}
		n++
		if !k.Live(s.clock) && (first == nil || endedMs(k) < endedMs(first)) {
			first = k
		}
	}
	if n < protocol.MaxKeysOrg {
		return true
	}
	if first != nil {
		s.txn.DropAPIKeys(func(k *state.APIKey) bool { return k == first })
	}
	return first != nil
}

// endedMs is when a key that is not live ended.
func endedMs(k *state.APIKey) int64 {
	if k.RevokedMs > 0 && (k.ExpiresMs == 0 || k.RevokedMs < k.ExpiresMs) {
		return k.RevokedMs
	}
	return k.ExpiresMs
}

func (s *step) rotateKey(c *command.RotateKey) command.Result {
	k := s.txn.APIKey(protocol.KeyID(c.GetId()))
	hash := [32]byte(c.GetHash())
	switch {
	case k == nil || k.Org != c.GetOrg():
		return refuse(protocol.CodeKeyNotFound, "The key does not exist")
	case k.Hash == hash:
		return replayed()
	case !k.Live(s.clock):
		return refuse(protocol.CodeConflict, "The key is not valid any more: create another")
	case k.Hash != [32]byte(c.GetExpectHash()):
		return refuse(protocol.CodeConflict, "The key was rotated at the same time")
	}
	n := *k
	n.Hash, n.RotatedMs, n.Index = hash, s.clock, s.index
	n.Older, n.OlderMs = [32]byte{}, 0
	if overlap := c.GetOverlapMs(); overlap > 0 {
		n.Older, n.OlderMs = k.Hash, s.clock+overlap
	}
	s.txn.PutAPIKey(&n)
	return command.Result{}
}

func (s *step) revokeKey(c *command.RevokeKey) command.Result {
	k := s.txn.APIKey(protocol.KeyID(c.GetId()))
	switch {
	case k == nil || k.Org != c.GetOrg():
		return refuse(protocol.CodeKeyNotFound, "The key does not exist")
	case k.RevokedMs > 0:
		return replayed()
	}
	n := *k
	n.RevokedMs, n.Index = s.clock, s.index
	s.txn.PutAPIKey(&n)
	return command.Result{}
}

// liveKeys counts the keys of an organisation that open something.
func (s *step) liveKeys(org string) int {
	n := 0
	for _, k := range s.txn.APIKeys() {
		if k.Org == org && k.Live(s.clock) {
			n++
		}
	}
	return n
}
