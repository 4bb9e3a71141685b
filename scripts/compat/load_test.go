//go:build compat

package compat

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

// endpoint answers with its input.
const endpoint = "ep_echo"

// callers submit one after the other, each of its own jobs.
const callers = 4

// openJobs is how many of its jobs a caller leaves unfinished: more would only be a
// backlog, which on a busy machine takes longer than the test waits.
const openJobs = 16

// callPause keeps the load from being all that two processors do.
const callPause = 10 * time.Millisecond

// load submits and reads all the time, and remembers what was acknowledged.
type load struct {
	c    *cluster
	stop context.CancelFunc
	work sync.WaitGroup

	mu     sync.Mutex
	jobs   map[protocol.JobID]string // acknowledged, with the input
	failed []error
	newest time.Time     // of an acknowledgement
	gap    time.Duration // longest between two
}

func startLoad(c *cluster) *load {
	ctx, stop := context.WithCancel(context.Background())
	l := &load{c: c, stop: stop, jobs: make(map[protocol.JobID]string), newest: time.Now()}
	for i := range callers {
		l.work.Go(func() { l.call(ctx, i) })
	}
	return l
}

func (l *load) call(ctx context.Context, caller int) {
	var open []protocol.JobID
	for n := 0; ctx.Err() == nil; n++ {
		name := fmt.Sprintf("%d-%d", caller, n)
		input := fmt.Sprintf(`{"n":%q}`, name)
		resp, err := l.c.client.Submit(ctx, endpoint, protocol.SubmitRequest{Input: json.RawMessage(input), IdempotencyKey: name})
		if err == nil {
			_, err = l.c.client.Status(ctx, resp.JobID, client.StatusOptions{})
		}
		if ctx.Err() != nil {
			return
		}
		l.mu.Lock()
		now := time.Now()
		if err != nil {
			l.failed = append(l.failed, fmt.Errorf("%s: %w", name, err))
		} else {
			l.jobs[resp.JobID] = input
			l.gap = max(l.gap, now.Sub(l.newest))
			l.newest = now
			open = append(open, resp.JobID)
		}
		l.mu.Unlock()
		for len(open) >= openJobs && l.ended(ctx, open[0]) {
			open = open[1:]
		}
		<-time.After(callPause)
	}
}

// ended waits for the end of a job; false when the load is to stop.
func (l *load) ended(ctx context.Context, id protocol.JobID) bool {
	for ctx.Err() == nil {
		if s, err := l.c.client.Status(ctx, id, client.StatusOptions{}); err == nil && s.Status.Terminal() {
			break
		}
		<-time.After(callPause)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.newest = time.Now() // nothing was sent meanwhile that could have been acknowledged
	return ctx.Err() == nil
}

func (l *load) acknowledged() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.jobs)
}

// more waits until the cluster as it is now has acknowledged so many more.
func (l *load) more(n int) {
	l.c.t.Helper()
	want := l.acknowledged() + n
	l.c.until(fmt.Sprintf("%d acknowledged", want), func(context.Context) bool { return l.acknowledged() >= want })
}

// end stops the load and checks every job that was acknowledged: it is completed,
// with its own input as the result.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	l.work.Wait()
	for _, err := range l.failed {
		t.Errorf("a call failed: %v", err)
	}
	for id, input := range l.jobs {
		var status protocol.JobStatus
		l.c.until("job "+id.String()+" completed", func(ctx context.Context) bool {
			var err error
			status, err = l.c.client.Status(ctx, id, client.StatusOptions{})
			if protocol.CodeOf(err) == protocol.CodeJobNotFound {
				t.Fatalf("job %s was acknowledged and is lost", id)
			}
			return err == nil && status.Status.Terminal()
		})
		if status.Status != protocol.StatusCompleted || !equalJSON(status.Output, input) {
			t.Errorf("job %s is %s with output %s, want %s", id, status.Status, status.Output, input)
		}
	}
	t.Logf("%d jobs acknowledged, %d calls failed, longest time without an acknowledgement %s", len(l.jobs), len(l.failed), l.gap.Round(time.Millisecond))
}

func equalJSON(got json.RawMessage, want string) bool {
	var a, b any
	if json.Unmarshal(got, &a) != nil || json.Unmarshal([]byte(want), &b) != nil {
		return false
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}
