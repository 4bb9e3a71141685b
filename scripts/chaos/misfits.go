package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
	"windlass/scripts/chaos/record"
)

// clientsLeave: clients disconnect in a held poll, in a submit and in a stream;
// nothing stays granted to nobody.
func clientsLeave(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	for n := 1; n <= 10; n++ {
		job, err := c.must(ctx, order{task: task{N: n, Ms: 100}})
		if err != nil {
			return err
		}
		for _, request := range []string{
			"GET /v2/jobs/" + job.String() + "/status/stream HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\n\r\n",
			"GET /v2/jobs/" + job.String() + "/status?wait=30s&revision=9.9.9 HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\n\r\n",
			"POST /v2/endpoints/ep_chaos/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\nContent-Length: 100\r\n\r\n{\"input\":",
			b.leftSubmit(),
		} {
			b.hit("clients-leave")
			if err := sendAndLeave(b.nodes[0].api, request); err != nil {
				return err
			}
		}
	}
	// The agent leaves in its parked poll too; another job follows at once.
	b.hit("clients-leave")
	b.agents[0].kill()
	if _, err := c.must(ctx, order{task: task{N: 11}}); err != nil {
		return err
	}
	if err := b.spawn(b.agents[0]); err != nil {
		return err
	}
	return b.settle(ctx)
}

// leftSubmit is a whole submit whose answer nobody waits for. It is recorded as
// what it is: it may have happened.
func (b *bed) leftSubmit() string {
	n := leftTask + int(b.next.Add(1))
	input := fmt.Sprintf(`{"n":%d}`, n)
	sum := sha256.Sum256([]byte(input))
	now := record.Now()
	b.log.Call(record.Call{
		Client: "leaver", Op: record.OpSubmit, Node: b.nodes[0].name, Task: n, Key: fmt.Sprint("task-", n),
		Input: hex.EncodeToString(sum[:]), Start: now, End: now, Outcome: record.Maybe,
	})
	body := fmt.Sprintf(`{"input":%s,"idempotencyKey":"task-%d","tags":{"n":"%d"}}`, input, n, n)
	return fmt.Sprintf("POST /v2/endpoints/ep_chaos/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s", bedKey, len(body), body)
}

// leftTask keeps those task numbers apart from the others.
const leftTask = 1_000_000

func sendAndLeave(addr, request string) error {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		return err
	}
	return c.(*net.TCPConn).SetLinger(0) // leave by reset, without a goodbye
}

// badRuntimes: runtimes that exit at start, crash, print garbage, flood their
// log, hang: each job fails with what happened, and good jobs go on.
func badRuntimes(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	if err := b.createEndpoint(ctx, "ep_dead", "exit-at-start"); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	bad := []struct {
		endpoint string
		task     task
		policy   *protocol.SubmitPolicy
		status   protocol.Status
		codes    string
		says     string
	}{
		{endpoint, task{N: 901, Mode: "crash"}, nil, protocol.StatusFailed, "RUNTIME_CRASHED", "about to crash"},
		{endpoint, task{N: 902, Mode: "bad-output"}, nil, protocol.StatusFailed, "RUNTIME_CRASHED OUTPUT_INVALID RUNTIME_PROTOCOL", ""},
		{endpoint, task{N: 905, Mode: "half-result"}, nil, protocol.StatusFailed, "OUTPUT_INVALID RUNTIME_PROTOCOL", ""},
		{endpoint, task{N: 903, Mode: "hang"}, &protocol.SubmitPolicy{ExecutionTimeout: 2000}, protocol.StatusTimeout, "EXECUTION_TIMEOUT", ""},
		{"ep_dead", task{N: 904}, nil, protocol.StatusFailed, "RUNTIME_START", "the model file is missing"},
	}
	var jobs []protocol.JobID
	for _, m := range bad {
		b.hit("bad-runtimes")
		b.log.Lenient(m.task.N)
		job, err := c.must(ctx, order{task: m.task, endpoint: m.endpoint, policy: m.policy})
		if err != nil {
			return err
		}
		jobs = append(jobs, job)
	}
	for i, t := range []task{{N: 1, Mode: "garbage"}, {N: 2, Mode: "flood"}, {N: 3}} {
		if _, err := c.must(ctx, order{task: t}); err != nil {
			return fmt.Errorf("good job %d: %w", i, err)
		}
	}
	for i, m := range bad {
		if _, err := c.await(ctx, m.task.N, jobs[i]); err != nil {
			return err
		}
		s, err := b.client.Status(ctx, jobs[i], statusOptions())
		if err != nil {
			return err
		}
		if s.Status != m.status || s.Error == nil || !strings.Contains(m.codes, string(s.Error.Code)) {
			return fmt.Errorf("task %d ended %v with %+v, want %v with %s", m.task.N, s.Status, s.Error, m.status, m.codes)
		}
		if text := fmt.Sprint(s.Error.Message, s.Error.Details); !strings.Contains(text, m.says) {
			return fmt.Errorf("task %d does not tell %q: %s", m.task.N, m.says, text)
		}
	}
	if !b.nodes[0].alive() || !b.agents[0].alive() {
		return errors.New("a bad runtime took a process with it")
	}
	return within(ctx, time.Minute, b.settle)
}

// statusOptions ask for what the recorded reads leave out.
func statusOptions() client.StatusOptions { return client.StatusOptions{Include: []string{"metrics"}} }
