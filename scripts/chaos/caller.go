package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// caller is one client. It asks one coordinator at a time, repeats nothing by
// itself, and writes every call down.
type caller struct {
	b    *bed
	name string
}

// callTime is how long a caller waits for an answer; longer than a failover
// should take would hide how long it took.
const callTime = 3 * time.Second

// order is one job as it is submitted. The same order submitted again has the
// same idempotency key.
type order struct {
	task     task
	endpoint string
	priority string
	callback string
	policy   *protocol.SubmitPolicy
}

// submit sends an order to one coordinator.
func (c *caller) submit(ctx context.Context, n *node, o order) record.Call {
	input, err := json.Marshal(o.task)
	if err != nil {
		panic(err) // a struct of numbers and texts
	}
	sum := sha256.Sum256(input)
	body, err := json.Marshal(protocol.SubmitRequest{
		Input: input, Priority: o.priority, CallbackURL: o.callback, Policy: o.policy, IdempotencyKey: fmt.Sprint("task-", o.task.N),
		Tags: map[string]string{taskTag: strconv.Itoa(o.task.N)},
	})
	if err != nil {
		panic(err)
	}
	r := record.Call{Op: record.OpSubmit, Task: o.task.N, Key: fmt.Sprint("task-", o.task.N), Input: hex.EncodeToString(sum[:])}
	if o.endpoint == "" {
		o.endpoint = endpoint
	}
	answer := c.call(ctx, n, &r, http.MethodPost, "/v2/endpoints/"+o.endpoint+"/runasync", body)
	var out protocol.SubmitResponse
	if r.Outcome == record.OK && json.Unmarshal(answer, &out) == nil {
		r.Job = out.JobID.String()
	}
	c.b.log.Call(r)
	if r.Outcome == record.OK {
		c.b.acknowledge(o.task.N, out.JobID)
	}
	return r
}

// taskTag carries the task's number through the coordinators, so that a job can
// be told from the list.
const taskTag = "n"

// read asks one coordinator for a job.
func (c *caller) read(ctx context.Context, n *node, task int, job string) record.Call {
	r := record.Call{Op: record.OpRead, Task: task, Job: job}
	answer := c.call(ctx, n, &r, http.MethodGet, "/v2/jobs/"+job+"/status", nil)
	c.finish(&r, answer)
	return r
}

// cancel asks one coordinator to end a job.
func (c *caller) cancel(ctx context.Context, n *node, task int, job string) record.Call {
	r := record.Call{Op: record.OpCancel, Task: task, Job: job}
	answer := c.call(ctx, n, &r, http.MethodPost, "/v2/jobs/"+job+"/cancel", nil)
	c.finish(&r, answer)
	return r
}

func (c *caller) finish(r *record.Call, answer []byte) {
	var doc protocol.JobStatus
	if r.Outcome == record.OK && json.Unmarshal(answer, &doc) == nil {
		d := docOf(&doc)
		d.Task = r.Task
		r.Doc = &d
	}
	c.b.log.Call(*r)
}

// docOf is what the checker sees of a status document.
func docOf(s *protocol.JobStatus) record.Doc {
	d := record.Doc{Job: s.JobID.String(), Status: s.Status.String()}
	index, rest, _ := strings.Cut(s.Revision, ".")
	attempt, _, _ := strings.Cut(rest, ".")
	d.Index, _ = strconv.ParseUint(index, 10, 64)
	d.Attempt, _ = strconv.Atoi(attempt)
	d.Task, _ = strconv.Atoi(s.Tags[taskTag])
	var out struct{ Sum string }
	if len(s.Output) > 0 && json.Unmarshal(s.Output, &out) == nil {
		d.Output = out.Sum
	}
	if s.Error != nil {
		d.Code = string(s.Error.Code)
	}
	return d
}

