package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// soloKills are the kills of a coordinator that is alone.
const soloKills = 10

// coordinatorKill: kill -9, ten times in a row, at random moments, while
// jobs are queued and running. Every acknowledged job ends with the right
// output and none starts twice, because its agent lived.
func coordinatorKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 4); err != nil {
		return err
	}
	l := b.startLoad(ctx)
	defer l.end()
	if err := l.warm(ctx); err != nil {
		return err
	}
	for range soloKills {
		if err := pause(ctx, time.Duration(50+b.rand.IntN(600))*time.Millisecond); err != nil {
			return err
		}
		b.hit("coordinator-kill", b.nodes[0].name)
		b.nodes[0].kill()
		if err := b.nodes[0].start(ctx); err != nil {
			return err
		}
	}
	l.end()
	return b.settle(ctx)
}

// agentKill: kill -9 of the agent in the middle of jobs; started again it
// adopts them and the same attempts finish.
func agentKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 2); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	for n := 1; n <= 3; n++ {
		job, err := c.must(ctx, order{task: task{N: n, Ms: 4000}})
		if err != nil {
			return err
		}
		if err := c.running(ctx, n, job); err != nil {
			return err
		}
		// Not recorded as a fault that excuses a second start: there must be none.
		b.hit("agent-kill")
		b.agents[0].kill()
		if err := pause(ctx, time.Duration(b.rand.IntN(2000))*time.Millisecond); err != nil {
			return err
		}
		if err := b.spawn(b.agents[0]); err != nil {
			return err
		}
		d, err := c.await(ctx, n, job)
		if err != nil {
			return err
		}
		if d.Attempt != 1 {
			return fmt.Errorf("job %s ended %s at attempt %d, want one attempt", job, d.Status, d.Attempt)
		}
	}
	return b.settle(ctx)
}

// runtimeKill: kill -9 of the runtime in the middle of a job: the job is
// retried and the attempt is counted.
func runtimeKill(ctx context.Context, b *bed) error {
	if err := b.simple(ctx, 1); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	job, err := c.must(ctx, order{task: task{N: 1, Ms: 1500}})
	if err != nil {
		return err
	}
	if err := c.running(ctx, 1, job); err != nil {
		return err
	}
	b.hit("runtime-kill")
	b.log.Lenient(1) // its second start is what is wanted
	if err := b.killRuntime(); err != nil {
		return err
	}
	if _, err := c.await(ctx, 1, job); err != nil {
		return err
	}
	s, err := b.client.Status(ctx, job, statusOptions())
	if err != nil {
		return err
	}
	if s.Status != protocol.StatusCompleted || s.Metrics == nil || s.Metrics.Attempts != 2 || s.RetryCount == nil || *s.RetryCount != 1 {
		return fmt.Errorf("job ended %v with metrics %+v and retries %v, want two attempts", s.Status, s.Metrics, s.RetryCount)
	}
	return b.settle(ctx)
}

// killRuntime kills the process of the handler: it alone has the journal's name.
func (b *bed) killRuntime() error {
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return err
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(env), startsEnv+"="+b.runsFile()) {
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
	c := &caller{b: b, name: "client"}
	job, err := c.must(ctx, order{task: task{N: 1, Ms: 1000}})
	if err != nil {
		return err
	}
	if err := c.running(ctx, 1, job); err != nil {
		return err
	}
	over := b.fault(record.Fault{Name: "agent-paused", Target: []string{"agent-1"}})
	defer over()
	if err := b.agents[0].signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if _, err := b.startAgent("agent-2", 1); err != nil {
		return err
	}
	before, err := c.await(ctx, 1, job)
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
	after, err := c.await(ctx, 1, job)
	if err != nil {
		return err
	}
	if *before != *after {
		return fmt.Errorf("a refused write changed the job from %+v to %+v", before, after)
	}
	left, err := filepath.Glob(b.path("agent-1/agent/journal/*.json"))
	if err != nil || len(left) > 0 {
		return fmt.Errorf("the refused result is still in the journal: %v %w", left, err)
	}
	over()
	return b.settle(ctx)
}

// strictOrder: one slot, 1,000 jobs of mixed priority, one of them failing
// once, one restart of the coordinator: the starts that the runtime recorded
// follow priority, then submission (I10).
func strictOrder(ctx context.Context, b *bed) error {
	const jobs, failing = 1000, 501
	if err := b.startAll(ctx); err != nil {
		return err
	}
	c := &caller{b: b, name: "client"}
	b.log.Lenient(failing)
	want := make([][]int, protocol.Priorities)
	for n := 1; n <= jobs; n++ {
		p, t := b.rand.IntN(protocol.Priorities), task{N: n}
		if n == failing {
			t.Mode = "fail-once"
		}
		if _, err := c.must(ctx, order{task: t, priority: protocol.Priority(p + 1).String()}); err != nil {
			return err
		}
		want[p] = append(want[p], n)
	}
	if _, err := b.startAgent("agent-1", 1); err != nil {
		return err
	}
	for done := 0; done < jobs/3; {
		all, err := starts(b.runsFile())
		if err != nil {
			return err
		}
		done = len(all)
		if err := pause(ctx, again); err != nil {
			return err
		}
	}
	b.hit("strict-order", b.nodes[0].name)
	b.nodes[0].kill()
	if err := b.nodes[0].start(ctx); err != nil {
		return err
	}
	if err := b.settle(ctx); err != nil {
		return err
	}
	return inOrder(b.runsFile(), slices.Concat(want...), failing)
}

// inOrder compares the record with the order that was asked for. The second
// start of the failing task comes after its back-off, so it is left out.
func inOrder(file string, plan []int, failing int) error {
	got, err := starts(file)
	if err != nil {
		return err
	}
	i, failed := 0, false
	for _, n := range got {
		if n == failing && failed {
			continue
		}
		failed = failed || n == failing
		if i == len(plan) || n != plan[i] {
			return fmt.Errorf("I10: start %d was task %d, want the order of priority and submission", i, n)
		}
		i++
	}
	return nil
}
