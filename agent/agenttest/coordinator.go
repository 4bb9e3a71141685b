// Package agenttest is a coordinator in memory, for tests of agents: one table
// of jobs, the fence, long polls, and faults on the way.
package agenttest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"windlass/protocol"
)

// ErrLost is what a call ends with when a fault cut the connection.
var ErrLost = errors.New("connection lost")

// Fault is what happens to one call.
type Fault struct {
	LoseRequest bool          // it never arrives
	LoseReply   bool          // it takes effect, its answer does not arrive
	DelayReply  time.Duration // its answer arrives late
	Twice       bool          // it arrives twice
}

// Job is one job as the coordinator knows it.
type Job struct {
	ID       protocol.JobID
	Endpoint string
	Input    json.RawMessage
	Timeout  time.Duration

	Attempt  uint32
	Leased   bool   // holds a lease
	Acked    bool   // the agent said that it holds it
	Report   uint64 // number of the report whose answer assigned it; 0: a sync's did
	Started  bool
	Cancel   bool
	Finish   *protocol.Finish
	Finishes int // how many times a result was accepted
	Refused  int // how many results and rejections the fence refused
	Lost     int // how many assignments did not arrive
	Rejects  []string
	Logs     []protocol.LogLine
	Chunks   []json.RawMessage
	Soft     protocol.AttemptUpdate // the newest
}

// Coordinator implements agent.Coordinator.
type Coordinator struct {
	mu          sync.Mutex
	changed     chan struct{}
	docs        map[string]protocol.Endpoint
	jobs        map[protocol.JobID]*Job
	order       []protocol.JobID
	blobs       map[string][]byte
	quota       int64 // of one result; 0: none
	grants      []protocol.GrantRequest
	agent       protocol.AgentID
	incarnation protocol.Incarnation
	seq         uint64
	holdOver    uint64 // syncs up to here are not held
	stated      uint64 // number of the newest report
	byReport    bool   // assignments come with answers to reports alone
	resync      bool
	terms       protocol.RegisterResponse
	fault       func(call string) Fault
	mangle      func(*protocol.SyncResponse)
	registers   []protocol.RegisterRequest
	syncs       int
}

// New returns an empty coordinator with short terms.
func New() *Coordinator {
	return &Coordinator{
		changed: make(chan struct{}), docs: make(map[string]protocol.Endpoint), jobs: make(map[protocol.JobID]*Job),
		blobs: make(map[string][]byte),
		terms: protocol.RegisterResponse{
			HoldMs: protocol.SyncHold.Milliseconds(), BeatMs: protocol.BeatPeriod.Milliseconds(),
			LeaseMs: protocol.LeaseTerm.Milliseconds(), AckMs: protocol.AckDeadline.Milliseconds(),
		},
	}
}

// SetFault decides about every further call; call is register, sync or report.
func (c *Coordinator) SetFault(f func(call string) Fault) { c.do(func() { c.fault = f }) }

// SetMangle changes answers to syncs on their way.
func (c *Coordinator) SetMangle(f func(*protocol.SyncResponse)) { c.do(func() { c.mangle = f }) }

// AssignByReport makes answers to reports the only ones that assign jobs, but for
// those that such an answer did not bring.
func (c *Coordinator) AssignByReport() { c.do(func() { c.byReport = true }) }

// EndHold answers the parked sync with nothing, as at the end of its hold.
func (c *Coordinator) EndHold() { c.do(func() { c.holdOver = c.seq }) }

// Forget makes the coordinator lose the agent's registration.
func (c *Coordinator) Forget() { c.do(func() { c.incarnation = protocol.Incarnation{} }) }

// PutEndpoint adds a document.
func (c *Coordinator) PutEndpoint(doc protocol.Endpoint) { c.do(func() { c.docs[doc.ID] = doc }) }

// Submit queues a job.
func (c *Coordinator) Submit(endpoint, input string) protocol.JobID {
	id := protocol.NewJobID(time.Now())
	c.do(func() {
		c.jobs[id] = &Job{ID: id, Endpoint: endpoint, Input: json.RawMessage(input), Timeout: time.Minute}
		c.order = append(c.order, id)
	})
	return id
}

// Edit changes a job under the lock.
func (c *Coordinator) Edit(id protocol.JobID, f func(*Job)) { c.do(func() { f(c.jobs[id]) }) }

// Job returns a copy of a job.
func (c *Coordinator) Job(id protocol.JobID) Job {
	c.mu.Lock()
	defer c.mu.Unlock()
	return *c.jobs[id]
}

// Registers returns the registrations so far.
func (c *Coordinator) Registers() []protocol.RegisterRequest {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]protocol.RegisterRequest(nil), c.registers...)
}

