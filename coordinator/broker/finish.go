package broker

import (
	"cmp"
	"encoding/hex"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

const (
	// backOffFirst and backOffMax bound the wait before a retry, in milliseconds:
	// full jitter below first * 2^failures.
	backOffFirst = 1_000
	backOffMax   = 60_000
)

// encoded is one result as a command, or why it cannot be one.
type encoded struct {
	command *command.Command // holds finish
	finish  *command.Finish
	code    protocol.Code
}

// finishParts is one allocation instead of three: there is one for every job.
type finishParts struct {
	command command.Command
	op      command.Command_Finish
	finish  command.Finish
}

// encodeFinishes turns results into commands, outside the lock. Times become
// absolute by the leader's clock.
func encodeFinishes(req *protocol.ReportRequest, nowMs int64) []encoded {
	out := make([]encoded, len(req.Finished))
	for i := range req.Finished {
		out[i] = encodeFinish(req, &req.Finished[i], nowMs)
	}
	return out
}

func encodeFinish(req *protocol.ReportRequest, f *protocol.Finish, nowMs int64) encoded {
	facts, err := encodeFacts(f)
	if err != nil {
		return encoded{code: protocol.CodeValidation}
	}
	p := &finishParts{finish: command.Finish{
		Job: f.Job[:], Attempt: f.Attempt, Agent: req.Agent[:], Incarnation: req.Incarnation[:],
		Outcome: string(f.Outcome), Retryable: f.Retryable, Partial: f.Partial, Facts: facts,
		EndedMs: nowMs - max(f.EndedMs, 0),
	}}
	c := &p.finish
	p.op.Finish = c
	p.command.Op = &p.op
	if f.RunMs > 0 {
		c.StartedMs = c.EndedMs - f.RunMs
	}
	ok := [4]bool{}
	c.Output, ok[0] = payload(f.Output, f.OutputRef)
	c.Logs, ok[1] = payload(f.Logs, f.LogsRef)
	c.Chunks, ok[2] = payload(f.Chunks, f.ChunksRef)
	c.Checkpoint, ok[3] = payload(f.Checkpoint, f.CheckpointRef)
	if f.Error != nil {
		c.ErrorCode, c.ErrorMessage = string(f.Error.Code), f.Error.Message
		if len(f.Error.Details) > 0 {
			c.ErrorDetails, err = protocol.EncodeJSON(f.Error.Details)
		}
	}
	if c.Files, err = encodeFiles(f.Files, err); err != nil || ok != [4]bool{true, true, true, true} {
		return encoded{code: protocol.CodeValidation}
	}
	// One bad result must not take the group with it.
	if command.Check(&p.command) != nil {
		return encoded{code: protocol.CodeValidation}
	}
	return encoded{command: &p.command, finish: c}
}

// encodeFiles leaves names and numbers to command.Check; failed is passed on.
func encodeFiles(files []protocol.OutputFile, failed error) ([]*command.File, error) {
	var out []*command.File
	for i := range files {
		sum, err := hex.DecodeString(files[i].SHA256)
		failed = cmp.Or(failed, err)
		out = append(out, &command.File{Name: files[i].Name, Sha256: sum, Size: files[i].Size})
	}
	return out, failed
}

// encodeFacts spares short jobs, which measured nothing, the encoder.
func encodeFacts(f *protocol.Finish) ([]byte, error) {
	if f.ColdStart == nil && f.Usage == nil && f.Progress == nil && len(f.Metrics) == 0 {
		return []byte("{}"), nil
	}
	return protocol.EncodeJSON(state.Facts{ColdStart: f.ColdStart, Usage: f.Usage, Progress: f.Progress, Metrics: f.Metrics})
}

func payload(inline []byte, ref *protocol.BlobRef) (*command.Payload, bool) {
	if ref == nil {
		if len(inline) == 0 {
			return nil, true
		}
		return &command.Payload{Inline: inline}, true
	}
	sum, err := hex.DecodeString(ref.SHA256)
	if err != nil || len(sum) != 32 {
		return nil, false
	}
	return &command.Payload{Sha256: sum, Size: ref.Size}, true
}

func hexOf(sum [32]byte) string { return hex.EncodeToString(sum[:]) }

// backOff is when a failed job may be tried again; 0 when it is not a retry.
func (t *term) backOff(j *state.Job, f *protocol.Finish) int64 {
	retry := f.Outcome == protocol.OutcomeFailed && f.Retryable || f.Outcome == protocol.OutcomeTimeout && j.RetryTimeout
	if !retry {
		return 0
	}
	limit := int64(backOffMax)
	if j.Failures < 6 {
		limit = min(limit, backOffFirst<<j.Failures)
	}
	return t.cfg.NowMs() + t.draw(limit) + 1
}
