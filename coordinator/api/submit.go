package api

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// queueFullRetry is what a caller is told to wait, in seconds, when the queue is
// full: long enough that thousands of refused callers are no load, short enough
// that a drained queue does not stay empty.
const queueFullRetry = 10

// maxQueueRetry bounds what a caller is told to wait where the rate of lately
// says when the next place will be free: it may be higher again.
const maxQueueRetry = 60

// noLeaderRetry, in seconds, is the usual length of an election rounded up.
const noLeaderRetry = 2

// submit is POST /v2/endpoints/{id}/runasync (seed S0).
func (s *Server) submit(c *call) error {
	body, err := c.body()
	if err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	sub, err := s.prepare(ctx, c, body, nativeDialect)
	if err != nil {
		return err
	}
	if dry, err := c.dry(); dry || err != nil {
		if err != nil {
			return err
		}
		return s.dryRun(c, sub.endpoint, sub.cmd)
	}
	res, err := s.accept(ctx, c, sub)
	if err != nil {
		return err
	}
	return s.submitted(c, res, sub.endpoint, sub.in)
}

// prepared is a submit that was checked and can be proposed.
type prepared struct {
	in       *submission
	endpoint *state.Endpoint
	cmd      *command.Submit
	id       protocol.JobID
}

// prepare and accept are the one way of a job into the log, in both dialects:
// prepare checks a body.
func (s *Server) prepare(ctx context.Context, c *call, body []byte, d dialect) (*prepared, error) {
	in, err := parseSubmit(body, c.header(protocol.HeaderIdempotencyKey), d)
	if err != nil {
		return nil, err
	}
	endpoint, err := c.endpoint(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.schemas.check(endpoint, in.input); err != nil {
		return nil, err
	}
	if err := c.callback(in); err != nil {
		return nil, err
	}
	cmd, id, err := s.submitCommand(endpoint, in)
	if err != nil {
		return nil, err
	}
	return &prepared{in, endpoint, cmd, id}, nil
}

// accept stores the input and writes the command.
func (s *Server) accept(ctx context.Context, c *call, sub *prepared) (command.Result, error) {
	submit := &command.Command{Op: &command.Command_Submit{Submit: sub.cmd}}
	if err := s.supports(command.Feature(submit)); err != nil {
		return command.Result{}, err
	}
	if err := s.putInput(ctx, sub.cmd, sub.in.input); err != nil {
		return command.Result{}, err
	}
	res, err := s.deps.Write(ctx, submit)
	switch {
	case err != nil:
		return command.Result{}, uncertain(err, sub.id)
	case res.Code != "":
		return command.Result{}, s.refusedSubmit(c, res, sub.endpoint, sub.cmd)
	case !res.Replayed:
		s.metrics.submitted(sub.endpoint.ID, sub.in.priority)
	}
	return res, nil
}

// submitCommand chooses the job's id. Its input is added by putInput.
func (s *Server) submitCommand(e *state.Endpoint, in *submission) (*command.Submit, protocol.JobID, error) {
	id := protocol.NewJobID(time.UnixMilli(s.deps.NowMs()))
	policy := e.Doc.Policy
	cmd := &command.Submit{
		Job: id[:], Org: e.Org, Endpoint: e.ID, Priority: uint32(in.priority),
		Tags: in.tags, CallbackUrl: in.callbackURL, CallbackBase: in.callbackBase, IdempotencyKey: in.key, S3Config: in.s3Config,
		ExecutionMs:  either(in.executionMs, policy.ExecutionTimeout.Std(), protocol.DefaultExecutionTimeout),
		TtlMs:        either(in.ttlMs, policy.TTL.Std(), protocol.DefaultTTL),
		MaxAttempts:  protocol.DefaultMaxAttempts,
		MaxLosses:    protocol.DefaultMaxLosses,
		RetryTimeout: policy.RetryTimeout,
		QueueLimit:   s.deps.QueueLimit,
	}
	cmd.ExpectedOutput = s.expectedOutput(e)
	cmd.Reserve = s.reserve(s.deps.Store.View(), e, cmd.ExecutionMs)
	if policy.MaxAttempts > 0 {
		cmd.MaxAttempts = uint32(policy.MaxAttempts)
	}
	if in.key != "" {
		hash, err := payloadHash(e.ID, in)
		if err != nil {
			return nil, id, err
		}
		cmd.PayloadHash = hash[:]
	}
	return cmd, id, nil
}

// putInput stores a large input before the command that names it is proposed
// (DESIGN 3.11).
func (s *Server) putInput(ctx context.Context, cmd *command.Submit, input []byte) error {
	if len(input) <= protocol.InlineInput {
		cmd.Input = &command.Payload{Inline: input}
		return nil
	}
	digest, size, err := s.deps.Blobs.Put(ctx, bytes.NewReader(input), nil, maxInput)
	if err != nil {
		return storageError(err)
	}
	cmd.Input = &command.Payload{Sha256: digest[:], Size: size}
	return nil
}

// maxInput bounds an input: the largest body that a route takes.
const maxInput = 2 * protocol.MaxBody

func either(ms int64, of, fallback time.Duration) int64 {
	switch {
	case ms > 0:
		return ms
	case of > 0:
		return of.Milliseconds()
	}
	return fallback.Milliseconds()
}

// payloadHash is what makes two submits the same (DESIGN 4): the endpoint and
// the fields, with white space outside of strings removed. Lengths before each
// field keep them apart.
func payloadHash(endpoint string, in *submission) ([sha256.Size]byte, error) {
	var compact bytes.Buffer
	if err := json.Compact(&compact, in.input); err != nil {
		return [sha256.Size]byte{}, err
	}
	h := sha256.New()
	field := func(b []byte) {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(b)))
		h.Write(n[:])
		h.Write(b)
	}
	number := func(v int64) { field(binary.BigEndian.AppendUint64(nil, uint64(v))) }
	field([]byte(endpoint))
	field(compact.Bytes())
	field([]byte(in.callbackURL))
	number(int64(in.priority))
	number(in.executionMs)
	number(in.ttlMs)
	number(int64(len(in.tags)))
	for _, t := range in.tags {
		field([]byte(t.Key))
		field([]byte(t.Value))
	}
	if len(in.s3Config) > 0 {
		field(in.s3Config)
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

func (s *Server) submitted(c *call, res command.Result, e *state.Endpoint, in *submission) error {
	out := protocol.SubmitResponse{
		JobID: res.Job, TaskID: res.Job, Status: protocol.StatusQueued,
		EndpointID: e.ID, Priority: in.priority, CreatedAt: protocol.Time(res.CreatedMs),
		StatusURL:         c.baseURL() + "/v2/jobs/" + res.Job.String() + "/status",
		EstimatedDuration: s.estimate.duration(e.Org, e.ID),
	}
	if len(in.tags) > 0 {
		out.Tags = make(map[string]string, len(in.tags))
		for _, t := range in.tags {
			out.Tags[t.Key] = t.Value
		}
	}
	if res.Replayed {
		return c.json(&out, [2]string{protocol.HeaderReplayed, "true"})
	}
	return c.json(&out)
}

func (s *Server) refusedSubmit(c *call, res command.Result, e *state.Endpoint, cmd *command.Submit) error {
	err := refused(res)
	switch res.Code {
	case protocol.CodeQueueFull:
		s.addQueue(err, res, e)
	case protocol.CodeCredits:
		return tooFewCredits(err, res.Count, cmd.GetReserve())
	case protocol.CodeStorageLimit:
		return s.storageLimit(c.baseURL(), e.Org, cmd.GetExpectedOutput(), res.Count)
	case protocol.CodeEndpointNotFound:
		return endpointNotFound(e.ID)
	case protocol.CodeIdempotencyReused:
		err.With("field", "idempotencyKey").With("reason", "The key was used before with another payload").With("jobId", res.Job)
	}
	return err
}

// addQueue says which limit is reached and how long the queue is (seed S0), in
// jobs and, when jobs ended lately, in seconds.
func (s *Server) addQueue(err *protocol.Error, res command.Result, e *state.Endpoint) {
	err.With("limit", res.Limit)
	waiting, of := int(res.Count), ""
	switch res.Limit {
	case command.LimitEndpoint:
		of = e.ID
	case command.LimitMemory:
		waiting = s.deps.Store.View().Queued(e.Org)
		err.With("memoryBytes", res.Count)
	}
	retry := queueFullRetry
	if rate := s.estimate.rate(e.Org, of, s.deps.NowMs()); rate > 0 {
		err.With("estimatedWait", int64(math.Ceil(float64(waiting)/rate)))
		retry = int(min(max(math.Ceil(1/rate), 1), maxQueueRetry))
	}
	err.With("queueSize", waiting).With("retryAfter", retry)
}

// refused is the error of a command that was applied and found refused.
func refused(res command.Result) *protocol.Error {
	message := cmp.Or(res.Message, "The request was refused")
	if res.Code == protocol.CodeQueueFull {
		message = "Job queue is at capacity: " + strings.ToLower(message[:1]) + message[1:]
	}
	return protocol.NewError(res.Code, message)
}

// noLeader completes the error of a coordinator that cannot write: nothing was
// written, so the caller may send the same request again.
func noLeader(err *protocol.Error) error {
	e := *err
	e.Details = map[string]any{"retryAfter": noLeaderRetry, "outcome": "none"}
	for k, v := range err.Details {
		e.Details[k] = v
	}
	return &e
}

// uncertain completes the error of a write. When it may have happened, the job
// id tells the caller what to look for (DESIGN 4).
func uncertain(err error, id protocol.JobID) error {
	var e *protocol.Error
	switch {
	case errors.As(err, &e) && e.Code != protocol.CodeNoLeader && e.Code != protocol.CodeUnavailable:
		return err
	case errors.As(err, &e) && e.Details["outcome"] != "unknown":
		return noLeader(e)
	case e == nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled):
		return err
	}
	out := protocol.NewError(protocol.CodeNoLeader, "The write may or may not have happened: no coordinator has confirmed it yet").
		With("outcome", "unknown").With("retryAfter", noLeaderRetry)
	if !id.IsZero() {
		out.With("jobId", id)
	}
	return out
}

func unavailable(message string) error {
	return protocol.NewError(protocol.CodeUnavailable, message).With("retryAfter", noLeaderRetry)
}

// storageError is the answer to a blob that could not be stored.
func storageError(err error) error {
	switch {
	case errors.Is(err, blob.ErrFull):
		return protocol.NewError(protocol.CodeStorageLimit, "The coordinator's disk is too full to store the payload")
	case errors.Is(err, blob.ErrTooLarge):
		return protocol.NewError(protocol.CodeTooLarge, "The payload is too large").With("field", "body")
	case errors.Is(err, blob.ErrMismatch):
		return protocol.Invalid("sha256", nil, "The bytes do not have this digest")
	case errors.Is(err, blob.ErrNoMajority), errors.Is(err, blob.ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return protocol.NewError(protocol.CodeUnavailable, "The payload cannot be stored safely at the moment, and nothing was accepted").
			With("outcome", "none").With("retryAfter", noLeaderRetry)
	}
	return err
}