// Syncs counts the syncs that arrived.
func (c *Coordinator) Syncs() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.syncs
}

// Blob returns a stored blob.
func (c *Coordinator) Blob(sum string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.blobs[sum]
}

// Collect removes every blob that no accepted result names, as a coordinator
// does after a while.
func (c *Coordinator) Collect() {
	c.do(func() {
		kept := map[string][]byte{}
		for _, j := range c.jobs {
			if f := j.Finish; f != nil {
				for _, ref := range []*protocol.BlobRef{f.OutputRef, f.LogsRef, f.ChunksRef} {
					if ref != nil {
						kept[ref.SHA256] = c.blobs[ref.SHA256]
					}
				}
			}
		}
		c.blobs = kept
	})
}

// Await waits until cond holds for the job.
func (c *Coordinator) Await(ctx context.Context, id protocol.JobID, cond func(Job) bool) (Job, error) {
	for {
		c.mu.Lock()
		j, wait := *c.jobs[id], c.changed
		c.mu.Unlock()
		if cond(j) {
			return j, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return j, fmt.Errorf("job is %+v: %w", j, ctx.Err())
		}
	}
}

func (c *Coordinator) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
	c.notify()
}

func (c *Coordinator) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// through applies the faults of one call.
func through[In, Out any](ctx context.Context, c *Coordinator, name string, in In, serve func(context.Context, In) (Out, error)) (Out, error) {
	var zero Out
	c.mu.Lock()
	var f Fault
	if c.fault != nil {
		f = c.fault(name)
	}
	c.mu.Unlock()
	if f.LoseRequest {
		return zero, ErrLost
	}
	if f.Twice {
		if out, err := serve(ctx, in); err != nil {
			return out, err
		}
	}
	out, err := serve(ctx, in)
	if f.DelayReply > 0 {
		t := time.NewTimer(f.DelayReply)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return zero, ctx.Err()
		}
	}
	if f.LoseReply {
		return zero, ErrLost
	}
	return out, err
}

// Register implements agent.Coordinator.
func (c *Coordinator) Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	return through(ctx, c, "register", req, c.register)
}

func (c *Coordinator) register(_ context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.notify()
	c.registers = append(c.registers, req)
	c.agent, c.incarnation, c.seq, c.stated, c.holdOver = req.Agent, req.Incarnation, 0, 0, 0
	resp := c.terms
	held := make(map[protocol.HeldAttempt]bool)
	for _, k := range req.Held {
		held[k] = true
		j := c.jobs[k.Job]
		switch {
		case j == nil || j.Finish != nil:
		case j.Leased && j.Attempt == k.Attempt:
			j.Acked = true
			resp.Current = append(resp.Current, k)
		case !j.Leased && j.Attempt == k.Attempt: // queued again: adopt
			j.Attempt++
			j.Leased, j.Acked = true, true
			resp.Adopted = append(resp.Adopted, protocol.Adoption{Job: k.Job, From: k.Attempt, To: j.Attempt})
		}
	}
	for _, j := range c.jobs {
		if j.Leased && j.Finish == nil && !j.Acked && !held[protocol.HeldAttempt{Job: j.ID, Attempt: j.Attempt}] {
			j.Leased = false
		}
	}
	return resp, nil
}

// Sync implements agent.Coordinator.
func (c *Coordinator) Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	return through(ctx, c, "sync", req, c.sync)
}

func (c *Coordinator) sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	began := time.Now()
	hold := time.NewTimer(time.Duration(req.HoldMs) * time.Millisecond)
	defer hold.Stop()
	c.mu.Lock()
	c.syncs++
	c.arrive(req)
	for {
		if c.incarnation != req.Incarnation {
			c.mu.Unlock()
			return protocol.SyncResponse{}, protocol.NewError(protocol.CodeUnknownAgent, "register first")
		}
		resp := c.match(req)
		if len(resp.Assign)+len(resp.Stop) > 0 || req.Seq <= c.holdOver {
			resp.ParkedMs = time.Since(began).Milliseconds()
			if c.mangle != nil {
				c.mangle(&resp)
			}
			c.mu.Unlock()
			return resp, nil
		}
		wait := c.changed
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return protocol.SyncResponse{}, ctx.Err()
		case <-hold.C:
			resp.ParkedMs = time.Since(began).Milliseconds()
			return resp, nil
		case <-wait:
		}
		c.mu.Lock()
	}
}

