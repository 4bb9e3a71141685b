package command

import (
	"fmt"

	"windlass/protocol"
)

// The feature levels. A cluster has one replicated level, which its leader
// raises once every coordinator supports the next one; a command above it is
// never proposed, so that a coordinator of the version before never meets an
// entry that it cannot apply. A level is added together with its first command
// and never taken away while FeatureMin is below it.
const (
	// FeatureBase is every command up to SetFeature. It is the level of a state
	// that never heard of levels.
	FeatureBase uint32 = 1

	// FeatureArchive adds Archive, DropSegment and Recall.
	FeatureArchive uint32 = 2

	// FeatureAPI adds organisations and API keys, and what the whole public API
	// needs beside them: a cost for each job, credits, the start of a run that was cancelled,
	// pauses and purges, a job's s3Config, checkpoints, the counts of an endpoint's
	// ended runs, and webhooks: from it on the end of a job with a callback begins
	// a delivery.
	FeatureAPI uint32 = 3

	// FeatureCarry adds no command: the answer to a report may carry assignments, and
	// whoever leads next must know that a lease which no statement lists can be on its
	// way (ADR 14).
	FeatureCarry uint32 = 4

	// FeatureMin and FeatureMax are what this version supports.
	FeatureMin = FeatureBase
	FeatureMax = FeatureCarry
)

// Feature is the level that a command needs.
func Feature(c *Command) uint32 {
	switch op := c.GetOp().(type) {
	case *Command_Pause, *Command_Resume, *Command_PauseEndpoint, *Command_Purge,
		*Command_PutWebhookSecret, *Command_DropWebhookSecret, *Command_RecordDelivery, *Command_Redeliver,
		*Command_ExpireOutputs, *Command_PutClusterSecret:
		return FeatureAPI
	case *Command_Submit:
		if s := op.Submit; len(s.GetS3Config()) > 0 || s.GetCallbackBase() != "" || s.GetReserve() != 0 || s.GetExpectedOutput() != 0 {
			return FeatureAPI
		}
	case *Command_Finish:
		if op.Finish.GetOutcome() == string(protocol.OutcomePaused) || op.Finish.GetCheckpoint() != nil || len(op.Finish.GetFiles()) > 0 {
			return FeatureAPI
		}
	case *Command_Archive, *Command_DropSegment, *Command_Recall:
		return FeatureArchive
	case *Command_Reopen:
		if op.Reopen.GetReserve() != 0 {
			return FeatureAPI
		}
	case *Command_PutOrg, *Command_DeleteOrg, *Command_GrantCredits, *Command_CreateKey, *Command_RotateKey, *Command_RevokeKey:
		return FeatureAPI
	case *Command_Cancel:
		if op.Cancel.GetStartedMs() != 0 || len(op.Cancel.GetFacts()) > 0 {
			return FeatureAPI
		}
	}
	return FeatureBase
}

// CommonFeature is the highest level that some coordinators support, of which each
// told the highest of its own; 0 is one that never told.
func CommonFeature(supported []uint32) uint32 {
	level := FeatureMax
	for _, top := range supported {
		level = min(level, max(top, FeatureBase))
	}
	return level
}

// FeatureError says that a cluster's feature level is outside of what this
// version supports, so that it must not take part.
type FeatureError struct {
	Level uint32 // of the cluster
}

// Error implements error; it ends with the remedy.
func (e *FeatureError) Error() string {
	return fmt.Sprintf("the cluster has feature level %d, and this version supports %d to %d: start the version that the other coordinators run",
		e.Level, FeatureMin, FeatureMax)
}

// SupportsFeature returns a *FeatureError when this version cannot take part in
// a cluster of that level. 0 is a state that never heard of levels.
func SupportsFeature(level uint32) error {
	if level = max(level, FeatureBase); level < FeatureMin || level > FeatureMax {
		return &FeatureError{Level: level}
	}
	return nil
}
