package fsm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"

	"windlass/coordinator/state"
	"windlass/protocol"
)

func metaOf(m *HeaderRecord) (state.Meta, error) {
	meta := state.Meta{
		Index: m.GetIndex(), ClockMs: m.GetClockMs(), Seq: m.GetSeq(), Revision: m.GetRevision(),
		Feature: m.GetFeature(), Segment: m.GetSegment(), Settings: state.Settings{MaxBytes: m.GetMaxBytes()},
	}
	if len(m.GetSecret()) == 0 {
		return meta, nil
	}
	return meta, fill("secret", meta.Secret[:], m.GetSecret())
}

func (r *recordReader) org(m *OrgRecord) error {
	var grants [][16]byte
	for _, id := range m.GetGrants() {
		if len(id) != len([16]byte{}) {
			return fmt.Errorf("cannot decode organisation %s: a grant's id has %d bytes", m.GetId(), len(id))
		}
		grants = append(grants, [16]byte(id))
	}
	return r.to.Org(&state.Org{
		ID: r.to.Intern(m.GetId()), Name: m.GetName(), Weight: m.GetWeight(), QueueLimit: m.GetQueueLimit(),
		MaxRunning: m.GetMaxRunning(), StorageQuota: m.GetStorageQuota(),
		Credits:   state.Credits{Enabled: m.GetCredits(), Balance: m.GetBalance(), Reserved: m.GetReserved(), Grants: grants},
		CreatedMs: m.GetCreatedMs(), DeletedMs: m.GetDeletedMs(), Revision: m.GetRevision(), Index: m.GetIndex(),
	})
}

func (r *recordReader) apiKey(m *APIKeyRecord) error {
	k := &state.APIKey{
		Org: r.to.Intern(m.GetOrg()), Name: m.GetName(), Endpoints: m.GetEndpoints(), OlderMs: m.GetOlderMs(),
		CreatedMs: m.GetCreatedMs(), ExpiresMs: m.GetExpiresMs(), RotatedMs: m.GetRotatedMs(), RevokedMs: m.GetRevokedMs(), Index: m.GetIndex(),
	}
	for _, p := range m.GetPermissions() {
		k.Permissions = append(k.Permissions, protocol.Permission(r.to.Intern(p)))
	}
	if err := fill("API key", k.ID[:], m.GetId(), k.Hash[:], m.GetHash(), k.Older[:], m.GetOlder()); err != nil {
		return err
	}
	return r.to.APIKey(k)
}

func (r *recordReader) endpoint(m *EndpointRecord) error {
	e := &state.Endpoint{
		Org: r.to.Intern(m.GetOrg()), ID: r.to.Intern(m.GetId()),
		Revision: m.GetRevision(), Index: m.GetIndex(), Doc: new(protocol.Endpoint),
		Completed: m.GetCompleted(), Failed: m.GetFailed(), Retried: m.GetRetried(),
	}
	if err := json.Unmarshal(m.GetDoc(), e.Doc); err != nil {
		return fmt.Errorf("cannot decode endpoint %s/%s: %w", e.Org, e.ID, err)
	}
	for _, raw := range m.GetOlder() {
		doc := new(protocol.Endpoint)
		if err := json.Unmarshal(raw, doc); err != nil {
			return fmt.Errorf("cannot decode an older revision of %s/%s: %w", e.Org, e.ID, err)
		}
		e.Older = append(e.Older, doc)
	}
	return r.to.Endpoint(e)
}

func (r *recordReader) agent(m *AgentRecord) error {
	a := &state.Agent{Org: m.GetOrg(), Name: m.GetName(), Index: m.GetIndex(), SeenMs: m.GetSeenMs()}
	if err := fill("agent", a.ID[:], m.GetId(), a.Incarnation[:], m.GetIncarnation()); err != nil {
		return err
	}
	if err := json.Unmarshal(m.GetFacts(), &a.Facts); err != nil {
		return fmt.Errorf("cannot decode the facts of %s: %w", a.ID, err)
	}
	return r.to.Agent(a)
}

func (r *recordReader) key(m *KeyRecord) error {
	k := &state.Key{
		Org: r.to.Intern(m.GetOrg()), Endpoint: r.to.Intern(m.GetEndpoint()), Key: m.GetKey(), ExpiresMs: m.GetExpiresMs(),
		CreatedMs: m.GetCreatedMs(),
	}
	if err := fill("idempotency key", k.Job[:], m.GetJob(), k.Hash[:], m.GetHash()); err != nil {
		return err
	}
	return r.to.Key(k)
}

