package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"windlass/protocol"
)

// workers are agents without runtimes: they speak the agent protocol in full,
// end every job at once with a small output, and note when it arrived.
type workers struct {
	addr, key string
	slots     int
	hold      time.Duration

	done    atomic.Int64
	starts  samples
	parked  atomic.Int64
	allowed atomic.Int64 // jobs that may still be taken

	mu   sync.Mutex
	list []*worker
}

// allow lets the workers take n more jobs and tells the coordinator so.
func (w *workers) allow(n int64) {
	w.allowed.Add(n)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, wk := range w.list {
		wk.poke()
	}
}

// capacityLocked is what the worker states while it holds n jobs.
func (wk *worker) capacityLocked(n int) protocol.Capacity {
	wk.seq++
	return protocol.Capacity{Seq: wk.seq, Free: max(0, int(min(int64(wk.w.slots-n), wk.w.allowed.Load())))}
}

// worker is one of them.
type worker struct {
	w    *workers
	id   protocol.AgentID
	inc  protocol.Incarnation
	sync *conn
	up   *conn

	mu        sync.Mutex
	seq       uint64 // of the newest statement of capacity
	reporting uint64 // of the report that is not answered yet
	held      map[protocol.JobID]uint32
	handed    int // of held: their results are on the way, so they hold no slot
	finished  []protocol.Finish
	endpoints map[string]uint64
	wake      chan struct{}
}

func (w *workers) start(name string) (*worker, error) {
	now := time.Now()
	wk := &worker{w: w, id: protocol.NewAgentID(now), inc: protocol.NewIncarnation(now), held: make(map[protocol.JobID]uint32), wake: make(chan struct{}, 1)}
	var err error
	if wk.up, err = dial(w.addr, w.key); err != nil {
		return nil, err
	}
	if w.slots == 0 {
		wk.sync = wk.up // it will only wait, so one connection does
	}
	var answer protocol.RegisterResponse
	err = wk.call(wk.up, protocol.PathRegister, protocol.RegisterRequest{
		Agent: wk.id, Name: name, Incarnation: wk.inc,
		Facts: protocol.AgentFacts{Version: "bench", Slots: max(w.slots, 1), Kinds: []string{"builtin"}},
	}, &answer)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.list = append(w.list, wk)
	return wk, err
}

// poke makes the worker report now.
func (wk *worker) poke() {
	select {
	case wk.wake <- struct{}{}:
	default:
	}
}

func (wk *worker) call(c *conn, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	status, answer, err := c.post(path, body)
	if err != nil {
		return err
	}
	if status != 200 {
		return fmt.Errorf("%s answered %d: %s", path, status, answer)
	}
	return json.Unmarshal(answer, out)
}

// run serves until ctx ends, which closes its connections.
func (wk *worker) run(ctx context.Context) error {
	var err error
	if wk.sync == nil {
		if wk.sync, err = dial(wk.w.addr, wk.w.key); err != nil {
			return err
		}
	}
	stop := context.AfterFunc(ctx, func() { wk.sync.close(); wk.up.close() })
	defer stop()
	var wg sync.WaitGroup
	var syncErr, reportErr error
	wg.Go(func() { syncErr = wk.syncLoop(ctx) })
	wg.Go(func() { reportErr = wk.reportLoop(ctx) })
	wg.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("worker ended: sync: %v, report: %v", syncErr, reportErr)
}

func (wk *worker) syncLoop(ctx context.Context) error {
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		req := protocol.SyncRequest{Agent: wk.id, Incarnation: wk.inc, Seq: seq, HoldMs: wk.w.hold.Milliseconds()}
		wk.state(&req)
		wk.w.parked.Add(1)
		var answer protocol.SyncResponse
		err := wk.call(wk.sync, protocol.PathSync, req, &answer)
		wk.w.parked.Add(-1)
		if err != nil {
			return err
		}
		wk.mu.Lock()
		wk.takeLocked(answer.Endpoints, answer.Assign)
		wk.mu.Unlock()
	}
	return nil
}

func (wk *worker) takeLocked(docs []protocol.Endpoint, list []protocol.Assignment) {
	if len(docs) > 0 {
		wk.endpoints = maps.Clone(wk.endpoints) // requests share it
		if wk.endpoints == nil {
			wk.endpoints = make(map[string]uint64)
		}
		for i := range docs {
			wk.endpoints[docs[i].ID] = docs[i].Revision
		}
	}
	if len(list) == 0 {
		return
	}
	now := time.Now().UnixNano()
	late := make([]int64, 0, len(list))
	for _, a := range list {
		if _, again := wk.held[a.Job]; again {
			continue
		}
		wk.held[a.Job] = a.Attempt
		wk.finished = append(wk.finished, protocol.Finish{Job: a.Job, Attempt: a.Attempt, Outcome: protocol.OutcomeCompleted, Output: json.RawMessage(`{"ok":true}`)})
		if at := sentAt(a.Input); at > 0 {
			late = append(late, now-at)
		}
	}
	wk.w.starts.add(late...)
	wk.w.allowed.Add(-int64(len(list)))
	wk.poke()
}

func (wk *worker) state(req *protocol.SyncRequest) {
	wk.mu.Lock()
	defer wk.mu.Unlock()
	req.Held = make([]protocol.HeldAttempt, 0, len(wk.held))
	for job, attempt := range wk.held {
		req.Held = append(req.Held, protocol.HeldAttempt{Job: job, Attempt: attempt})
	}
	req.Capacity, req.Reporting, req.Endpoints = wk.capacityLocked(len(req.Held)-wk.handed), wk.reporting, wk.endpoints
}

func (wk *worker) reportLoop(ctx context.Context) error {
	beat := time.NewTicker(protocol.BeatPeriod)
	defer beat.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wk.wake:
		case <-beat.C:
		}
		if wk.w.slots == 0 {
			continue
		}
		if err := wk.report(); err != nil {
			return err
		}
	}
}

// report hands in what is finished; the capacity it states is what remains
// free once these are gone.
func (wk *worker) report() error {
	wk.mu.Lock()
	finished := wk.finished
	wk.finished = nil
	ended := make(map[protocol.JobID]bool, len(finished))
	for _, f := range finished {
		ended[f.Job] = true
	}
	req := protocol.ReportRequest{Agent: wk.id, Incarnation: wk.inc, Finished: finished, Takes: true, Endpoints: wk.endpoints}
	for job, attempt := range wk.held {
		if !ended[job] {
			req.Held = append(req.Held, protocol.HeldAttempt{Job: job, Attempt: attempt})
		}
	}
	wk.handed = len(finished)
	req.Capacity = wk.capacityLocked(len(req.Held))
	wk.reporting = req.Capacity.Seq
	wk.mu.Unlock()
	var answer protocol.ReportResponse
	if err := wk.call(wk.up, protocol.PathReport, req, &answer); err != nil {
		return err
	}
	wk.mu.Lock()
	defer wk.mu.Unlock()
	wk.handed, wk.reporting = 0, 0
	for _, r := range answer.Attempts {
		if r.Finished {
			delete(wk.held, r.Job)
			if r.Code == "" {
				wk.w.done.Add(1)
			}
		}
	}
	wk.takeLocked(answer.Endpoints, answer.Assign)
	return nil
}
