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

func keyRecord(k *state.Key) *KeyRecord {
	return &KeyRecord{
		Org: k.Org, Endpoint: k.Endpoint, Key: k.Key, Job: k.Job[:], Hash: k.Hash[:], ExpiresMs: k.ExpiresMs,
		CreatedMs: k.CreatedMs,
	}
}

func segmentRecord(g *state.Segment) *SegmentRecord {
	return &SegmentRecord{
		Number: g.Number, Sha256: g.SHA256[:], Size: g.Size, IndexOffset: g.IndexOffset, IndexSha256: g.IndexSHA256[:],
		First: g.First[:], Last: g.Last[:], Jobs: g.Jobs, OldestEndMs: g.OldestEndMs, NewestEndMs: g.NewestEndMs,
	}
}

func jobRecord(j *state.Job) *JobRecord {
	return &JobRecord{
		Id: j.ID[:], Seq: j.Seq, Index: j.Index, Org: j.Org, Endpoint: j.Target,
		CreatedMs: j.CreatedMs, NotBeforeMs: j.NotBeforeMs, TtlMs: j.TTLMs, ExecutionMs: j.ExecutionMs,
		Input: payloadRecord(j.Input), Lease: leaseRecord(j.Lease), Extra: extraRecord(j.Extra), Outcome: outcomeRecord(j.Outcome),
		Attempt: j.Attempt, Run: j.Run, Failures: uint32(j.Failures), Losses: uint32(j.Losses),
		MaxAttempts: uint32(j.MaxAttempts), MaxLosses: uint32(j.MaxLosses),
		Status: uint32(j.Status), Priority: uint32(j.Priority), RetryTimeout: j.RetryTimeout, Adoptable: j.Adoptable,
		Cost: int64(j.Cost), Reserved: int64(j.Reserved),
	}
}

func payloadRecord(p state.Payload) *PayloadRecord {
	switch {
	case p.Ref != nil:
		return &PayloadRecord{Sha256: p.Ref.SHA256[:], Size: p.Ref.Size}
	case len(p.Inline) > 0:
		return &PayloadRecord{Inline: p.Inline}
	}
	return nil
}

func leaseRecord(l *state.Lease) *LeaseRecord {
	if l == nil {
		return nil
	}
	return &LeaseRecord{
		Agent: l.Agent[:], Incarnation: l.Incarnation[:], GrantedMs: l.GrantedMs, Revision: l.Revision, Reason: l.Reason,
	}
}

func extraRecord(x *state.Extra) *ExtraRecord {
	if x == nil {
		return nil
	}
	r := &ExtraRecord{CallbackUrl: x.CallbackURL, CallbackBase: x.CallbackBase, IdempotencyKey: x.IdempotencyKey, ReopenedMs: x.ReopenedMs,
		S3Config: x.S3Config, Checkpoint: payloadRecord(x.Checkpoint)}
	for _, t := range x.Tags {
		r.Tags = append(r.Tags, &TagRecord{Key: t.Key, Value: t.Value})
	}
	return r
}

func outcomeRecord(o *state.Outcome) *OutcomeRecord {
	if o == nil {
		return nil
	}
	r := &OutcomeRecord{
		Attempt: o.Attempt, GrantedMs: o.GrantedMs, StartedMs: o.StartedMs, EndedMs: o.EndedMs,
		Output: payloadRecord(o.Output), Logs: payloadRecord(o.Logs), Chunks: payloadRecord(o.Chunks),
		ErrCode: string(o.ErrCode), ErrMessage: o.ErrMessage, ErrDetails: o.ErrDetails,
		Retryable: o.Retryable, Partial: o.Partial, Facts: o.Facts,
		Agent: o.Agent[:], Revision: o.Revision, Reported: o.Reported, Delivery: deliveryRecord(o.Delivery),
		OutputsUntilMs: o.OutputsUntilMs,
	}
	for i := range o.Files {
		f := &o.Files[i]
		r.Files = append(r.Files, &FileRecord{Name: f.Name, Sha256: f.Blob.SHA256[:], Size: f.Blob.Size})
	}
	return r
}

func deliveryRecord(d *state.Delivery) *DeliveryRecord {
	if d == nil {
		return nil
	}
	r := &DeliveryRecord{
		State: uint32(d.State), Attempt: d.Attempt, Tries: d.Tries, Index: d.Index, NextMs: d.NextMs, SinceMs: d.SinceMs,
	}
	for i := range d.Log {
		a := &d.Log[i]
		r.Log = append(r.Log, &DeliveryAttemptRecord{
			Attempt: a.Attempt, StartedMs: a.StartedMs, LatencyMs: a.LatencyMs, Status: a.Status, Error: a.Error, Answer: a.Answer,
		})
	}
	return r
}

func secretsRecord(s *state.Secrets) *SecretsRecord {
	r := &SecretsRecord{Org: s.Org}
	for i := range s.List {
		one := &s.List[i]
		r.List = append(r.List, &SecretRecord{
			Id: one.ID[:], Key: one.Key, CreatedMs: one.CreatedMs, ExpiresMs: one.ExpiresMs, Automatic: one.Automatic,
		})
	}
	return r
}
