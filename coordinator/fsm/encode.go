package fsm

import (
	"windlass/coordinator/state"
)

func headerRecord(m state.Meta) *HeaderRecord {
	return &HeaderRecord{
		Index: m.Index, ClockMs: m.ClockMs, Seq: m.Seq, Revision: m.Revision, MaxBytes: m.Settings.MaxBytes,
		Feature: m.Feature, Segment: m.Segment, Secret: secretRecord(m.Secret),
	}
}

// secretRecord is empty for none, so that a state without one is written as before.
func secretRecord(secret [32]byte) []byte {
	if secret == [32]byte{} {
		return nil
	}
	return secret[:]
}

func storedRecord(s *state.Stored) *StoredRecord {
	r := &StoredRecord{Job: s.Job[:], Org: s.Org, ExpiresMs: s.ExpiresMs, Bytes: s.Bytes}
	for i := range s.Blobs {
		r.Blobs = append(r.Blobs, s.Blobs[i][:])
	}
	return r
}

func orgRecord(o *state.Org) *OrgRecord {
	return &OrgRecord{
		Id: o.ID, Name: o.Name, Weight: o.Weight, QueueLimit: o.QueueLimit, MaxRunning: o.MaxRunning, StorageQuota: o.StorageQuota,
		Credits: o.Credits.Enabled, Balance: o.Credits.Balance, Reserved: o.Credits.Reserved,
		CreatedMs: o.CreatedMs, DeletedMs: o.DeletedMs, Revision: o.Revision, Index: o.Index,
		Grants: grantRecords(o.Credits.Grants),
	}
}

func apiKeyRecord(k *state.APIKey) *APIKeyRecord {
	r := &APIKeyRecord{
		Id: k.ID[:], Org: k.Org, Name: k.Name, Endpoints: k.Endpoints, Hash: k.Hash[:], Older: k.Older[:], OlderMs: k.OlderMs,
		CreatedMs: k.CreatedMs, ExpiresMs: k.ExpiresMs, RotatedMs: k.RotatedMs, RevokedMs: k.RevokedMs, Index: k.Index,
	}
	for _, p := range k.Permissions {
		r.Permissions = append(r.Permissions, string(p))
	}
	return r
}

func grantRecords(ids [][16]byte) [][]byte {
	var out [][]byte
	for _, id := range ids {
		out = append(out, id[:])
	}
	return out
}

func endpointRecord(e *state.Endpoint) *EndpointRecord {
	r := &EndpointRecord{
		Org: e.Org, Id: e.ID, Revision: e.Revision, Index: e.Index, Doc: encode(e.Doc),
		Completed: e.Completed, Failed: e.Failed, Retried: e.Retried,
	}
	for _, doc := range e.Older {
		r.Older = append(r.Older, encode(doc))
	}
	return r
}

func agentRecord(a *state.Agent) *AgentRecord {
	return &AgentRecord{
		Id: a.ID[:], Org: a.Org, Name: a.Name, Incarnation: a.Incarnation[:],
		Facts: encode(a.Facts), Index: a.Index, SeenMs: a.SeenMs,
	}
}

func segmentRecord(g *state.Segment) *SegmentRecord {
	return &SegmentRecord{
		Number: g.Number, Sha256: g.SHA256[:], Size: g.Size, IndexOffset: g.IndexOffset, IndexSha256: g.IndexSHA256[:],
		First: g.First[:], Last: g.Last[:], Jobs: g.Jobs, OldestEndMs: g.OldestEndMs, NewestEndMs: g.NewestEndMs,
	}
}

func secretsRecord(s *state.WebhookSecrets) *SecretsRecord {
	r := &SecretsRecord{Org: s.Org}
	for i := range s.List {
		one := &s.List[i]
		r.List = append(r.List, &SecretRecord{
			Id: one.ID[:], Key: one.Key, CreatedMs: one.CreatedMs, ExpiresMs: one.ExpiresMs, Automatic: one.Automatic,
		})
	}
	return r
}