func (r *recordReader) secrets(m *SecretsRecord) error {
	s := &state.WebhookSecrets{Org: m.GetOrg()}
	for _, one := range m.GetList() {
		if err := known(one); err != nil {
			return err
		}
		to := state.WebhookSecret{
			Key: one.GetKey(), CreatedMs: one.GetCreatedMs(), ExpiresMs: one.GetExpiresMs(), Automatic: one.GetAutomatic(),
		}
		if err := fill("webhook secret", to.ID[:], one.GetId()); err != nil {
			return err
		}
		s.List = append(s.List, to)
	}
	return r.to.WebhookSecrets(s)
}

func (r *recordReader) segment(m *SegmentRecord) error {
	g := &state.Segment{
		Number: m.GetNumber(), Size: m.GetSize(), IndexOffset: m.GetIndexOffset(), Jobs: m.GetJobs(),
		OldestEndMs: m.GetOldestEndMs(), NewestEndMs: m.GetNewestEndMs(),
	}
	err := fill("segment", g.SHA256[:], m.GetSha256(), g.IndexSHA256[:], m.GetIndexSha256(), g.First[:], m.GetFirst(), g.Last[:], m.GetLast())
	if err != nil {
		return err
	}
	if g.Number > r.meta.Segment {
		return fmt.Errorf("segment %d is above the newest, %d", g.Number, r.meta.Segment)
	}
	return r.to.Segment(g)
}

func (r *recordReader) stored(m *StoredRecord) error {
	s := &state.Stored{Org: r.to.Intern(m.GetOrg()), ExpiresMs: m.GetExpiresMs(), Bytes: m.GetBytes(), Blobs: make([][32]byte, len(m.GetBlobs()))}
	if err := fill("stored output", s.Job[:], m.GetJob()); err != nil {
		return err
	}
	for i, b := range m.GetBlobs() {
		if err := fill("stored output", s.Blobs[i][:], b); err != nil {
			return err
		}
	}
	return r.to.Stored(s)
}

func (r *recordReader) job(m *JobRecord) error {
	j, err := jobOf(m, r.to.Intern)
	if err != nil {
		return err
	}
	return r.to.Job(j)
}

// jobOf reads a row; intern returns a string equal to the given one.
func jobOf(m *JobRecord, intern func(string) string) (*state.Job, error) {
	j := &state.Job{
		Seq: m.GetSeq(), Index: m.GetIndex(), Org: intern(m.GetOrg()), Target: intern(m.GetEndpoint()),
		CreatedMs: m.GetCreatedMs(), NotBeforeMs: m.GetNotBeforeMs(), TTLMs: m.GetTtlMs(), ExecutionMs: m.GetExecutionMs(),
		Attempt: m.GetAttempt(), Run: m.GetRun(), Status: protocol.Status(m.GetStatus()), Priority: protocol.Priority(m.GetPriority()),
		RetryTimeout: m.GetRetryTimeout(), Adoptable: m.GetAdoptable(), Cost: protocol.Money(m.GetCost()), Reserved: protocol.Money(m.GetReserved()),
		Failures: uint16(m.GetFailures()), Losses: uint16(m.GetLosses()),
		MaxAttempts: uint16(m.GetMaxAttempts()), MaxLosses: uint16(m.GetMaxLosses()),
	}
	if max(m.GetFailures(), m.GetLosses(), m.GetMaxAttempts(), m.GetMaxLosses()) > math.MaxUint16 {
		return nil, fmt.Errorf("a job's counter is out of range")
	}
	if m.GetStatus() == 0 || m.GetStatus() > uint32(protocol.StatusPaused) || m.GetPriority() > protocol.Priorities || !j.Priority.Valid() {
		return nil, fmt.Errorf("a job has status %d and priority %d", m.GetStatus(), m.GetPriority())
	}
	if err := fill("job", j.ID[:], m.GetId()); err != nil {
		return nil, err
	}
	var err error
	if j.Input, err = payloadOf(m.GetInput()); err != nil {
		return nil, err
	}
	if j.Lease, err = leaseOf(m.GetLease()); err != nil {
		return nil, err
	}
	if j.Outcome, err = outcomeOf(m.GetOutcome()); err != nil {
		return nil, err
	}
	if j.Extra, err = extraOf(m.GetExtra()); err != nil {
		return nil, err
	}
	return j, nil
}

func payloadOf(m *PayloadRecord) (state.Payload, error) {
	if err := known(m); err != nil {
		return state.Payload{}, err
	}
	if len(m.GetSha256()) == 0 {
		return state.Payload{Inline: m.GetInline()}, nil
	}
	ref := &state.Blob{Size: m.GetSize()}
	return state.Payload{Ref: ref}, fill("blob", ref.SHA256[:], m.GetSha256())
}