// arrive takes note of what a sync states.
func (c *Coordinator) arrive(req protocol.SyncRequest) {
	if req.Seq <= c.seq || req.Incarnation != c.incarnation {
		return
	}
	c.seq = req.Seq
	held := make(map[protocol.HeldAttempt]bool)
	for _, k := range req.Held {
		held[k] = true
	}
	for _, r := range req.Rejected {
		switch j := c.jobs[r.Job]; {
		case j == nil || j.Finish != nil:
		case j.Leased && j.Attempt == r.Attempt:
			j.Leased, j.Acked, j.Rejects = false, false, append(j.Rejects, r.Reason)
		default:
			j.Refused++
		}
	}
	for _, j := range c.jobs {
		if !j.Leased || j.Finish != nil {
			continue
		}
		onItsWay := j.Report != 0 && (j.Report == req.Reporting || j.Report > req.Capacity.Seq)
		if held[protocol.HeldAttempt{Job: j.ID, Attempt: j.Attempt}] {
			j.Acked = true
		} else if !j.Acked && !onItsWay {
			j.Leased = false // this sync is newer than the assignment and lacks it
			j.Lost++
		}
	}
	c.notify()
}

// match leases what fits and lists what must stop.
func (c *Coordinator) match(req protocol.SyncRequest) protocol.SyncResponse {
	resp := protocol.SyncResponse{Seq: req.Seq, HoldMs: c.terms.HoldMs}
	for _, k := range req.Held {
		if j := c.jobs[k.Job]; j != nil && j.Cancel && j.Finish == nil && j.Attempt == k.Attempt {
			resp.Stop = append(resp.Stop, protocol.StopAttempt{Job: k.Job, Attempt: k.Attempt, Reason: protocol.StopCancelled})
		}
	}
	if req.Seq != c.seq || req.Capacity.Draining {
		return resp
	}
	resp.Assign, resp.Endpoints = c.grant(0, req.Capacity.Free, req.Endpoints)
	return resp
}

// grant leases what fits beside the leases that the agent does not know yet; report
// is the number of the report whose answer assigns it, 0 for a sync.
func (c *Coordinator) grant(report uint64, free int, have map[string]uint64) (assign []protocol.Assignment, docs []protocol.Endpoint) {
	for _, j := range c.jobs {
		if j.Leased && !j.Acked && j.Finish == nil {
			free--
		}
	}
	for _, id := range c.order {
		j := c.jobs[id]
		if free <= 0 || j.Leased || j.Finish != nil || len(j.Rejects) > 0 || c.byReport && report == 0 && j.Lost == 0 {
			continue
		}
		free--
		j.Attempt++
		j.Leased, j.Acked, j.Started, j.Report = true, false, false, report
		j.Logs, j.Chunks = nil, nil
		doc := c.docs[j.Endpoint]
		if have[doc.ID] != doc.Revision {
			docs = append(docs, doc)
		}
		assign = append(assign, c.assignment(j, doc))
	}
	return assign, docs
}

func (c *Coordinator) assignment(j *Job, doc protocol.Endpoint) protocol.Assignment {
	as := protocol.Assignment{
		Job: j.ID, Attempt: j.Attempt, Endpoint: doc.ID, Revision: doc.Revision, Org: protocol.OrgDefault,
		Priority: protocol.PriorityNormal, ExecutionMs: j.Timeout.Milliseconds(),
	}
	if len(j.Input) > protocol.InlineInput {
		sum := sha256.Sum256(j.Input)
		as.InputBlob, as.InputSize = hex.EncodeToString(sum[:]), int64(len(j.Input))
		c.blobs[as.InputBlob] = j.Input
	} else {
		as.Input = j.Input
	}
	return as
}

// Report implements agent.Coordinator.
func (c *Coordinator) Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	return through(ctx, c, "report", req, c.report)
}

func (c *Coordinator) report(_ context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.notify()
	if c.incarnation != req.Incarnation {
		return protocol.ReportResponse{}, protocol.NewError(protocol.CodeStaleIncarnation, "register first")
	}
	resp := protocol.ReportResponse{BeatMs: c.terms.BeatMs}
	for _, u := range req.Attempts {
		resp.Attempts = append(resp.Attempts, c.update(u))
	}
	for _, f := range req.Finished {
		resp.Attempts = append(resp.Attempts, c.finish(f))
	}
	for _, k := range req.Held {
		if j := c.jobs[k.Job]; j != nil && j.Leased && j.Attempt == k.Attempt {
			j.Acked = true
		}
	}
	if req.Takes && !req.Capacity.Draining && req.Capacity.Seq > c.stated {
		resp.Assign, resp.Endpoints = c.grant(req.Capacity.Seq, req.Capacity.Free, req.Endpoints)
		c.stated = req.Capacity.Seq
	}
	for _, j := range c.jobs {
		missed := j.Leased && !j.Acked && j.Finish == nil && j.Report != 0 && j.Report < req.Capacity.Seq
		resp.Resync = resp.Resync || missed
	}
	// What is freed and not used up is offered to the parked sync, which must say it
	// with its own statement here, because this coordinator keeps none.
	resp.Resync = resp.Resync || len(req.Finished) > 0 && len(resp.Assign) == 0
	return resp, nil
}

