package fsm

import (
	"cmp"
	"fmt"
	"math"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// keyTermMs is how long an idempotency key outlives the end of its job (DESIGN 4).
const keyTermMs = 24 * 60 * 60 * 1000

func (s *step) submit(c *command.Submit) command.Result {
	id := protocol.JobID(c.GetJob())
	if j := s.txn.Job(id); j != nil {
		if j.Org != c.GetOrg() || j.Target != c.GetEndpoint() {
			return refuse(protocol.CodeConflict, "The id belongs to another job")
		}
		return command.Result{Job: id, CreatedMs: j.CreatedMs, Replayed: true}
	}
	if r, bound := s.bound(c); bound {
		return r
	}
	e := s.txn.Endpoint(c.GetOrg(), c.GetEndpoint())
	j, key, r := s.admit(c, e)
	if r.Code != "" {
		return r
	}
	j.Reserved = s.reserve(e.Org, c.GetReserve())
	j.Seq = s.txn.NextSeq()
	s.txn.PutJob(j)
	if key != nil {
		s.txn.PutKey(key)
	}
	return command.Result{Job: id, CreatedMs: j.CreatedMs, Run: j.Run}
}

// Admit says how a submit would be answered at a view, and changes nothing.
func Admit(v *state.View, c *command.Submit) command.Result {
	s := &step{txn: v.Reading(), clock: v.ClockMs()}
	if r, bound := s.bound(c); bound {
		return r
	}
	_, _, r := s.admit(c, s.txn.Endpoint(c.GetOrg(), c.GetEndpoint()))
	return r
}

// admit checks everything that can refuse a new job, and makes its rows.
func (s *step) admit(c *command.Submit, e *state.Endpoint) (*state.Job, *state.Key, command.Result) {
	if e == nil {
		return nil, nil, refuse(protocol.CodeEndpointNotFound, "The endpoint does not exist")
	}
	j := s.newJob(c, e)
	key := s.newKey(c, e)
	size := j.Size()
	if key != nil {
		size += key.Size()
	}
	if r, full := s.queueFull(e, int(c.GetQueueLimit())); full {
		return nil, nil, r
	}
	if r, full := s.storageFull(c); full {
		return nil, nil, r
	}
	if limit := s.txn.Settings().MaxBytes; limit > 0 && s.txn.Bytes()+size > limit {
		return nil, nil, full(command.LimitMemory, s.txn.Bytes(), "The coordinators' memory for jobs is full")
	}
	return j, key, s.affordable(e.Org, c.GetReserve())
}

// bound answers a submit whose idempotency key names a job already.
func (s *step) bound(c *command.Submit) (command.Result, bool) {
	if c.GetIdempotencyKey() == "" {
		return command.Result{}, false
	}
	k := s.txn.Key(c.GetOrg(), c.GetEndpoint(), c.GetIdempotencyKey())
	if k == nil || k.Expired(s.clock) {
		return command.Result{}, false
	}
	if k.Hash != [32]byte(c.GetPayloadHash()) {
		return refuse(protocol.CodeIdempotencyReused, "The idempotency key was used with another payload"), true
	}
	// Of a job that left memory; a version before did not keep when it came.
	created := cmp.Or(k.CreatedMs, int64(k.Job.CreatedAt()))
	if j := s.txn.Job(k.Job); j != nil {
		created = j.CreatedMs
	}
	return command.Result{Job: k.Job, CreatedMs: created, Replayed: true}, true
}

// queueFull checks the counted limits. The organisation's own goes before the
// given one, 0 is the default.
func (s *step) queueFull(e *state.Endpoint, limit int) (command.Result, bool) {
	if own := s.txn.QueueLimit(e.Org); own > 0 {
		limit = int(own)
	}
	if limit == 0 {
		limit = protocol.MaxQueueOrg
	}
	if queued := s.txn.Queued(e.Org); queued >= limit {
		return full(command.LimitOrg, int64(queued), fmt.Sprintf("%d jobs of this organisation wait already", queued)), true
	}
	if l := e.Doc.QueueLimit; l > 0 && e.Queued >= l {
		return full(command.LimitEndpoint, int64(e.Queued), fmt.Sprintf("%d jobs of this endpoint wait already", e.Queued)), true
	}
	return command.Result{}, false
}

func full(limit string, count int64, message string) command.Result {
	r := refuse(protocol.CodeQueueFull, message)
	r.Limit, r.Count = limit, count
	return r
}

func (s *step) newJob(c *command.Submit, e *state.Endpoint) *state.Job {
	j := &state.Job{
		ID:           protocol.JobID(c.GetJob()),
		Index:        s.index,
		Org:          e.Org, // the endpoint's strings, so that all its jobs share them
		Target:       e.ID,
		CreatedMs:    s.clock,
		TTLMs:        c.GetTtlMs(),
		ExecutionMs:  c.GetExecutionMs(),
		Input:        payload(c.GetInput()),
		Run:          1,
		MaxAttempts:  bound16(c.GetMaxAttempts(), protocol.DefaultMaxAttempts),
		MaxLosses:    bound16(c.GetMaxLosses(), protocol.DefaultMaxLosses),
		Status:       protocol.StatusQueued,
		Priority:     protocol.Priority(c.GetPriority()),
		RetryTimeout: c.GetRetryTimeout(),
	}
	if len(c.GetTags()) > 0 || c.GetCallbackUrl() != "" || c.GetIdempotencyKey() != "" || len(c.GetS3Config()) > 0 {
		j.Extra = &state.Extra{CallbackURL: c.GetCallbackUrl(), CallbackBase: c.GetCallbackBase(), IdempotencyKey: c.GetIdempotencyKey(), S3Config: c.GetS3Config()}
		for _, t := range c.GetTags() {
			j.Extra.Tags = append(j.Extra.Tags, state.Tag{Key: t.GetKey(), Value: t.GetValue()})
		}
	}
	return j
}

func (s *step) newKey(c *command.Submit, e *state.Endpoint) *state.Key {
	if c.GetIdempotencyKey() == "" {
		return nil
	}
	return &state.Key{
		Org: e.Org, Endpoint: e.ID, Key: c.GetIdempotencyKey(),
		Job: protocol.JobID(c.GetJob()), Hash: [32]byte(c.GetPayloadHash()),
	}
}

// holdKey keeps the job's idempotency key while the job lives, or lets it
// expire after the job ended.
func (s *step) holdKey(j *state.Job) {
	if j.Extra == nil || j.Extra.IdempotencyKey == "" {
		return
	}
	k := s.txn.Key(j.Org, j.Target, j.Extra.IdempotencyKey)
	if k == nil || k.Job != j.ID {
		return // it expired, and may name a later job
	}
	n := *k
	n.ExpiresMs, n.CreatedMs = 0, 0
	if !j.Live() {
		n.ExpiresMs = s.clock + keyTermMs
	}
	s.txn.PutKey(&n)
}

// bound16 fits a limit into the row; 0 is the default.
func bound16(n, standard uint32) uint16 {
	if n == 0 {
		n = standard
	}
	return uint16(min(n, math.MaxUint16-1))
}