func leaseOf(m *LeaseRecord) (*state.Lease, error) {
	if m == nil {
		return nil, nil
	}
	l := &state.Lease{GrantedMs: m.GetGrantedMs(), Revision: m.GetRevision(), Reason: m.GetReason()}
	if err := fill("lease", l.Agent[:], m.GetAgent(), l.Incarnation[:], m.GetIncarnation()); err != nil {
		return nil, err
	}
	return l, known(m)
}

func extraOf(m *ExtraRecord) (*state.Extra, error) {
	if m == nil {
		return nil, nil
	}
	x := &state.Extra{
		CallbackURL: m.GetCallbackUrl(), CallbackBase: m.GetCallbackBase(), IdempotencyKey: m.GetIdempotencyKey(), ReopenedMs: m.GetReopenedMs(),
		S3Config: m.GetS3Config(),
	}
	var err error
	if x.Checkpoint, err = payloadOf(m.GetCheckpoint()); err != nil {
		return nil, err
	}
	for _, t := range m.GetTags() {
		if err := known(t); err != nil {
			return nil, err
		}
		x.Tags = append(x.Tags, state.Tag{Key: t.GetKey(), Value: t.GetValue()})
	}
	return x, known(m)
}

func outcomeOf(m *OutcomeRecord) (*state.Outcome, error) {
	if m == nil {
		return nil, nil
	}
	o := &state.Outcome{
		Attempt: m.GetAttempt(), GrantedMs: m.GetGrantedMs(), StartedMs: m.GetStartedMs(), EndedMs: m.GetEndedMs(),
		ErrCode: protocol.Code(m.GetErrCode()), ErrMessage: m.GetErrMessage(), ErrDetails: m.GetErrDetails(),
		Retryable: m.GetRetryable(), Partial: m.GetPartial(), Facts: m.GetFacts(),
		Revision: m.GetRevision(), Reported: m.GetReported(), OutputsUntilMs: m.GetOutputsUntilMs(),
	}
	for _, r := range m.GetFiles() {
		f := state.File{Name: r.GetName(), Blob: state.Blob{Size: r.GetSize()}}
		if err := cmp.Or(known(r), fill("file", f.Blob.SHA256[:], r.GetSha256())); err != nil {
			return nil, err
		}
		o.Files = append(o.Files, f)
	}
	var err error
	if o.Output, err = payloadOf(m.GetOutput()); err != nil {
		return nil, err
	}
	if o.Logs, err = payloadOf(m.GetLogs()); err != nil {
		return nil, err
	}
	if o.Chunks, err = payloadOf(m.GetChunks()); err != nil {
		return nil, err
	}
	if o.Delivery, err = deliveryOf(m.GetDelivery()); err != nil {
		return nil, err
	}
	if err := fill("outcome", o.Agent[:], m.GetAgent()); err != nil {
		return nil, err
	}
	return o, known(m)
}

func deliveryOf(m *DeliveryRecord) (*state.Delivery, error) {
	if m == nil {
		return nil, nil
	}
	d := &state.Delivery{
		State: protocol.DeliveryState(m.GetState()), Attempt: m.GetAttempt(), Tries: m.GetTries(), Index: m.GetIndex(),
		NextMs: m.GetNextMs(), SinceMs: m.GetSinceMs(),
	}
	if m.GetState() > math.MaxUint8 || !d.State.Valid() {
		return nil, fmt.Errorf("a delivery has state %d", m.GetState())
	}
	for _, a := range m.GetLog() {
		if err := known(a); err != nil {
			return nil, err
		}
		d.Log = append(d.Log, state.DeliveryAttempt{
			Attempt: a.GetAttempt(), StartedMs: a.GetStartedMs(), LatencyMs: a.GetLatencyMs(), Status: a.GetStatus(),
			Error: a.GetError(), Answer: a.GetAnswer(),
		})
	}
	return d, known(m)
}

// known refuses a nested record with fields of a newer version.
func known(m proto.Message) error {
	if len(m.ProtoReflect().GetUnknown()) > 0 {
		return fmt.Errorf("a %s has fields of a newer version", m.ProtoReflect().Descriptor().Name())
	}
	return nil
}

// fill copies pairs of (to, from) of equal length.
func fill(what string, pairs ...[]byte) error {
	for i := 0; i < len(pairs); i += 2 {
		if len(pairs[i]) != len(pairs[i+1]) {
			return fmt.Errorf("a part of a %s has %d bytes instead of %d", what, len(pairs[i+1]), len(pairs[i]))
		}
		copy(pairs[i], pairs[i+1])
	}
	return nil
}
