package client

import (
	"context"
	"crypto/rand"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"windlass/protocol"
)

// Submit queues a job for an endpoint. A request without an idempotency key is
// given a random one, so that a repeated send never makes a second job.
func (c *Client) Submit(ctx context.Context, endpoint string, req protocol.SubmitRequest) (protocol.SubmitResponse, error) {
	header := http.Header{}
	if req.IdempotencyKey == "" {
		header.Set(protocol.HeaderIdempotencyKey, "auto-"+rand.Text())
	}
	var out protocol.SubmitResponse
	err := c.call(ctx, request{method: http.MethodPost, path: endpointPath(endpoint) + "/runasync", header: header}, req, &out)
	return out, err
}

// StatusOptions select what a status document holds and when it is answered.
type StatusOptions struct {
	// Include names optional parts: logs, metrics, resources.
	Include []string
	// Format is json (the default) or summary.
	Format string
	// Wait holds the answer until the job's revision is past Revision, or
	// until Wait has passed.
	Wait     time.Duration
	Revision string
}

// Status returns a job's status document.
func (c *Client) Status(ctx context.Context, job protocol.JobID, opts StatusOptions) (protocol.JobStatus, error) {
	q := url.Values{}
	if len(opts.Include) > 0 {
		q.Set("include", strings.Join(opts.Include, ","))
	}
	if opts.Format != "" {
		q.Set("format", opts.Format)
	}
	if opts.Wait > 0 {
		q.Set("wait", opts.Wait.String())
	}
	if opts.Revision != "" {
		q.Set("revision", opts.Revision)
	}
	var out protocol.JobStatus
	err := c.call(ctx, request{method: http.MethodGet, path: jobPath(job) + "/status", query: q}, nil, &out)
	return out, err
}

// BatchStatus returns many status documents, in the order asked.
func (c *Client) BatchStatus(ctx context.Context, req protocol.BatchStatusRequest) (protocol.BatchStatusResponse, error) {
	var out protocol.BatchStatusResponse
	err := c.call(ctx, request{method: http.MethodPost, path: "/v2/jobs/status/batch"}, req, &out)
	return out, err
}

// ListOptions filter a list of jobs; empty fields do not filter.
type ListOptions struct {
	Status         []string
	Endpoint       string
	Tags           map[string]string
	IdempotencyKey string
	Limit          int // of one page; 0 is protocol.DefaultListLimit
	Cursor         string
}

// Jobs returns one page of jobs, newest first. A page may be short while
// NextCursor says that more follow.
func (c *Client) Jobs(ctx context.Context, opts ListOptions) (protocol.Page[protocol.JobStatus], error) {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("status", strings.Join(opts.Status, ","))
	set("endpoint", opts.Endpoint)
	set("idempotencyKey", opts.IdempotencyKey)
	set("cursor", opts.Cursor)
	if opts.Limit > 0 {
		q.Set("limit", strconv.Itoa(opts.Limit))
	}
	for k, v := range opts.Tags {
		q.Set("tag."+k, v)
	}
	var out protocol.Page[protocol.JobStatus]
	err := c.call(ctx, request{method: http.MethodGet, path: "/v2/jobs", query: q}, nil, &out)
	return out, err
}

// Cancel ends a job; one that has already ended is answered as it is.
func (c *Client) Cancel(ctx context.Context, job protocol.JobID) (protocol.JobStatus, error) {
	var out protocol.JobStatus
	err := c.call(ctx, request{method: http.MethodPost, path: jobPath(job) + "/cancel"}, nil, &out)
	return out, err
}

// Retry opens a new run of a job that has ended. It is not repeated when it may
// have arrived: a second one would be refused, or run the job once more.
func (c *Client) Retry(ctx context.Context, job protocol.JobID) (protocol.JobStatus, error) {
	var out protocol.JobStatus
	err := c.call(ctx, request{method: http.MethodPost, path: jobPath(job) + "/retry", repeat: repeatUnsent}, nil, &out)
	return out, err
}

// PauseJob holds a job that waits, and asks one that runs to stop at a checkpoint,
// for up to 20 seconds; CONFLICT when its runtime offers none, or it has ended.
func (c *Client) PauseJob(ctx context.Context, job protocol.JobID) (protocol.JobStatus, error) {
	var out protocol.JobStatus
	err := c.call(ctx, request{method: http.MethodPost, path: jobPath(job) + "/pause"}, nil, &out)
	return out, err
}

// ResumeJob lets a paused job take its place in the queue again.
func (c *Client) ResumeJob(ctx context.Context, job protocol.JobID) (protocol.JobStatus, error) {
	var out protocol.JobStatus
	err := c.call(ctx, request{method: http.MethodPost, path: jobPath(job) + "/resume"}, nil, &out)
	return out, err
}

// Output streams the output JSON of a completed job; the caller closes it. A
// job without an output yet is an error with code OUTPUT_NOT_READY.
func (c *Client) Output(ctx context.Context, job protocol.JobID) (io.ReadCloser, error) {
	resp, err := c.do(ctx, request{method: http.MethodGet, path: jobPath(job) + "/output"})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Logs returns the log lines of a job's newest attempt, oldest first.
func (c *Client) Logs(ctx context.Context, job protocol.JobID) ([]protocol.LogLine, error) {
	var out protocol.Page[protocol.LogLine]
	err := c.call(ctx, request{method: http.MethodGet, path: jobPath(job) + "/logs"}, nil, &out)
	return out.Data, err
}

// Explain says where a job stands and why it waits.
func (c *Client) Explain(ctx context.Context, job protocol.JobID) (protocol.Explain, error) {
	var out protocol.Explain
	err := c.call(ctx, request{method: http.MethodGet, path: jobPath(job) + "/explain"}, nil, &out)
	return out, err
}

func jobPath(job protocol.JobID) string { return "/v2/jobs/" + job.String() }
