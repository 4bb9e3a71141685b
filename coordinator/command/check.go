package command

import (
	"bytes"
	"cmp"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"

	"windlass/protocol"
)

// idSize is the length of every id in a command: a raw ULID.
const idSize = 16

// hashSize is the length of a SHA-256.
const hashSize = 32

// Check says whether a command has the form that Apply relies on: ids and
// hashes of the right length, names without a zero byte, known enumerations.
// What a command means against the state is Apply's affair. The error wraps
// ErrInvalid.
func Check(c *Command) error {
	var err error
	switch op := c.GetOp().(type) {
	case *Command_Submit:
		err = checkSubmit(op.Submit)
	case *Command_Lease:
		err = cmp.Or(checkText(op.Lease.GetReason()),
			checkIDs("job, agent and incarnation", op.Lease.GetJob(), op.Lease.GetAgent(), op.Lease.GetIncarnation()))
	case *Command_Finish:
		err = checkFinish(op.Finish)
	case *Command_Release:
		err = checkRelease(op.Release)
	case *Command_ExpireTtl:
		err = checkIDs("job", op.ExpireTtl.GetJob())
	case *Command_Cancel:
		err = cmp.Or(checkText(op.Cancel.GetOrg()), checkIDs("job", op.Cancel.GetJob()))
	case *Command_Reopen:
		err = cmp.Or(checkText(op.Reopen.GetOrg()), checkIDs("job", op.Reopen.GetJob()), checkReserve(op.Reopen.GetReserve()))
	case *Command_Register:
		err = checkRegister(op.Register)
	case *Command_Adopt:
		err = checkIDs("job, agent and incarnation", op.Adopt.GetJob(), op.Adopt.GetAgent(), op.Adopt.GetIncarnation())
	case *Command_PutEndpoint:
		err = checkNames("org and endpoint", op.PutEndpoint.GetOrg(), op.PutEndpoint.GetId())
	case *Command_DeleteEndpoint:
		err = checkNames("org and endpoint", op.DeleteEndpoint.GetOrg(), op.DeleteEndpoint.GetId())
	case *Command_Evict:
		err = checkIDs("every job", op.Evict.GetJobs()...)
	case *Command_PutSettings:
		if op.PutSettings.GetMaxBytes() < 0 {
			err = fmt.Errorf("max_bytes must not be negative")
		}
	case *Command_Checkpoint:
	case *Command_SetFeature:
		if op.SetFeature.GetLevel() == 0 {
			err = fmt.Errorf("level must not be zero")
		}
	case *Command_PutOrg:
		err = checkPutOrg(op.PutOrg)
	case *Command_GrantCredits:
		err = checkGrant(op.GrantCredits)
	case *Command_DeleteOrg:
		err = checkNames("organisation", op.DeleteOrg.GetId())
	case *Command_CreateKey:
		err = checkCreateKey(op.CreateKey)
	case *Command_RotateKey:
		err = checkRotateKey(op.RotateKey)
	case *Command_RevokeKey:
		err = cmp.Or(checkIDs("key", op.RevokeKey.GetId()), checkNames("organisation", op.RevokeKey.GetOrg()))
	case *Command_Archive:
		err = checkArchive(op.Archive)
	case *Command_DropSegment:
		err = checkDropSegment(op.DropSegment)
	case *Command_Recall:
		err = checkRecall(op.Recall)
	case *Command_Pause:
		err = cmp.Or(checkText(op.Pause.GetOrg()), checkIDs("job", op.Pause.GetJob()))
	case *Command_Resume:
		err = cmp.Or(checkText(op.Resume.GetOrg()), checkIDs("job", op.Resume.GetJob()))
	case *Command_PauseEndpoint:
		err = checkNames("org and endpoint", op.PauseEndpoint.GetOrg(), op.PauseEndpoint.GetId())
	case *Command_Purge:
		err = checkPurge(op.Purge)
	case *Command_PutWebhookSecret:
		err = checkPutWebhookSecret(op.PutWebhookSecret)
	case *Command_DropWebhookSecret:
		err = cmp.Or(checkIDs("secret", op.DropWebhookSecret.GetId()), checkNames("org", op.DropWebhookSecret.GetOrg()))
	case *Command_RecordDelivery:
		err = checkRecordDelivery(op.RecordDelivery)
	case *Command_Redeliver:
		err = cmp.Or(checkIDs("job", op.Redeliver.GetJob()), checkNames("org", op.Redeliver.GetOrg()))
	case *Command_ExpireOutputs:
	case *Command_PutClusterSecret:
		err = checkPutClusterSecret(op.PutClusterSecret)
	default:
		err = fmt.Errorf("it has no operation")
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

func checkSubmit(s *Submit) error {
	if err := checkIDs("job", s.GetJob()); err != nil {
		return err
	}
	if err := checkNames("org and endpoint", s.GetOrg(), s.GetEndpoint()); err != nil {
		return err
	}
	if p := s.GetPriority(); p > protocol.Priorities || !protocol.Priority(p).Valid() {
		return fmt.Errorf("priority %d is unknown", p)
	}
	if s.GetIdempotencyKey() != "" && len(s.GetPayloadHash()) != hashSize {
		return fmt.Errorf("an idempotency key needs a payload hash of %d bytes", hashSize)
	}
	for _, t := range s.GetTags() {
		if err := checkText(t.GetKey(), t.GetValue()); err != nil {
			return err
		}
	}
	if s.GetExpectedOutput() < 0 {
		return fmt.Errorf("expected_output must not be negative")
	}
	return cmp.Or(checkText(s.GetCallbackUrl(), s.GetCallbackBase(), s.GetIdempotencyKey()), checkPayloads(s.GetInput()), checkReserve(s.GetReserve()))
}

func checkFinish(f *Finish) error {
	if err := checkIDs("job, agent and incarnation", f.GetJob(), f.GetAgent(), f.GetIncarnation()); err != nil {
		return err
	}
	switch protocol.Outcome(f.GetOutcome()) {
	case protocol.OutcomeCompleted, protocol.OutcomeFailed, protocol.OutcomeTimeout, protocol.OutcomeCancelled, protocol.OutcomePaused:
	default:
		return fmt.Errorf("outcome is unknown")
	}
	return cmp.Or(checkText(f.GetErrorCode(), f.GetErrorMessage()), checkFiles(f.GetFiles()),
		checkPayloads(f.GetOutput(), f.GetLogs(), f.GetChunks(), f.GetCheckpoint()))
}

func checkRelease(r *Release) error {
	if _, ok := Release_Reason_name[int32(r.GetReason())]; !ok || r.GetReason() == Release_UNSPECIFIED {
		return fmt.Errorf("release reason %d is unknown", r.GetReason())
	}
	return cmp.Or(checkText(r.GetDetail()),
		checkIDs("job, agent and incarnation", r.GetJob(), r.GetAgent(), r.GetIncarnation()))
}

func checkRegister(r *Register) error {
	if err := cmp.Or(checkText(r.GetName(), r.GetOrg()),
		checkIDs("agent and incarnation", r.GetAgent(), r.GetIncarnation())); err != nil {
		return err
	}
	for _, h := range r.GetHeld() {
		if err := checkIDs("held job", h.GetJob()); err != nil {
			return err
		}
	}
	return nil
}

// MaxPurge bounds the jobs of one Purge, so that no entry keeps the state machine
// long: as many as a batch has commands.
const MaxPurge = 512

func checkPurge(p *Purge) error {
	if len(p.GetJobs()) > MaxPurge {
		return fmt.Errorf("a purge names %d jobs, at most %d are allowed", len(p.GetJobs()), MaxPurge)
	}
	for i := 1; i < len(p.GetJobs()); i++ {
		if bytes.Compare(p.GetJobs()[i-1], p.GetJobs()[i]) >= 0 {
			return fmt.Errorf("the jobs of a purge must be in ascending order")
		}
	}
	return cmp.Or(checkNames("purge, org and endpoint", p.GetPurge(), p.GetOrg(), p.GetEndpoint()),
		checkIDs("every job", p.GetJobs()...))
}

func checkIDs(what string, ids ...[]byte) error {
	for _, id := range ids {
		if len(id) != idSize {
			return fmt.Errorf("%s must be %d bytes", what, idSize)
		}
		if [idSize]byte(id) == ([idSize]byte{}) {
			return fmt.Errorf("%s must not be zero", what)
		}
	}
	return nil
}

func checkNames(what string, names ...string) error {
	for _, n := range names {
		if n == "" || strings.IndexByte(n, 0) >= 0 {
			return fmt.Errorf("%s must not be empty or hold a zero byte", what)
		}
	}
	return checkText(names...)
}

// checkText refuses what protobuf would refuse for the whole batch.
func checkText(list ...string) error {
	for _, s := range list {
		if !utf8.ValidString(s) {
			return fmt.Errorf("text must be UTF-8")
		}
	}
	return nil
}

func checkPayloads(list ...*Payload) error {
	for _, p := range list {
		switch {
		case len(p.GetSha256()) == 0:
		case len(p.GetSha256()) != hashSize:
			return fmt.Errorf("a blob's hash must be %d bytes", hashSize)
		case len(p.GetInline()) > 0:
			return fmt.Errorf("a payload is inline or a blob, not both")
		}
	}
	return nil
}

// hasUnknown reports fields that this version does not know, at every level.
func hasUnknown(c *Command) bool {
	if len(c.ProtoReflect().GetUnknown()) > 0 {
		return true
	}
	switch op := c.GetOp().(type) {
	case *Command_Submit:
		return anyUnknown(op.Submit) || anyUnknown(op.Submit.GetInput()) || anyUnknown(op.Submit.GetTags()...)
	case *Command_Finish:
		f := op.Finish
		return anyUnknown(f) || anyUnknown(f.GetOutput(), f.GetLogs(), f.GetChunks(), f.GetCheckpoint()) || anyUnknown(f.GetFiles()...)
	case *Command_Register:
		return anyUnknown(op.Register) || anyUnknown(op.Register.GetHeld()...)
	case *Command_Lease:
		return anyUnknown(op.Lease)
	case *Command_Release:
		return anyUnknown(op.Release)
	case *Command_ExpireTtl:
		return anyUnknown(op.ExpireTtl)
	case *Command_Cancel:
		return anyUnknown(op.Cancel)
	case *Command_Reopen:
		return anyUnknown(op.Reopen)
	case *Command_Adopt:
		return anyUnknown(op.Adopt)
	case *Command_PutEndpoint:
		return anyUnknown(op.PutEndpoint)
	case *Command_DeleteEndpoint:
		return anyUnknown(op.DeleteEndpoint)
	case *Command_Evict:
		return anyUnknown(op.Evict)
	case *Command_PutSettings:
		return anyUnknown(op.PutSettings)
	case *Command_Checkpoint:
		return anyUnknown(op.Checkpoint)
	case *Command_SetFeature:
		return anyUnknown(op.SetFeature)
	case *Command_ExpireOutputs:
		return anyUnknown(op.ExpireOutputs)
	case *Command_PutClusterSecret:
		return anyUnknown(op.PutClusterSecret)
	case *Command_PutOrg:
		return anyUnknown(op.PutOrg)
	case *Command_GrantCredits:
		return anyUnknown(op.GrantCredits)
	case *Command_DeleteOrg:
		return anyUnknown(op.DeleteOrg)
	case *Command_CreateKey:
		return anyUnknown(op.CreateKey)
	case *Command_RotateKey:
		return anyUnknown(op.RotateKey)
	case *Command_RevokeKey:
		return anyUnknown(op.RevokeKey)
	case *Command_Archive:
		return anyUnknown(op.Archive) || anyUnknown(op.Archive.GetSegment()) || anyUnknown(op.Archive.GetJobs()...)
	case *Command_DropSegment:
		return anyUnknown(op.DropSegment)
	case *Command_Recall:
		return anyUnknown(op.Recall)
	case *Command_Pause:
		return anyUnknown(op.Pause)
	case *Command_Resume:
		return anyUnknown(op.Resume)
	case *Command_PauseEndpoint:
		return anyUnknown(op.PauseEndpoint)
	case *Command_Purge:
		return anyUnknown(op.Purge)
	case *Command_PutWebhookSecret:
		return anyUnknown(op.PutWebhookSecret)
	case *Command_DropWebhookSecret:
		return anyUnknown(op.DropWebhookSecret)
	case *Command_RecordDelivery:
		return anyUnknown(op.RecordDelivery)
	case *Command_Redeliver:
		return anyUnknown(op.Redeliver)
	}
	return true // no operation, or one that is not known here
}

func anyUnknown[M proto.Message](list ...M) bool {
	for _, m := range list {
		if len(m.ProtoReflect().GetUnknown()) > 0 {
			return true
		}
	}
	return false
}
