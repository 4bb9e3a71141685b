package fsm

import (
	"bytes"
	"fmt"
	"math"
	"slices"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// storedPerExpiry bounds the stored outputs that one ExpireOutputs forgets.
const storedPerExpiry = 1024

// keepOutputs makes the stored outputs of n.Outcome those of the job, for
// protocol.OutputTerm. It returns false when they would exceed the quota of the
// organisation: then n.Outcome is that of a failure without them.
func (s *step) keepOutputs(n *state.Job, before *state.Outcome, outcome protocol.Outcome) (fits bool) {
	o := n.Outcome
	row := storedOf(n)
	if s.txn.Feature() < command.FeatureAPI || row == nil {
		return true
	}
	var replaced int64
	if before != nil && before.OutputsUntilMs != 0 {
		if old := s.txn.Stored(n.ID, before.OutputsUntilMs); old != nil {
			replaced = old.Bytes
		}
	}
	if left := s.storageLeft(n.Org) + replaced; row.Bytes > left {
		o.Files = nil
		if outcome != protocol.OutcomeCompleted {
			return true // it did not succeed anyway: what it made until then is not kept
		}
		o.Output, o.Retryable = state.Payload{}, false
		o.ErrCode, o.ErrMessage = protocol.CodeStorageLimit, "Output size would exceed storage quota"
		o.ErrDetails = encode(protocol.StorageDetails(row.Bytes, left))
		return false
	}
	o.OutputsUntilMs = s.clock + protocol.OutputTerm.Milliseconds()
	row.ExpiresMs = o.OutputsUntilMs
	s.txn.PutStored(row)
	return true
}

// storedOf returns what the outcome of a job has in the blob store: each blob
// once, however many names it has. nil: nothing.
func storedOf(n *state.Job) *state.Stored {
	seen := make(map[[32]byte]bool)
	row := &state.Stored{Job: n.ID, Org: n.Org}
	n.Outcome.Outputs(func(b *state.Blob) {
		if !seen[b.SHA256] {
			seen[b.SHA256] = true
			row.Blobs = append(row.Blobs, b.SHA256)
			row.Bytes += b.Size
		}
	})
	if len(row.Blobs) == 0 {
		return nil
	}
	slices.SortFunc(row.Blobs, func(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) })
	return row
}

// storageLeft is how many bytes an organisation may store beside what it has; it
// may be negative.
func (s *step) storageLeft(org string) int64 {
	o := s.txn.Org(org)
	if o == nil || o.StorageQuota == 0 {
		return math.MaxInt64 / 2
	}
	return o.StorageQuota - s.txn.StoredBytes(org)
}

// storageFull refuses a job whose output is not expected to fit.
func (s *step) storageFull(c *command.Submit) (command.Result, bool) {
	expected := c.GetExpectedOutput()
	if expected == 0 {
		return command.Result{}, false
	}
	left := s.storageLeft(c.GetOrg())
	if expected <= left {
		return command.Result{}, false
	}
	r := refuse(protocol.CodeStorageLimit, fmt.Sprintf("Output size would exceed storage quota: jobs of this endpoint store some %s", protocol.FormatBytes(expected)))
	r.Count = left
	return r, true
}

func (s *step) expireOutputs() command.Result {
	dropped := s.txn.DropExpiredStored(s.clock, storedPerExpiry)
	return command.Result{Count: int64(dropped), Replayed: dropped == 0}
}

// putClusterSecret sets the secret once; whoever comes later uses the one that is
// there.
func (s *step) putClusterSecret(c *command.PutClusterSecret) command.Result {
	if s.txn.Secret() != [32]byte{} {
		return replayed()
	}
	s.txn.SetSecret([32]byte(c.GetSecret()))
	return command.Result{}
}
