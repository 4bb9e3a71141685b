package fsm

import (
	"testing"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (w *world) apiKey(n int) *state.APIKey { return w.store.View().APIKey(key(n)) }

func TestAPIKeys(t *testing.T) {
	w := ready(t)
	w.refused(createKey(1, "org_none"), protocol.CodeOrgNotFound)
	w.ok(createKey(1, org1, func(k *command.CreateKey) { k.ExpiresMs = w.clock + 5000 }))
	w.again(createKey(1, org1))
	w.refused(createKey(1, org1, func(k *command.CreateKey) { k.Hash = keyHash(7) }), protocol.CodeConflict)

	// Nobody else's key is known.
	w.refused(rotateKey(1, org2, 1, 2, 0), protocol.CodeKeyNotFound)
	w.refused(revokeKey(1, org2), protocol.CodeKeyNotFound)
	w.refused(revokeKey(2, org1), protocol.CodeKeyNotFound)

	// Rotation is a compare-and-set on the text that it replaces.
	w.refused(rotateKey(1, org1, 3, 2, 0), protocol.CodeConflict)
	w.ok(rotateKey(1, org1, 1, 2, 1000))
	w.again(rotateKey(1, org1, 1, 2, 1000))
	w.refused(rotateKey(1, org1, 1, 3, 1000), protocol.CodeConflict)
	if k := w.apiKey(1); k.Hash[0] != 2 || k.Older[0] != 1 || k.OlderMs != w.clock+1000 {
		t.Errorf("after a rotation: %+v", k)
	}
	w.ok(rotateKey(1, org1, 2, 4, 0))
	if k := w.apiKey(1); k.Hash[0] != 4 || k.Older != [32]byte{} || k.OlderMs != 0 {
		t.Errorf("after a rotation without an overlap: %+v", k)
	}
	w.clock += 5000
	w.refused(rotateKey(1, org1, 4, 5, 0), protocol.CodeConflict)
	w.ok(revokeKey(1, org1))
	w.again(revokeKey(1, org1))
	if k := w.apiKey(1); k.Live(0) {
		t.Errorf("a revoked key is live: %+v", k)
	}
}

func TestAnOrganisationWithKeysIsNotDeleted(t *testing.T) {
	w := newWorld(t)
	w.ok(putOrg(org2))
	w.ok(createKey(1, org2))
	w.ok(createKey(2, org1))
	w.refused(deleteOrg(org2), protocol.CodeOrgInUse)
	w.ok(revokeKey(1, org2))
	w.ok(deleteOrg(org2))
	if w.apiKey(1) != nil || w.apiKey(2) == nil {
		t.Error("the keys of the organisation are kept, or another's are lost")
	}
}

// TestKeysAreBounded: what ended first makes room; live keys never do.
func TestKeysAreBounded(t *testing.T) {
	w := newWorld(t)
	for n := 1; n <= protocol.MaxKeysOrg; n++ {
		w.ok(createKey(n, org1))
	}
	const next = protocol.MaxKeysOrg + 1
	w.refused(createKey(next, org1), protocol.CodeConflict)
	w.clock++
	w.ok(revokeKey(5, org1))
	w.clock++
	w.ok(revokeKey(3, org1))
	w.ok(createKey(next, org1))
	if w.apiKey(5) != nil || w.apiKey(3) == nil {
		t.Error("not the key that ended first made room")
	}
	w.ok(putOrg(org2))
	w.ok(createKey(next+1, org2))
}

// TestKeyLookupAllocatesNothing: every request is authenticated.
func TestKeyLookupAllocatesNothing(t *testing.T) {
	w := newWorld(t)
	for n := 1; n <= 100; n++ {
		w.ok(createKey(n, org1))
	}
	view := w.store.View()
	if n := testing.AllocsPerRun(100, func() { view.APIKey(key(50)) }); n != 0 {
		t.Errorf("a look-up allocates %v times", n)
	}
}
