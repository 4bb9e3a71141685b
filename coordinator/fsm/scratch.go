package fsm

import (
	"windlass/coordinator/state"
)

// scratch makes the records of jobs and keys, of which there are millions, in
// memory that it uses again for the next one: a snapshot would otherwise leave
// garbage several times its own size, and the collector would run for it while
// batches are applied. A record is void once the next is asked for. The zero
// value works.
type scratch struct {
	job      JobRecord
	key      KeyRecord
	lease    LeaseRecord
	extra    ExtraRecord
	outcome  OutcomeRecord
	delivery DeliveryRecord
	payloads [5]PayloadRecord // input, checkpoint, output, logs, chunks
	used     int              // of payloads
	tags     []*TagRecord
	files    []*FileRecord
	tries    []*DeliveryAttemptRecord
}

func (s *scratch) keyRecord(k *state.Key) *KeyRecord {
	s.key = KeyRecord{
		Org: k.Org, Endpoint: k.Endpoint, Key: k.Key, Job: k.Job[:], Hash: k.Hash[:], ExpiresMs: k.ExpiresMs,
		CreatedMs: k.CreatedMs,
	}
	return &s.key
}

func (s *scratch) jobRecord(j *state.Job) *JobRecord {
	s.used = 0
	s.job = JobRecord{
		Id: j.ID[:], Seq: j.Seq, Index: j.Index, Org: j.Org, Endpoint: j.Target,
		CreatedMs: j.CreatedMs, NotBeforeMs: j.NotBeforeMs, TtlMs: j.TTLMs, ExecutionMs: j.ExecutionMs,
		Input: s.payloadRecord(j.Input), Lease: s.leaseRecord(j.Lease), Extra: s.extraRecord(j.Extra), Outcome: s.outcomeRecord(j.Outcome),
		Attempt: j.Attempt, Run: j.Run, Failures: uint32(j.Failures), Losses: uint32(j.Losses),
		MaxAttempts: uint32(j.MaxAttempts), MaxLosses: uint32(j.MaxLosses),
		Status: uint32(j.Status), Priority: uint32(j.Priority), RetryTimeout: j.RetryTimeout, Adoptable: j.Adoptable,
		Cost: int64(j.Cost), Reserved: int64(j.Reserved),
	}
	return &s.job
}

func (s *scratch) payloadRecord(p state.Payload) *PayloadRecord {
	if p.Ref == nil && len(p.Inline) == 0 {
		return nil
	}
	r := &s.payloads[s.used]
	s.used++
	if p.Ref != nil {
		*r = PayloadRecord{Sha256: p.Ref.SHA256[:], Size: p.Ref.Size}
	} else {
		*r = PayloadRecord{Inline: p.Inline}
	}
	return r
}

func (s *scratch) leaseRecord(l *state.Lease) *LeaseRecord {
	if l == nil {
		return nil
	}
	s.lease = LeaseRecord{
		Agent: l.Agent[:], Incarnation: l.Incarnation[:], GrantedMs: l.GrantedMs, Revision: l.Revision, Reason: l.Reason,
	}
	return &s.lease
}

func (s *scratch) extraRecord(x *state.Extra) *ExtraRecord {
	if x == nil {
		return nil
	}
	s.tags = grow(s.tags, len(x.Tags))
	for i, t := range x.Tags {
		*s.tags[i] = TagRecord{Key: t.Key, Value: t.Value}
	}
	s.extra = ExtraRecord{
		CallbackUrl: x.CallbackURL, CallbackBase: x.CallbackBase, IdempotencyKey: x.IdempotencyKey, ReopenedMs: x.ReopenedMs,
		S3Config: x.S3Config, Checkpoint: s.payloadRecord(x.Checkpoint), Tags: s.tags,
	}
	return &s.extra
}

func (s *scratch) outcomeRecord(o *state.Outcome) *OutcomeRecord {
	if o == nil {
		return nil
	}
	s.files = grow(s.files, len(o.Files))
	for i := range o.Files {
		f := &o.Files[i]
		*s.files[i] = FileRecord{Name: f.Name, Sha256: f.Blob.SHA256[:], Size: f.Blob.Size}
	}
	s.outcome = OutcomeRecord{
		Attempt: o.Attempt, GrantedMs: o.GrantedMs, StartedMs: o.StartedMs, EndedMs: o.EndedMs,
		Output: s.payloadRecord(o.Output), Logs: s.payloadRecord(o.Logs), Chunks: s.payloadRecord(o.Chunks),
		ErrCode: string(o.ErrCode), ErrMessage: o.ErrMessage, ErrDetails: o.ErrDetails,
		Retryable: o.Retryable, Partial: o.Partial, Facts: o.Facts,
		Agent: o.Agent[:], Revision: o.Revision, Reported: o.Reported, Delivery: s.deliveryRecord(o.Delivery),
		OutputsUntilMs: o.OutputsUntilMs, Files: s.files,
	}
	return &s.outcome
}

func (s *scratch) deliveryRecord(d *state.Delivery) *DeliveryRecord {
	if d == nil {
		return nil
	}
	s.tries = grow(s.tries, len(d.Log))
	for i := range d.Log {
		a := &d.Log[i]
		*s.tries[i] = DeliveryAttemptRecord{
			Attempt: a.Attempt, StartedMs: a.StartedMs, LatencyMs: a.LatencyMs, Status: a.Status, Error: a.Error, Answer: a.Answer,
		}
	}
	s.delivery = DeliveryRecord{
		State: uint32(d.State), Attempt: d.Attempt, Tries: d.Tries, Index: d.Index, NextMs: d.NextMs, SinceMs: d.SinceMs, Log: s.tries,
	}
	return &s.delivery
}

// grow returns a list of n records, those of the list first.
func grow[R any](list []*R, n int) []*R {
	list = list[:cap(list)]
	for i := range list {
		if list[i] == nil {
			list[i] = new(R)
		}
	}
	for len(list) < n {
		list = append(list, new(R))
	}
	return list[:n]
}
