package protocol

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
)

// jsonAppender is a document that writes its own JSON. Every job is in three of
// them, and reflection would be a sixth of the coordinator's processor time.
// The bytes are those of encoding/json without HTML escaping.
type jsonAppender interface {
	appendJSON(b []byte) ([]byte, error)
}

var (
	_ jsonAppender = (*SubmitResponse)(nil)
	_ jsonAppender = (*SyncResponse)(nil)
	_ jsonAppender = (*ReportResponse)(nil)
)

// shortJSON is room for a document or list element without payloads, so that
// most are written without growing.
const shortJSON = 384

// shortReply is room for the answer to one attempt.
const shortReply = 96

func (r *SubmitResponse) appendJSON(b []byte) ([]byte, error) {
	b = slices.Grow(b, shortJSON)
	b = r.JobID.appendQuoted(append(b, `{"jobId":`...))
	b = r.TaskID.appendQuoted(append(b, `,"taskId":`...))
	b = appendName(append(b, `,"status":`...), r.Status.String())
	b, err := appendText(append(b, `,"endpointId":`...), r.EndpointID)
	b = appendName(append(b, `,"priority":`...), r.Priority.String())
	if err == nil && r.EstimatedDuration != nil {
		b, err = appendFloat(append(b, `,"estimatedDuration":`...), *r.EstimatedDuration)
	}
	b = append(b, `,"createdAt":`...)
	if r.CreatedAt == 0 {
		b = append(b, "null"...)
	} else {
		b = r.CreatedAt.AppendJSON(b)
	}
	if err == nil {
		b, err = appendText(append(b, `,"statusUrl":`...), r.StatusURL)
	}
	if err == nil && len(r.Tags) > 0 {
		b, err = appendAny(append(b, `,"tags":`...), r.Tags)
	}
	return append(b, '}'), err
}

func (r *SyncResponse) appendJSON(b []byte) ([]byte, error) {
	var err error
	b = slices.Grow(b, roomFor(r.Assign))
	b = strconv.AppendUint(append(b, `{"seq":`...), r.Seq, 10)
	b = strconv.AppendInt(append(b, `,"parkedMs":`...), r.ParkedMs, 10)
	if len(r.Assign) > 0 {
		b, err = appendList(append(b, `,"assign":`...), r.Assign, (*Assignment).appendJSON)
	}
	if err == nil && len(r.Stop) > 0 {
		b, err = appendList(append(b, `,"stop":`...), r.Stop, (*StopAttempt).appendJSON)
	}
	if err == nil && len(r.Endpoints) > 0 {
		b, err = appendAny(append(b, `,"endpoints":`...), r.Endpoints)
	}
	if r.Drain {
		b = append(b, `,"drain":true`...)
	}
	b = strconv.AppendInt(append(b, `,"holdMs":`...), r.HoldMs, 10)
	b = strconv.AppendInt(append(b, `,"spreadMs":`...), r.SpreadMs, 10)
	if err == nil && r.Leader != "" {
		b, err = appendText(append(b, `,"leader":`...), r.Leader)
	}
	return append(b, '}'), err
}

// roomFor is the usual size of a document with these assignments.
func roomFor(list []Assignment) int {
	room := shortJSON
	for i := range list {
		room += shortJSON + len(list[i].Input)
	}
	return room
}

func (a *Assignment) appendJSON(b []byte) ([]byte, error) {
	b = a.Job.appendQuoted(append(b, `{"job":`...))
	b = strconv.AppendUint(append(b, `,"attempt":`...), uint64(a.Attempt), 10)
	b, err := appendText(append(b, `,"endpoint":`...), a.Endpoint)
	b = strconv.AppendUint(append(b, `,"revision":`...), a.Revision, 10)
	if err == nil {
		b, err = appendText(append(b, `,"org":`...), a.Org)
	}
	b = appendName(append(b, `,"priority":`...), a.Priority.String())
	if len(a.Input) > 0 {
		b = appendCompact(append(b, `,"input":`...), a.Input)
	}
	if err == nil && a.InputBlob != "" {
		b, err = appendText(append(b, `,"inputBlob":`...), a.InputBlob)
	}
	if a.InputSize != 0 {
		b = strconv.AppendInt(append(b, `,"inputSize":`...), a.InputSize, 10)
	}
	b = strconv.AppendInt(append(b, `,"executionMs":`...), a.ExecutionMs, 10)
	if len(a.Checkpoint) > 0 {
		b = appendCompact(append(b, `,"checkpoint":`...), a.Checkpoint)
	}
	if err == nil && a.CheckpointBlob != "" {
		b, err = appendText(append(b, `,"checkpointBlob":`...), a.CheckpointBlob)
	}
	if a.CheckpointSize != 0 {
		b = strconv.AppendInt(append(b, `,"checkpointSize":`...), a.CheckpointSize, 10)
	}
	if len(a.S3Config) > 0 {
		b = appendCompact(append(b, `,"s3Config":`...), a.S3Config)
	}
	return append(b, '}'), err
}

