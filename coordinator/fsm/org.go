package fsm

import (
	"fmt"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (s *step) putOrg(c *command.PutOrg) command.Result {
	before := s.txn.Org(c.GetId())
	o := &state.Org{ID: c.GetId(), CreatedMs: s.clock, Revision: 1}
	if before != nil {
		own := *before
		o = &own
	}
	same := before != nil && sameOrg(before, c)
	switch {
	case same:
		return command.Result{Revision: before.Revision, Replayed: true}
	case before != nil && c.GetCreate():
		return refuse(protocol.CodeConflict, "The organisation exists already")
	case before == nil && s.txn.OrgDeleted(c.GetId()):
		return refuse(protocol.CodeConflict, "The id was that of an organisation that is deleted: choose another")
	case before == nil && !c.GetCreate():
		return refuse(protocol.CodeOrgNotFound, "The organisation does not exist")
	case before != nil && c.GetExpectRevision() != 0 && c.GetExpectRevision() != before.Revision:
		return refuse(protocol.CodeConflict, "The organisation was changed: read it again")
	case before != nil:
		o.Revision++
	}
	o.Name, o.Weight, o.QueueLimit, o.MaxRunning = c.GetName(), c.GetWeight(), c.GetQueueLimit(), c.GetMaxRunning()
	o.StorageQuota, o.Credits.Enabled, o.Index = c.GetStorageQuota(), c.GetCredits(), s.index
	s.txn.PutOrg(o)
	return command.Result{Revision: o.Revision}
}

// sameOrg reports whether the command says what is so already.
func sameOrg(o *state.Org, c *command.PutOrg) bool {
	return o.Name == c.GetName() && o.Weight == c.GetWeight() && o.QueueLimit == c.GetQueueLimit() &&
		o.MaxRunning == c.GetMaxRunning() && o.StorageQuota == c.GetStorageQuota() && o.Credits.Enabled == c.GetCredits()
}

func (s *step) deleteOrg(c *command.DeleteOrg) command.Result {
	o := s.txn.Org(c.GetId())
	switch {
	case o == nil && s.txn.OrgDeleted(c.GetId()):
		return replayed()
	case o == nil:
		return refuse(protocol.CodeOrgNotFound, "The organisation does not exist")
	case c.GetId() == protocol.OrgDefault:
		return refuse(protocol.CodeConflict, "The first organisation cannot be deleted")
	case o.Endpoints > 0: // whose jobs have not ended, or may come
		return refuse(protocol.CodeOrgInUse, fmt.Sprintf("The organisation has %d endpoints: delete them first", o.Endpoints))
	}
	if keys := s.liveKeys(o.ID); keys > 0 {
		return refuse(protocol.CodeOrgInUse, fmt.Sprintf("The organisation has %d API keys: revoke them first", keys))
	}
	s.txn.DropAPIKeys(func(k *state.APIKey) bool { return k.Org == o.ID })
	n := *o
	n.DeletedMs, n.Index, n.Revision = s.clock, s.index, o.Revision+1
	s.txn.PutOrg(&n)
	if s.txn.WebhookSecrets(n.ID) != nil {
		s.txn.PutWebhookSecrets(&state.WebhookSecrets{Org: n.ID})
	}
	return command.Result{}
}
