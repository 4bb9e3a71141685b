package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"

	"windlass/protocol"
)

// clientsLeave: clients disconnect in a held poll, in a submit and in a stream;
// nothing stays granted to nobody.
func clientsLeave(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	l := newLedger(b)
	for n := range 10 {
		job, err := l.submit(ctx, "ep_chaos", "", task{N: n, Ms: 100})
		if err != nil {
			return err
		}
		for _, request := range []string{
			"GET /v2/jobs/" + job.String() + "/status/stream HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\n\r\n",
			"GET /v2/jobs/" + job.String() + "/status?wait=30s&revision=9.9.9 HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\n\r\n",
			"POST /v2/endpoints/ep_chaos/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\nContent-Length: 100\r\n\r\n{\"input\":",
			"POST /v2/endpoints/ep_chaos/runasync HTTP/1.1\r\nHost: x\r\nAuthorization: " + bedKey + "\r\nContent-Length: 22\r\n\r\n{\"input\":{\"n\":100000}}",
		} {
			if err := sendAndLeave(b.api, request); err != nil {
				return err
			}
			b.totals.injected++
		}
	}
	// The agent leaves in its parked poll too; another job follows at once.
	b.agents[0].kill()
	if _, err := l.submit(ctx, "ep_chaos", "", task{N: 11}); err != nil {
		return err
	}
	if err := b.spawn(b.agents[0]); err != nil {
		return err
	}
	b.totals.injected++
	return l.settle(ctx, nil)
}

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

// diskFull: the disk under the coordinator fills up. It stops acknowledging and
// exits with a clear line; with space it starts again and nothing is gone.
func diskFull(ctx context.Context, b *bed) error {
	data := b.path("coordinator-data")
	if err := os.Mkdir(data, 0o700); err != nil {
		return err
	}
	limited, err := smallDisk(data)
	if err != nil {
		return err
	}
	defer limited.release()
	if err := b.startCoordinator(ctx); err != nil {
		return err
	}
	if err := b.createEndpoint(ctx, "ep_chaos", "run"); err != nil {
		return err
	}
	l := newLedger(b)
	short, cancel := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for n := 0; short.Err() == nil; n++ {
			_, _ = l.submit(short, "ep_chaos", "", task{N: n, Mode: strings.Repeat("x", 12<<10)})
		}
	}()
	select {
	case <-ctx.Done():
		cancel()
		return errors.New("the coordinator did not exit on a full disk")
	case <-b.coordinator.done:
	}
	b.totals.injected++
	cancel()
	<-stopped
	log, err := os.ReadFile(b.coordinator.log)
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "no space left") && !strings.Contains(string(log), "file too large") {
		return errors.New("the coordinator's log does not say that the disk is full")
	}
	if err := limited.grow(); err != nil {
		return err
	}
	if err := b.startCoordinator(ctx); err != nil {
		return err
	}
	if _, err := b.startAgent("agent-1", b.api, 2); err != nil {
		return err
	}
	return l.settle(ctx, nil)
}

// disk is a small file system for the coordinator's data.
type disk struct{ dir string }

// smallDisk mounts a tmpfs that a raft log segment barely fits. It needs root,
// as CI has; without it the scenario says so and fails.
func smallDisk(dir string) (*disk, error) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=80m"); err != nil {
		return nil, fmt.Errorf("cannot mount a small disk: %w; run as root", err)
	}
	return &disk{dir: dir}, nil
}

func (d *disk) grow() error {
	return syscall.Mount("tmpfs", d.dir, "tmpfs", syscall.MS_REMOUNT, "size=1g")
}

func (d *disk) release() { _ = syscall.Unmount(d.dir, syscall.MNT_DETACH) }

// badRuntimes: runtimes that exit at start, crash, print garbage, flood their
// log, hang: each job fails with what happened, and good jobs go on.
func badRuntimes(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	if err := b.createEndpoint(ctx, "ep_dead", "exit-at-start"); err != nil {
		return err
	}
	l := newLedger(b)
	bad := []struct {
		endpoint string
		task     task
		policy   *protocol.SubmitPolicy
		status   protocol.Status
		codes    string
		says     string
	}{
		{"ep_chaos", task{N: 901, Mode: "crash"}, nil, protocol.StatusFailed, "RUNTIME_CRASHED", "about to crash"},
		{"ep_chaos", task{N: 902, Mode: "bad-output"}, nil, protocol.StatusFailed, "RUNTIME_CRASHED OUTPUT_INVALID RUNTIME_PROTOCOL", ""},
		{"ep_chaos", task{N: 905, Mode: "half-result"}, nil, protocol.StatusFailed, "OUTPUT_INVALID RUNTIME_PROTOCOL", ""},
		{"ep_chaos", task{N: 903, Mode: "hang"}, &protocol.SubmitPolicy{ExecutionTimeout: 2000}, protocol.StatusTimeout, "EXECUTION_TIMEOUT", ""},
		{"ep_dead", task{N: 904}, nil, protocol.StatusFailed, "RUNTIME_START", "the model file is missing"},
	}
	var jobs []protocol.JobID
	for _, c := range bad {
		input := fmt.Appendf(nil, `{"n":%d,"mode":%q}`, c.task.N, c.task.Mode)
		res, err := b.client.Submit(ctx, c.endpoint, protocol.SubmitRequest{Input: input, Policy: c.policy})
		if err != nil {
			return err
		}
		b.totals.injected++
		jobs = append(jobs, res.JobID)
	}
	for i, t := range []task{{N: 1, Mode: "garbage"}, {N: 2, Mode: "flood"}, {N: 3}} {
		if _, err := l.submit(ctx, "ep_chaos", "", t); err != nil {
			return fmt.Errorf("good job %d: %w", i, err)
		}
	}
	for i, c := range bad {
		s, err := l.await(ctx, jobs[i])
		if err != nil {
			return err
		}
		if s.Status != c.status || s.Error == nil || !strings.Contains(c.codes, string(s.Error.Code)) {
			return fmt.Errorf("task %d ended %v with %+v, want %v with %s", c.task.N, s.Status, s.Error, c.status, c.codes)
		}
		if text := fmt.Sprint(s.Error.Message, s.Error.Details); !strings.Contains(text, c.says) {
			return fmt.Errorf("task %d does not tell %q: %s", c.task.N, c.says, text)
		}
	}
	if !b.coordinator.alive() || !b.agents[0].alive() {
		return errors.New("a bad runtime took a process with it")
	}
	return within(ctx, time.Minute, func(ctx context.Context) error { return l.settle(ctx, nil) })
}

func within(ctx context.Context, d time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return f(ctx)
}