func (s *StopAttempt) appendJSON(b []byte) ([]byte, error) {
	b = s.Job.appendQuoted(append(b, `{"job":`...))
	b = strconv.AppendUint(append(b, `,"attempt":`...), uint64(s.Attempt), 10)
	b, err := appendText(append(b, `,"reason":`...), string(s.Reason))
	return append(b, '}'), err
}

func (r *ReportResponse) appendJSON(b []byte) ([]byte, error) {
	var err error
	b = append(slices.Grow(b, roomFor(r.Assign)+len(r.Attempts)*shortReply), '{')
	if len(r.Attempts) > 0 {
		b, err = appendList(append(b, `"attempts":`...), r.Attempts, (*AttemptReply).appendJSON)
		b = append(b, ',')
	}
	if err == nil && len(r.Assign) > 0 {
		b, err = appendList(append(b, `"assign":`...), r.Assign, (*Assignment).appendJSON)
		b = append(b, ',')
	}
	if err == nil && len(r.Stop) > 0 {
		b, err = appendList(append(b, `"stop":`...), r.Stop, (*StopAttempt).appendJSON)
		b = append(b, ',')
	}
	if err == nil && len(r.Endpoints) > 0 {
		b, err = appendAny(append(b, `"endpoints":`...), r.Endpoints)
		b = append(b, ',')
	}
	if r.Resync {
		b = append(b, `"resync":true,`...)
	}
	b = strconv.AppendInt(append(b, `"beatMs":`...), r.BeatMs, 10)
	if err == nil && r.Leader != "" {
		b, err = appendText(append(b, `,"leader":`...), r.Leader)
	}
	return append(b, '}'), err
}

func (r *AttemptReply) appendJSON(b []byte) ([]byte, error) {
	var err error
	b = r.Job.appendQuoted(append(b, `{"job":`...))
	b = strconv.AppendUint(append(b, `,"attempt":`...), uint64(r.Attempt), 10)
	if r.Finished {
		b = append(b, `,"finished":true`...)
	}
	if r.Code != "" {
		b, err = appendText(append(b, `,"code":`...), string(r.Code))
	}
	if r.NextLog != 0 {
		b = strconv.AppendUint(append(b, `,"nextLog":`...), r.NextLog, 10)
	}
	if r.NextChunk != 0 {
		b = strconv.AppendUint(append(b, `,"nextChunk":`...), r.NextChunk, 10)
	}
	return append(b, '}'), err
}

func appendList[T any](b []byte, list []T, one func(*T, []byte) ([]byte, error)) ([]byte, error) {
	b = append(b, '[')
	for i := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = one(&list[i], b); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// appendName writes a word of ours, which has nothing to escape.
func appendName(b []byte, name string) []byte {
	return append(append(append(b, '"'), name...), '"')
}

// appendText writes a string; what needs more than quotes goes the long way.
func appendText(b []byte, s string) ([]byte, error) {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return appendAny(b, s)
		}
	}
	return appendName(b, s), nil
}

// appendFloat writes the numbers that encoding/json writes without exponent.
func appendFloat(b []byte, f float64) ([]byte, error) {
	if a := math.Abs(f); a != 0 && (!(a >= 1e-6) || a >= 1e21) {
		return appendAny(b, f)
	}
	return strconv.AppendFloat(b, f, 'f', -1, 64), nil
}

func appendAny(b []byte, v any) ([]byte, error) {
	text, err := EncodeJSON(v)
	return append(b, text...), err
}

// appendCompact writes a JSON value without the white space between its tokens.
// The value was checked when it arrived, so it is not checked again.
func appendCompact(b []byte, raw json.RawMessage) []byte {
	start := 0
	for i := 0; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			i = textEnd(raw, i)
		case ' ', '\t', '\n', '\r':
			b = append(b, raw[start:i]...)
			start = i + 1
		}
	}
	return append(b, raw[start:]...)
}

// textEnd returns the closing quote of the string that opens at i: the first
// one that an even number of backslashes stands before.
func textEnd(raw []byte, i int) int {
	for open := i; ; {
		n := bytes.IndexByte(raw[i+1:], '"')
		if n < 0 {
			return len(raw)
		}
		i += 1 + n
		before := i
		for before > open && raw[before-1] == '\\' {
			before--
		}
		if (i-before)%2 == 0 {
			return i
		}
	}
}
