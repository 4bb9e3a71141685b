package main

import (
	"fmt"
	"strings"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// short is the end of an id, which is enough to tell jobs of one run apart.
func short(id []byte) string {
	if len(id) != len(protocol.JobID{}) {
		return "?"
	}
	text := protocol.JobID(id).String()
	return text[len(text)-6:]
}

func attempts(list []protocol.HeldAttempt) string {
	var out []string
	for _, k := range list {
		out = append(out, fmt.Sprintf("%s/%d", short(k.Job[:]), k.Attempt))
	}
	return "[" + strings.Join(out, " ") + "]"
}

// words is a command as a line of a history.
func words(c *command.Command) string {
	switch op := c.GetOp().(type) {
	case *command.Command_Submit:
		s := op.Submit
		return fmt.Sprintf("submit %s to %s priority %d key %q ttl %d", short(s.GetJob()), s.GetEndpoint(), s.GetPriority(), s.GetIdempotencyKey(), s.GetTtlMs())
	case *command.Command_Lease:
		l := op.Lease
		return fmt.Sprintf("lease %s/%d to %s life %s: %s", short(l.GetJob()), l.GetExpectAttempt()+1, short(l.GetAgent()), short(l.GetIncarnation()), l.GetReason())
	case *command.Command_Adopt:
		a := op.Adopt
		return fmt.Sprintf("adopt %s/%d by %s life %s", short(a.GetJob()), a.GetFromAttempt()+1, short(a.GetAgent()), short(a.GetIncarnation()))
	case *command.Command_Finish:
		f := op.Finish
		return fmt.Sprintf("finish %s/%d by %s life %s: %s", short(f.GetJob()), f.GetAttempt(), short(f.GetAgent()), short(f.GetIncarnation()), f.GetOutcome())
	case *command.Command_Release:
		r := op.Release
		return fmt.Sprintf("release %s/%d of %s: %s, %s", short(r.GetJob()), r.GetAttempt(), short(r.GetAgent()), r.GetReason(), r.GetDetail())
	case *command.Command_ExpireTtl:
		return "expire " + short(op.ExpireTtl.GetJob())
	case *command.Command_Cancel:
		return "cancel " + short(op.Cancel.GetJob())
	case *command.Command_Reopen:
		return fmt.Sprintf("reopen %s after run %d", short(op.Reopen.GetJob()), op.Reopen.GetExpectRun())
	case *command.Command_Register:
		r := op.Register
		var held []protocol.HeldAttempt
		for _, h := range r.GetHeld() {
			held = append(held, protocol.HeldAttempt{Job: protocol.JobID(h.GetJob()), Attempt: h.GetAttempt()})
		}
		return fmt.Sprintf("register %s life %s with %s", short(r.GetAgent()), short(r.GetIncarnation()), attempts(held))
	case *command.Command_Evict:
		return fmt.Sprintf("evict %d jobs", len(op.Evict.GetJobs()))
	case *command.Command_Archive:
		a := op.Archive
		return fmt.Sprintf("archive %d jobs in segment %d, which replaces %v", len(a.GetJobs()), a.GetNumber(), a.GetReplaces())
	case *command.Command_DropSegment:
		return fmt.Sprintf("drop segments %v", op.DropSegment.GetNumbers())
	case *command.Command_Recall:
		return fmt.Sprintf("recall %s, known segment %d", short(op.Recall.GetJob()), op.Recall.GetNewest())
	case *command.Command_Pause:
		return "pause " + short(op.Pause.GetJob())
	case *command.Command_Resume:
		return "resume " + short(op.Resume.GetJob())
	case *command.Command_PauseEndpoint:
		return fmt.Sprintf("pause endpoint %s: %t", op.PauseEndpoint.GetId(), op.PauseEndpoint.GetPaused())
	case *command.Command_Purge:
		return fmt.Sprintf("purge %d jobs of %s", len(op.Purge.GetJobs()), op.Purge.GetEndpoint())
	case *command.Command_SetFeature:
		return fmt.Sprintf("feature level %d", op.SetFeature.GetLevel())
	case *command.Command_PutEndpoint:
		return fmt.Sprintf("put %s %s", op.PutEndpoint.GetId(), op.PutEndpoint.GetDoc())
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", c.GetOp()), "*command.Command_")
}

// answerOf is a result as a line of a history.
func answerOf(r *command.Result) string {
	switch {
	case r.Code != "":
		return string(r.Code)
	case r.Replayed:
		return "done before"
	case r.Current != nil:
		return "done, current " + attempts(r.Current)
	}
	return "done"
}
