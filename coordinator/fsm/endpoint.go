package fsm

import (
	"bytes"
	"encoding/json"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// keptRevisions is how many older documents an endpoint keeps for the leases
// that still name one; a rollout is over long before so many follow it.
const keptRevisions = 16

func (s *step) putEndpoint(c *command.PutEndpoint) command.Result {
	if s.txn.Feature() >= command.FeatureAPI && s.txn.Org(c.GetOrg()) == nil {
		return refuse(protocol.CodeOrgNotFound, "The organisation does not exist")
	}
	doc := new(protocol.Endpoint)
	if err := json.Unmarshal(c.GetDoc(), doc); err != nil {
		return refuse(protocol.CodeValidation, "The document cannot be read: "+err.Error())
	}
	doc.Org, doc.ID, doc.Revision = c.GetOrg(), c.GetId(), s.txn.FirstRevision()
	e := &state.Endpoint{Org: doc.Org, ID: doc.ID, Revision: doc.Revision, Index: s.index, Doc: doc}
	if before := s.txn.Endpoint(c.GetOrg(), c.GetId()); before != nil {
		if s.txn.Feature() >= command.FeatureAPI {
			doc.Paused = before.Doc.Paused // PauseEndpoint's affair
		}
		switch {
		case sameDoc(before.Doc, doc):
			return command.Result{Revision: before.Revision, Replayed: true}
		case c.GetCreate():
			return refuse(protocol.CodeConflict, "The endpoint exists already")
		case c.GetExpectRevision() != 0 && c.GetExpectRevision() != before.Revision:
			return refuse(protocol.CodeConflict, "The endpoint was changed: read it again")
		}
		doc.Revision = before.Revision + 1
		e.Revision = doc.Revision
		e.Org, e.ID = before.Org, before.ID // strings that its jobs share
		older := min(len(before.Older), keptRevisions-1)
		e.Older = append(append(e.Older, before.Doc), before.Older[:older]...)
	} else if c.GetExpectRevision() != 0 {
		return refuse(protocol.CodeEndpointNotFound, "The endpoint does not exist")
	}
	s.txn.PutEndpoint(e)
	return command.Result{Revision: e.Revision}
}

// sameDoc compares what the documents say, without what the server sets.
func sameDoc(a, b *protocol.Endpoint) bool {
	x, y := *a, *b
	x.Revision, y.Revision = 0, 0
	return bytes.Equal(encode(&x), encode(&y))
}

func (s *step) deleteEndpoint(c *command.DeleteEndpoint) command.Result {
	e := s.txn.Endpoint(c.GetOrg(), c.GetId())
	if e == nil {
		return refuse(protocol.CodeEndpointNotFound, "The endpoint does not exist")
	}
	if e.Live > 0 {
		return refuse(protocol.CodeEndpointInUse, "The endpoint has jobs that have not ended")
	}
	s.txn.DeleteEndpoint(c.GetOrg(), c.GetId())
	return command.Result{}
}
