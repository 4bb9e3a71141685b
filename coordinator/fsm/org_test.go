package fsm

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func TestOrganisations(t *testing.T) {
	w := newWorld(t)
	w.ok(setFeature(command.FeatureAPI))
	if o := w.store.View().Org(org1); o == nil || o.Weight != 1 || len(w.store.View().Orgs()) != 1 {
		t.Fatalf("the first organisation is %+v", o)
	}
	w.refused(putEndpoint(org2, ep2, `{"runtime":{"kind":"builtin"}}`), protocol.CodeOrgNotFound)
	w.refused(putOrg(org2, func(p *command.PutOrg) { p.Create = false }), protocol.CodeOrgNotFound)
	w.ok(putOrg(org2))
	w.again(putOrg(org2))
	w.refused(putOrg(org2, func(p *command.PutOrg) { p.Name = "Other" }), protocol.CodeConflict)
	change := func(p *command.PutOrg) { p.Create, p.ExpectRevision, p.Weight = false, 1, 3 }
	if r := w.ok(putOrg(org2, change)); r.Revision != 2 {
		t.Errorf("revision is %d", r.Revision)
	}
	w.again(putOrg(org2, change))
	w.refused(putOrg(org2, change, func(p *command.PutOrg) { p.Weight = 4 }), protocol.CodeConflict)
	w.ok(putEndpoint(org2, ep2, `{"runtime":{"kind":"builtin"}}`))
	w.refused(deleteOrg(org2), protocol.CodeOrgInUse)
	w.ok(deleteEndpoint(org2, ep2))
	w.ok(deleteOrg(org2))
	w.again(deleteOrg(org2))
	w.refused(putOrg(org2), protocol.CodeConflict)
	w.refused(putEndpoint(org2, ep2, `{"runtime":{"kind":"builtin"}}`), protocol.CodeOrgNotFound)
	w.refused(deleteOrg("org_none"), protocol.CodeOrgNotFound)
	w.refused(deleteOrg(org1), protocol.CodeConflict)
	w.refused(putOrg(org1, func(p *command.PutOrg) { p.Weight = 9 }), protocol.CodeConflict)
	w.ok(putOrg(org1, func(p *command.PutOrg) { p.Create, p.ExpectRevision, p.Weight = false, 1, 9 }))
	if o := w.store.View().Org(org1); o.Weight != 9 || o.Revision != 2 || len(w.store.View().Orgs()) != 1 {
		t.Errorf("the first organisation is %+v", o)
	}
}

// TestQueueLimitOfAnOrganisation: the row's limit goes before the one that a
// submit carries, for the first organisation too, and keeps its count.
func TestQueueLimitOfAnOrganisation(t *testing.T) {
	w := ready(t)
	limited := func(s *command.Submit) { s.QueueLimit = 1 }
	w.ok(submit(1, limited))
	w.refused(submit(2, limited), protocol.CodeQueueFull)
	w.ok(putOrg(org1, func(p *command.PutOrg) { p.Create, p.QueueLimit = false, 2 }))
	w.ok(submit(2, limited))
	if r := w.refused(submit(3), protocol.CodeQueueFull); r.Limit != command.LimitOrg || r.Count != 2 {
		t.Errorf("the refusal says %+v", r)
	}
	w.ok(cancel(1, org1))
	w.ok(submit(3))
}

func TestOrganisationsAreAnnounced(t *testing.T) {
	w := newWorld(t)
	cursor := w.store.Subscribe(w.store.View().Index())
	w.ok(putOrg(org2))
	changes, err := cursor.Next(t.Context())
	if err != nil || len(changes.List) != 1 || changes.List[0].Org == nil || changes.List[0].Org.ID != org2 {
		t.Errorf("subscribers heard %+v, %v", changes, err)
	}
}

// TestAgentsStayInTheirOrganisation: who knows an agent's id cannot take it over, nor
// what it leases, with a key of another organisation.
func TestAgentsStayInTheirOrganisation(t *testing.T) {
	w := ready(t)
	w.ok(setFeature(command.FeatureAPI))
	w.ok(submit(1))
	w.ok(lease(1, 0, 1, 1))
	foreign := register(1, 2)
	foreign.GetRegister().Org = org2
	w.refused(foreign, protocol.CodeConflict)
	w.ok(register(1, 2, held(1, 1)))
	if j := w.job(1); j.Lease == nil {
		t.Errorf("the agent lost its job: %+v", j)
	}
}
