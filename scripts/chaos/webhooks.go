package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

const (
	// webhookRounds is how often the leader is killed at each of the two moments.
	webhookRounds = 3

	// webhookPace is between two submits: the leader always has an end to tell.
	webhookPace = 40 * time.Millisecond

	// webhookTime is how long the last webhooks may take: an election, and the
	// attempts that a dead leader had begun are made at once by the next.
	webhookTime = 30 * time.Second
)

// told is what the receiver wrote down: for each job its webhooks as they came.
type told struct {
	mu   sync.Mutex
	jobs map[protocol.JobID][]notice
	bad  []error
}

// notice is one webhook.
type notice struct {
	id     string
	status protocol.Status
	body   string
}

// take is the receiver.
func (t *told) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var doc struct {
		JobID  protocol.JobID
		Status protocol.Status
	}
	err = errors.Join(err, json.Unmarshal(body, &doc))
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		t.bad = append(t.bad, fmt.Errorf("a webhook cannot be read: %w: %s", err, body))
	}
	t.jobs[doc.JobID] = append(t.jobs[doc.JobID], notice{r.Header.Get(protocol.HeaderWebhookID), doc.Status, string(body)})
	w.WriteHeader(http.StatusOK)
}

// missing counts the jobs that were not told yet.
func (t *told) missing(jobs map[int]protocol.JobID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, id := range jobs {
		if len(t.jobs[id]) == 0 {
			n++
		}
	}
	return n
}

// webhookLeaderKill: the leader kills itself between the end of a job and its first
// webhook, and between the receiver's 2xx and its record (F23). Every job is told;
// what is told twice has the same id and the same bytes (I14).
func webhookLeaderKill(ctx context.Context, b *bed) error {
	t := &told{jobs: make(map[protocol.JobID][]notice)}
	url, end, err := b.receive(t)
	if err != nil {
		return err
	}
	defer end()
	if err := b.simple(ctx, 4); err != nil {
		return err
	}
	load, stop := context.WithCancel(ctx)
	defer stop()
	var work sync.WaitGroup
	defer work.Wait()
	defer stop()
	work.Go(func() {
		c := &caller{b: b, name: "client"}
		for n := 1; load.Err() == nil; n++ {
			_, _ = c.must(load, order{task: task{N: n, Ms: 5}, callback: url})
			_ = pause(load, webhookPace)
		}
	})
	for range webhookRounds {
		for _, point := range []string{"webhook.before", "webhook.after"} {
			if err := b.killTelling(ctx, point); err != nil {
				return err
			}
		}
	}
	stop()
	work.Wait()
	if err := b.settle(ctx); err != nil {
		return err
	}
	return b.everybodyTold(ctx, t)
}

// receive starts the receiver where the coordinators reach it, and allows it.
func (b *bed) receive(t *told) (url string, end func(), err error) {
	probe, err := net.Dial("udp", b.nodes[0].api) // sends nothing: it says which address of ours faces them
	if err != nil {
		return "", nil, err
	}
	host, _, err := net.SplitHostPort(probe.LocalAddr().String())
	if err := errors.Join(err, probe.Close()); err != nil {
		return "", nil, err
	}
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return "", nil, err
	}
	for _, n := range b.nodes {
		if err := n.configure(fmt.Sprintf("limits: {webhookAllow: [%q]}\n", host)); err != nil {
			return "", nil, errors.Join(err, ln.Close())
		}
	}
	s := &http.Server{Handler: http.HandlerFunc(t.take), ReadHeaderTimeout: callTime}
	var work sync.WaitGroup
	work.Go(func() { _ = s.Serve(ln) })
	return "http://" + ln.Addr().String() + "/hook", func() {
		_ = s.Close()
		work.Wait()
	}, nil
}

// killTelling has the leader kill itself at a point of telling how a job ended.
func (b *bed) killTelling(ctx context.Context, point string) error {
	n, err := b.leader(ctx)
	if err != nil {
		return err
	}
	over := b.fault(record.Fault{Name: "webhook-leader-kill", Target: []string{n.name}})
	defer over()
	if err := errors.Join(n.strike(point, "kill"), gone(ctx, n, healTime)); err != nil {
		return err
	}
	if err := n.start(ctx); err != nil {
		return err
	}
	return b.healthy(ctx)
}

// everybodyTold checks the receiver's journal against the jobs that ended.
func (b *bed) everybodyTold(ctx context.Context, t *told) error {
	b.mu.Lock()
	jobs := make(map[int]protocol.JobID, len(b.tasks))
	for n, id := range b.tasks {
		jobs[n] = id
	}
	b.mu.Unlock()
	err := within(ctx, webhookTime, func(ctx context.Context) error {
		for {
			left := t.missing(jobs)
			if left == 0 {
				return nil
			}
			if err := pause(ctx, again); err != nil {
				return fmt.Errorf("I14: %d of %d jobs that ended were not told: %w", left, len(jobs), err)
			}
		}
	})
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	twice := 0
	for id, list := range t.jobs {
		s, err := b.client.Status(ctx, id, statusOptions())
		if err != nil {
			return err
		}
		for _, n := range list {
			if n != list[0] || n.status != s.Status || n.id != protocol.WebhookID(id, 1) {
				t.bad = append(t.bad, fmt.Errorf("I14: job %s is %s, and was told %+v after %+v", id, s.Status, n, list[0]))
			}
		}
		twice += len(list) - 1
	}
	fmt.Printf("  %d jobs were told how they ended, %d webhooks came more than once\n", len(t.jobs), twice)
	return errors.Join(t.bad...)
}