// call makes one exchange and fills in what it tells.
func (c *caller) call(ctx context.Context, n *node, r *record.Call, method, path string, body []byte) []byte {
	ctx, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	r.Client, r.Node, r.Outcome = c.name, n.name, record.Maybe
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.api+path, bytes.NewReader(body))
	if err != nil {
		panic(err) // our own addresses and paths
	}
	req.Header.Set("Authorization", "Bearer "+bedKey)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	r.Start = record.Now()
	resp, err := n.http.Do(req)
	var answer []byte
	if err == nil {
		answer, err = io.ReadAll(resp.Body)
		_ = resp.Body.Close()
	}
	r.End = record.Now()
	if err != nil {
		r.Error = err.Error()
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			r.Outcome = record.No // it reached nobody
		}
		return nil
	}
	r.Status = resp.StatusCode
	r.Index, _ = strconv.ParseUint(resp.Header.Get(protocol.HeaderIndex), 10, 64)
	if resp.StatusCode == http.StatusOK {
		r.Outcome = record.OK
		return answer
	}
	refusal(r, answer)
	return nil
}

// refusal reads what an error says of the effect: an answer of the caller's own
// fault had none, any other only if it says so.
func refusal(r *record.Call, answer []byte) {
	var e protocol.Error
	if json.Unmarshal(answer, &e) == nil {
		r.Code, r.Error = string(e.Code), e.Message
		if job, ok := e.Details["jobId"].(string); ok && r.Job == "" {
			r.Job = job
		}
	}
	if r.Status < http.StatusInternalServerError || e.Details["outcome"] == "none" || r.Status == http.StatusInsufficientStorage {
		r.Outcome = record.No
	}
}

// acknowledge remembers a job that somebody was promised.
func (b *bed) acknowledge(task int, job protocol.JobID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tasks[task] = job
}

// must submits an order, round the coordinators, until it is acknowledged.
func (c *caller) must(ctx context.Context, o order) (protocol.JobID, error) {
	for i := 0; ; i++ {
		r := c.submit(ctx, c.b.nodes[i%len(c.b.nodes)], o)
		if r.Outcome == record.OK {
			return protocol.ParseJobID(r.Job)
		}
		if r.Status >= 400 && r.Status < 500 && r.Status != http.StatusTooManyRequests {
			return protocol.JobID{}, fmt.Errorf("cannot submit task %d: %s: %s", o.task.N, r.Code, r.Error)
		}
		if err := pause(ctx, again); err != nil {
			return protocol.JobID{}, fmt.Errorf("task %d was never acknowledged (%s %s): %w", o.task.N, r.Code, r.Error, err)
		}
	}
}

// again is the pause before a call is repeated: short, because it is outages
// that are measured.
const again = 20 * time.Millisecond

// until waits for a condition of a job.
func (c *caller) until(ctx context.Context, task int, job protocol.JobID, what string, ok func(*record.Doc) bool) (*record.Doc, error) {
	var last record.Call
	for i := 0; ; i++ {
		r := c.read(ctx, c.b.nodes[i%len(c.b.nodes)], task, job.String())
		if r.Doc != nil && ok(r.Doc) {
			return r.Doc, nil
		}
		if last = r; r.Status == http.StatusNotFound {
			return nil, fmt.Errorf("%s does not know job %s", r.Node, job)
		}
		if err := pause(ctx, again); err != nil {
			return nil, fmt.Errorf("job %s never was %s, the last answer was %+v: %w", job, what, last, err)
		}
	}
}

func (c *caller) running(ctx context.Context, task int, job protocol.JobID) error {
	_, err := c.until(ctx, task, job, "running", func(d *record.Doc) bool { return d.Status == "running" })
	return err
}

// await returns a job once it is terminal.
func (c *caller) await(ctx context.Context, task int, job protocol.JobID) (*record.Doc, error) {
	return c.until(ctx, task, job, "terminal", ended)
}

func ended(d *record.Doc) bool {
	s, err := protocol.ParseStatus(d.Status)
	return err == nil && s.Terminal()
}
