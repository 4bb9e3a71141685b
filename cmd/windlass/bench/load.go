package bench

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load submits jobs and remembers how long each acknowledgement took.
type load struct {
	addrs []string // clients go to them in turn
	acks  samples
	sent  atomic.Int64
}

const submitPath = "/v2/endpoints/" + endpointID + "/runasync"

// closed runs n clients that each submit one job after the other until ctx
// ends or limit jobs were taken (0: no limit).
func (l *load) closed(ctx context.Context, n int, limit int64) error {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		wg.Go(func() { errs[i] = l.client(ctx, l.addrs[i%len(l.addrs)], limit) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) client(ctx context.Context, addr string, limit int64) error {
	c, err := dial(addr, benchKey)
	if err != nil {
		return err
	}
	defer c.close()
	body := submitBody()
	var took []int64
	defer func() { l.acks.add(took...) }()
	for ctx.Err() == nil {
		if limit > 0 && l.sent.Add(1) > limit {
			return nil
		}
		ns, err := submit(c, body)
		if err != nil {
			return err
		}
		took = append(took, ns)
	}
	return nil
}

func submit(c *conn, body []byte) (int64, error) {
	stamp(body)
	start := time.Now()
	status, answer, err := c.post(submitPath, body)
	if err != nil {
		return 0, fmt.Errorf("cannot submit: %w", err)
	}
	if status != 200 {
		return 0, fmt.Errorf("cannot submit: %d %s", status, strings.TrimSpace(string(answer)))
	}
	return int64(time.Since(start)), nil
}

// openClients is enough connections that an open loop never waits for one at
// the rates that latency is measured at.
const openClients = 32

// open submits rate jobs per second for d, whatever the answers take.
func (l *load) open(ctx context.Context, rate int, d time.Duration) error {
	ticks := make(chan struct{}, rate)
	var wg sync.WaitGroup
	errs := make([]error, openClients)
	for i := range openClients {
		wg.Go(func() { errs[i] = l.onTick(l.addrs[i%len(l.addrs)], ticks) })
	}
	next := time.Now()
	for range int(float64(rate) * d.Seconds()) {
		next = next.Add(time.Second / time.Duration(rate))
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(next)):
		}
		ticks <- struct{}{}
	}
	close(ticks)
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *load) onTick(addr string, ticks <-chan struct{}) error {
	c, err := dial(addr, benchKey)
	if err != nil {
		return err
	}
	defer c.close()
	body := submitBody()
	for range ticks {
		ns, err := submit(c, body)
		if err != nil {
			return err
		}
		l.acks.add(ns)
		l.sent.Add(1)
	}
	return nil
}
