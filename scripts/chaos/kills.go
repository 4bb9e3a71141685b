package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"windlass/protocol"
)

// coordinatorKill: kill -9, twenty times in a row, at random moments, while
// jobs are queued and running. Every acknowledged job ends with the right
// output and none starts twice, because its agent lived.
func coordinatorKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 4); err != nil {
		return err
	}
	l := newLedger(b)
	load, stopLoad := context.WithCancel(ctx)
	defer stopLoad()
	failed := make(chan error, 1)
	go func() { failed <- submitAll(load, l) }()
	for range 20 {
		if err := pause(ctx, time.Duration(50+b.rand.IntN(600))*time.Millisecond); err != nil {
			return err
		}
		b.coordinator.kill()
		b.totals.injected++
		if err := b.startCoordinator(ctx); err != nil {
			return err
		}
	}
	stopLoad()
	if err := <-failed; err != nil {
		return err
	}
	return l.settle(ctx, nil)
}

// submitters submit side by side, so that a kill meets submits in every stage.
const submitters = 6

// submitAll submits until ctx ends; what was not acknowledged then is nobody's loss.
func submitAll(ctx context.Context, l *ledger) error {
	var wg sync.WaitGroup
	errs := make([]error, submitters)
	for i := range submitters {
		wg.Go(func() {
			for n := i; ctx.Err() == nil; n += submitters {
				priority := []string{"critical", "high", "normal", "low"}[n%4]
				_, err := l.submit(ctx, "ep_chaos", priority, task{N: n, Ms: 20 + n%5*20})
				if err != nil && ctx.Err() == nil {
					errs[i] = err
					return
				}
				_ = pause(ctx, 80*time.Millisecond)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// agentKill: kill -9 of the agent in the middle of jobs; started again it
// adopts them and the same attempts finish.
func agentKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	l := newLedger(b)
	for n := range 3 {
		job, err := l.submit(ctx, "ep_chaos", "", task{N: n, Ms: 4000})
		if err != nil {
			return err
		}
		if _, err := l.until(ctx, job, "running", func(s protocol.JobStatus) bool { return s.Status == protocol.StatusRunning }); err != nil {
			return err
		}
		b.agents[0].kill()
		b.totals.injected++
		if err := pause(ctx, time.Duration(b.rand.IntN(2000))*time.Millisecond); err != nil {
			return err
		}
		if err := b.spawn(b.agents[0]); err != nil {
			return err
		}
		s, err := l.await(ctx, job)
		if err != nil {
			return err
		}
		if s.Metrics == nil || s.Metrics.Attempts != 1 {
			return fmt.Errorf("job %s ended %v with metrics %+v, want one attempt", job, s.Status, s.Metrics)
		}
	}
	return l.settle(ctx, nil)
}

// runtimeKill: kill -9 of the runtime in the middle of a job: the job is
// retried and the attempt is counted.
func runtimeKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 1); err != nil {
		return err
	}
	l := newLedger(b)
	job, err := l.submit(ctx, "ep_chaos", "", task{N: 1, Ms: 1500})
	if err != nil {
		return err
	}
	if _, err := l.until(ctx, job, "running", func(s protocol.JobStatus) bool { return s.Status == protocol.StatusRunning }); err != nil {
		return err
	}
	if err := b.killRuntime(); err != nil {
		return err
	}
	b.totals.injected++
	s, err := l.await(ctx, job)
	if err != nil {
		return err
	}
	if s.Metrics == nil || s.Metrics.Attempts != 2 || s.RetryCount == nil || *s.RetryCount != 1 {
		return fmt.Errorf("job ended %v with metrics %+v and retries %v, want two attempts", s.Status, s.Metrics, s.RetryCount)
	}
	return l.settle(ctx, func(int) bool { return true })
}

// killRuntime kills the process of the handler: it alone has the record of starts.
func (b *bed) killRuntime() error {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(env), startsEnv+"="+b.starts) {
			continue
		}
		var pid int
		if _, err := fmt.Sscanf(file, "/proc/%d/environ", &pid); err != nil {
			return err
		}
		return syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.New("found no runtime to kill")
}

// agentPaused: an agent is stopped past its lease, its job runs elsewhere, then
// it continues. Its own write must be refused and the result stands.
func agentPaused(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 1); err != nil {
		return err
	}
	l := newLedger(b)
	job, err := l.submit(ctx, "ep_chaos", "", task{N: 1, Ms: 1000})
	if err != nil {
		return err
	}
	if _, err := l.until(ctx, job, "running", func(s protocol.JobStatus) bool { return s.Status == protocol.StatusRunning }); err != nil {
		return err
	}
	if err := b.agents[0].signal(syscall.SIGSTOP); err != nil {
		return err
	}
	b.totals.injected++
	if _, err := b.startAgent("agent-2", b.api, 1); err != nil {
		return err
	}
	before, err := l.await(ctx, job)
	if err != nil {
		return err
	}
	if err := b.agents[0].signal(syscall.SIGCONT); err != nil {
		return err
	}
	// Time enough for the journal to be offered and answered.
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	after, err := l.await(ctx, job)
	if err != nil {
		return err
	}
	if before.Revision != after.Revision || string(before.Output) != string(after.Output) {
		return fmt.Errorf("a refused write changed the job from revision %s to %s", before.Revision, after.Revision)
	}
	left, err := filepath.Glob(b.path("agent-1/agent/journal/*.json"))
	if err != nil || len(left) > 0 {
		return fmt.Errorf("the refused result is still in the journal: %v %w", left, err)
	}
	return l.settle(ctx, func(int) bool { return true })
}

// strictOrder: one slot, 1,000 jobs of mixed priority, one of them failing
// once, one restart of the coordinator: the starts that the runtime recorded
// follow priority, then submission.
func strictOrder(ctx context.Context, b *bed) error {
	const jobs, failing = 1000, 501
	if err := b.startCoordinator(ctx); err != nil {
		return err
	}
	if err := b.createEndpoint(ctx, "ep_chaos", "run"); err != nil {
		return err
	}
	l := newLedger(b)
	names := []string{"critical", "high", "normal", "low"}
	want := make([][]int, len(names))
	for n := range jobs {
		p, t := b.rand.IntN(len(names)), task{N: n}
		if n == failing {
			t.Mode = "fail-once"
		}
		if _, err := l.submit(ctx, "ep_chaos", names[p], t); err != nil {
			return err
		}
		want[p] = append(want[p], n)
	}
	if _, err := b.startAgent("agent-1", b.api, 1); err != nil {
		return err
	}
	for done := 0; done < jobs/3; {
		all, err := starts(b.starts)
		if err != nil {
			return err
		}
		done = len(all)
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	b.coordinator.kill()
	b.totals.injected++
	if err := b.startCoordinator(ctx); err != nil {
		return err
	}
	if err := l.settle(ctx, func(n int) bool { return n == failing }); err != nil {
		return err
	}
	return inOrder(b.starts, want, failing)
}

// inOrder compares the record with the order that was asked for. The second
// start of the failing task comes after its back-off, so it is left out.
func inOrder(file string, want [][]int, failing int) error {
	got, err := starts(file)
	if err != nil {
		return err
	}
	var plan []int
	for _, class := range want {
		plan = append(plan, class...)
	}
	i, failed := 0, false
	for _, n := range got {
		if n == failing && failed {
			continue
		}
		failed = failed || n == failing
		if n != plan[i] {
			return fmt.Errorf("start %d was task %d, want %d", i, n, plan[i])
		}
		i++
	}
	return nil
}