func (c *Coordinator) update(u protocol.AttemptUpdate) protocol.AttemptReply {
	rep := protocol.AttemptReply{Job: u.Job, Attempt: u.Attempt}
	j := c.jobs[u.Job]
	if j == nil || !j.Leased || j.Attempt != u.Attempt || j.Finish != nil {
		rep.Code = protocol.CodeStaleAttempt
		return rep
	}
	j.Acked = true
	j.Started = j.Started || u.StartedMs > 0
	if u.Substate != "" {
		j.Soft = u
	}
	if have := uint64(len(j.Logs)); u.LogFrom <= have && u.LogFrom+uint64(len(u.Logs)) > have {
		j.Logs = append(j.Logs, u.Logs[have-u.LogFrom:]...)
	}
	if have := uint64(len(j.Chunks)); u.ChunkFrom <= have && u.ChunkFrom+uint64(len(u.Chunks)) > have {
		j.Chunks = append(j.Chunks, u.Chunks[have-u.ChunkFrom:]...)
	}
	rep.NextLog, rep.NextChunk = uint64(len(j.Logs)), uint64(len(j.Chunks))
	return rep
}

func (c *Coordinator) finish(f protocol.Finish) protocol.AttemptReply {
	rep := protocol.AttemptReply{Job: f.Job, Attempt: f.Attempt, Finished: true}
	j := c.jobs[f.Job]
	switch {
	case j == nil:
		rep.Code = protocol.CodeStaleAttempt
	case j.Finish != nil && j.Finish.Attempt == f.Attempt: // sent again
	case !j.Leased || j.Attempt != f.Attempt:
		j.Refused++
		rep.Code = protocol.CodeStaleAttempt
	default:
		j.Finish, j.Leased = &f, false
		j.Finishes++
	}
	return rep
}

// GrantOutputs implements agent.Coordinator: everything is granted, up to the quota
// that a test has set.
func (c *Coordinator) GrantOutputs(_ context.Context, req protocol.GrantRequest) (resp protocol.GrantResponse, err error) {
	var total int64
	seen := make(map[string]bool)
	add := func(sum string, size int64) {
		if !seen[sum] {
			seen[sum] = true
			total += size
			resp.Grants = append(resp.Grants, protocol.UploadGrant{SHA256: sum, Size: size, Token: "granted"})
		}
	}
	if req.Output != nil {
		add(req.Output.SHA256, req.Output.Size)
	}
	for _, f := range req.Files {
		add(f.SHA256, f.Size)
	}
	c.do(func() {
		c.grants = append(c.grants, req)
		if c.quota > 0 && total > c.quota {
			err = &protocol.Error{Code: protocol.CodeStorageLimit, Message: "Output size would exceed storage quota", Details: protocol.StorageDetails(total, c.quota)}
		}
	})
	return resp, err
}

// PutOutput implements agent.Coordinator.
func (c *Coordinator) PutOutput(ctx context.Context, g protocol.UploadGrant, r io.ReadSeeker) error {
	if g.Token != "granted" {
		return protocol.NewError(protocol.CodeAccessDenied, "no grant")
	}
	return c.PutBlob(ctx, g.SHA256, g.Size, r)
}

// SetQuota bounds what one result may store; 0 is no bound.
func (c *Coordinator) SetQuota(bytes int64) { c.do(func() { c.quota = bytes }) }

// Grants returns what was asked for.
func (c *Coordinator) Grants() (list []protocol.GrantRequest) {
	c.do(func() { list = append(list, c.grants...) })
	return list
}

// PutBlob implements agent.Coordinator.
func (c *Coordinator) PutBlob(_ context.Context, sum string, size int64, r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if got := sha256.Sum256(b); hex.EncodeToString(got[:]) != sum || int64(len(b)) != size {
		return protocol.NewError(protocol.CodeValidation, "digest or size is wrong")
	}
	c.do(func() { c.blobs[sum] = b })
	return nil
}

// GetBlob implements agent.Coordinator.
func (c *Coordinator) GetBlob(_ context.Context, sum string, _ protocol.JobID) (io.ReadCloser, error) {
	b := c.Blob(sum)
	if b == nil {
		return nil, protocol.NewError(protocol.CodeNotFound, "no such blob")
	}
	return io.NopCloser(bytes.NewReader(b)), nil
}
