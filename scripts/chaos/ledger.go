package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"windlass/protocol"
	"windlass/protocol/client"
)

// ledger is every acknowledged job of a scenario.
type ledger struct {
	b *bed

	mu   sync.Mutex
	jobs map[int]protocol.JobID // by task number
}

func newLedger(b *bed) *ledger { return &ledger{b: b, jobs: make(map[int]protocol.JobID)} }

// submit sends one task until it is acknowledged; a repeat carries the same
// idempotency key, as the client does by itself.
func (l *ledger) submit(ctx context.Context, endpoint, priority string, t task) (protocol.JobID, error) {
	input, err := json.Marshal(t)
	if err != nil {
		return protocol.JobID{}, err
	}
	req := protocol.SubmitRequest{Input: input, Priority: priority, IdempotencyKey: fmt.Sprintf("task-%d", t.N)}
	for {
		res, err := l.try(ctx, endpoint, req)
		if err == nil {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.jobs[t.N] = res.JobID
			return res.JobID, nil
		}
		var refused *protocol.Error
		if errors.As(err, &refused) && refused.Status > 0 && refused.Status < 500 && refused.Status != 429 {
			return protocol.JobID{}, fmt.Errorf("cannot submit task %d: %w", t.N, err)
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return protocol.JobID{}, err
		}
	}
}

// patience is how long one try of a submit may take; the client's own back-off
// would sit out most of a short outage.
const patience = 250 * time.Millisecond

func (l *ledger) try(ctx context.Context, endpoint string, req protocol.SubmitRequest) (protocol.SubmitResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.b.client.Submit(ctx, endpoint, req)
}

// await returns a job's status document once it is terminal.
func (l *ledger) await(ctx context.Context, job protocol.JobID) (protocol.JobStatus, error) {
	revision := ""
	for {
		s, err := l.b.client.Status(ctx, job, client.StatusOptions{Wait: 5 * time.Second, Revision: revision, Include: []string{"metrics"}})
		if err == nil && s.Status.Terminal() {
			return s, nil
		}
		if protocol.CodeOf(err) == protocol.CodeJobNotFound {
			return s, err
		}
		if err == nil {
			revision = s.Revision
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return s, fmt.Errorf("job %s is %v: %w", job, s.Status, err)
		}
	}
}

// until waits for a condition of a job.
func (l *ledger) until(ctx context.Context, job protocol.JobID, what string, ok func(protocol.JobStatus) bool) (protocol.JobStatus, error) {
	for {
		s, err := l.b.client.Status(ctx, job, client.StatusOptions{Include: []string{"metrics"}})
		if err == nil && ok(s) {
			return s, nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return s, fmt.Errorf("job %s never was %s, it is %v: %w", job, what, s.Status, err)
		}
	}
}

// settle waits for every job and fills the totals: each must be completed with
// the right output. mayRepeat names tasks that a fault made run again.
func (l *ledger) settle(ctx context.Context, mayRepeat func(n int) bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &l.b.totals
	t.acknowledged = len(l.jobs)
	var wrong error
	for n, job := range l.jobs {
		s, err := l.await(ctx, job)
		if err != nil {
			t.lost++
			wrong = errors.Join(wrong, fmt.Errorf("task %d: %w", n, err))
			continue
		}
		var out struct{ Sum string }
		if s.Status != protocol.StatusCompleted || json.Unmarshal(s.Output, &out) != nil || out.Sum != answer(n) {
			t.wrongOutput++
			wrong = errors.Join(wrong, fmt.Errorf("task %d ended %v with output %s and error %v", n, s.Status, s.Output, s.Error))
		}
	}
	return errors.Join(wrong, l.once(mayRepeat))
}

// once checks the runtime's own record: no task started twice.
func (l *ledger) once(mayRepeat func(n int) bool) error {
	all, err := starts(l.b.starts)
	if err != nil {
		return err
	}
	seen := make(map[int]int)
	for _, n := range all {
		seen[n]++
	}
	var wrong error
	for n := range l.jobs {
		if seen[n] == 0 {
			wrong = errors.Join(wrong, fmt.Errorf("task %d never started", n))
		}
		if seen[n] > 1 && (mayRepeat == nil || !mayRepeat(n)) {
			l.b.totals.twice++
			wrong = errors.Join(wrong, fmt.Errorf("task %d started %d times", n, seen[n]))
		}
	}
	return wrong
}
