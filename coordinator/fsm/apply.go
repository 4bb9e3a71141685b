package fsm

import (
	"fmt"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// step applies the commands of one log.
type step struct {
	txn   *state.Txn
	index uint64
	clock int64

	checkpoint bool // the state after this log is one to compare
}

// apply applies one batch and reports whether it holds a checkpoint.
func apply(txn *state.Txn, index uint64, batch *command.Batch) ([]command.Result, bool) {
	s := step{txn: txn, index: index, clock: txn.Clock(batch.GetClockMs())}
	results := make([]command.Result, len(batch.GetCommands()))
	for i, c := range batch.GetCommands() {
		results[i] = s.one(c)
		results[i].Index = index
	}
	return results, s.checkpoint
}

func (s *step) one(c *command.Command) command.Result {
	switch op := c.GetOp().(type) {
	case *command.Command_Submit:
		return s.submit(op.Submit)
	case *command.Command_Lease:
		return s.lease(op.Lease)
	case *command.Command_Finish:
		return s.finish(op.Finish)
	case *command.Command_Release:
		return s.release(op.Release)
	case *command.Command_ExpireTtl:
		return s.expire(op.ExpireTtl)
	case *command.Command_Cancel:
		return s.cancel(op.Cancel)
	case *command.Command_Reopen:
		return s.reopen(op.Reopen)
	case *command.Command_Register:
		return s.register(op.Register)
	case *command.Command_Adopt:
		return s.adopt(op.Adopt)
	case *command.Command_PutEndpoint:
		return s.putEndpoint(op.PutEndpoint)
	case *command.Command_DeleteEndpoint:
		return s.deleteEndpoint(op.DeleteEndpoint)
	case *command.Command_PutOrg:
		return s.putOrg(op.PutOrg)
	case *command.Command_GrantCredits:
		return s.grantCredits(op.GrantCredits)
	case *command.Command_DeleteOrg:
		return s.deleteOrg(op.DeleteOrg)
	case *command.Command_CreateKey:
		return s.createKey(op.CreateKey)
	case *command.Command_RotateKey:
		return s.rotateKey(op.RotateKey)
	case *command.Command_RevokeKey:
		return s.revokeKey(op.RevokeKey)
	case *command.Command_Evict:
		return s.evict(op.Evict)
	case *command.Command_PutSettings:
		return s.putSettings(op.PutSettings)
	case *command.Command_Archive:
		return s.archive(op.Archive)
	case *command.Command_DropSegment:
		return s.dropSegment(op.DropSegment)
	case *command.Command_Recall:
		return s.recall(op.Recall)
	case *command.Command_Pause:
		return s.pause(op.Pause)
	case *command.Command_Resume:
		return s.resume(op.Resume)
	case *command.Command_PauseEndpoint:
		return s.pauseEndpoint(op.PauseEndpoint)
	case *command.Command_Purge:
		return s.purge(op.Purge)
	case *command.Command_PutWebhookSecret:
		return s.putSecret(op.PutWebhookSecret)
	case *command.Command_DropWebhookSecret:
		return s.dropSecret(op.DropWebhookSecret)
	case *command.Command_RecordDelivery:
		return s.recordDelivery(op.RecordDelivery)
	case *command.Command_Redeliver:
		return s.redeliver(op.Redeliver)
	case *command.Command_ExpireOutputs:
		return s.expireOutputs()
	case *command.Command_PutClusterSecret:
		return s.putClusterSecret(op.PutClusterSecret)
	case *command.Command_Checkpoint:
		s.checkpoint = true
		return replayed()
	case *command.Command_SetFeature:
		return s.setFeature(op.SetFeature)
	}
	panic(fmt.Errorf("cannot apply command %T: %w", c.GetOp(), command.ErrUnknown))
}

// refuse is the answer of a command that changed nothing.
func refuse(code protocol.Code, message string) command.Result {
	return command.Result{Code: code, Message: message}
}

// replayed is the answer of a command that had been applied before.
func replayed() command.Result { return command.Result{Replayed: true} }

// copyOf returns a job row to change and put.
func (s *step) copyOf(j *state.Job) *state.Job {
	n := *j
	n.Index = s.index
	return &n
}

// live says whether the agent is registered with that incarnation; if not, the
// result refuses.
func (s *step) live(agent protocol.AgentID, incarnation protocol.Incarnation) (command.Result, bool) {
	a := s.txn.Agent(agent)
	if a == nil {
		return refuse(protocol.CodeUnknownAgent, "The agent is not registered"), false
	}
	if a.Incarnation != incarnation {
		return refuse(protocol.CodeStaleIncarnation, "Another life of this agent is registered"), false
	}
	return command.Result{}, true
}

func payload(p *command.Payload) state.Payload {
	if len(p.GetSha256()) == 0 {
		return state.Payload{Inline: p.GetInline()}
	}
	return state.Payload{Ref: &state.Blob{SHA256: [32]byte(p.GetSha256()), Size: p.GetSize()}}
}
