package broker

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"windlass/coordinator/queue"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// term is one leadership: everything is derived from the store when it begins
// and forgotten when it ends.
type term struct {
	cfg   Config
	start time.Time     // the origin of monotonic time
	ended chan struct{} // closed when whoever waits must be told NO_LEADER
	fits  func(queue.Endpoint) bool

	mu        sync.Mutex
	cursor    *state.Cursor
	index     uint64 // of the newest batch taken in
	queue     *queue.Queue
	endpoints map[endpointKey]*endpoint
	byNumber  []*endpoint
	orgs      map[string]queue.Org
	agents    map[protocol.AgentID]*agent
	classes   []*class
	leases    map[protocol.JobID]*lease
	grants    map[protocol.JobID]*grant
	reserved  map[protocol.JobID]int // by registrations under way: not queued meanwhile
	idle      int                    // agents in a class heap
	parked    int                    // agents with a parked sync
	unfused   int                    // submits in flight without a lease

	// What a critical section leaves to be done at its end.
	pending []*grant
	outbox  []proposal
	touched []*agent

	expiry    leaseHeap
	stalledTo int64 // no lease is proposed before: the log just failed
	rematchAt int64 // a rejection ends; never when there is none
	timer     *time.Timer
	armedAt   int64
}

const never = math.MaxInt64

func newTerm(cfg Config) *term {
	t := &term{
		cfg: cfg, start: time.Now(), ended: make(chan struct{}),
		queue:     queue.New(),
		endpoints: make(map[endpointKey]*endpoint),
		orgs:      make(map[string]queue.Org),
		agents:    make(map[protocol.AgentID]*agent),
		leases:    make(map[protocol.JobID]*lease),
		grants:    make(map[protocol.JobID]*grant),
		reserved:  make(map[protocol.JobID]int),
		rematchAt: never, armedAt: never,
		timer: time.NewTimer(time.Hour),
	}
	t.fits = func(no queue.Endpoint) bool {
		_, _, ok := t.pick(t.byNumber[no])
		return ok
	}
	return t
}

// now is milliseconds of monotonic time: leases do not follow the wall clock.
func (t *term) now() int64 { return time.Since(t.start).Milliseconds() }

// build takes in a whole view. Subscribing before the view is taken means that
// a restore in between ends the cursor; batches that both show are skipped.
func (t *term) build() error {
	t.cursor = t.cfg.Store.Subscribe(t.cfg.Store.View().Index())
	view := t.cfg.Store.View()
	t.index = view.Index()
	now := t.now()
	for _, e := range view.Endpoints("") {
		t.endpoint(e.Org, e.ID).row = e
	}
	for _, a := range view.Agents() {
		t.applyAgent(a)
	}
	var queued []*state.Job
	view.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		switch {
		case j.Lease != nil:
			l := t.addLease(j, now)
			l.sent = true // by whoever led before: it may have started
		case j.Status == protocol.StatusQueued:
			queued = append(queued, j)
		}
		return true
	})
	// Ids are made before jobs are ordered, so they only nearly follow it.
	slices.SortFunc(queued, func(a, b *state.Job) int { return cmp.Compare(a.Seq, b.Seq) })
	for _, j := range queued {
		t.queue.Push(t.item(j))
	}
	_, _, err := t.peekErr()
	return err
}

// peekErr reports a cursor that can never deliver.
func (t *term) peekErr() (state.Changes, bool, error) {
	c, ok, err := t.cursor.TryNext()
	if ok {
		t.take(c)
	}
	return c, ok, err
}

// run owns the goroutines of a term and returns when they ended.
func (t *term) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	wg.Go(func() { t.tickLoop(ctx) })
	err := t.feedLoop(ctx)
	cancel(err)
	wg.Wait()
	return err
}

// feedLoop is woken by each batch. It has a cursor of its own, because the one
// that is drained under the lock belongs to whoever holds it.
func (t *term) feedLoop(ctx context.Context) error {
	t.lock()
	wake := t.cfg.Store.Subscribe(t.index)
	t.match()
	t.unlock()
	for {
		if _, err := wake.Next(ctx); err != nil {
			return err
		}
		t.lock()
		t.match()
		t.unlock()
	}
}

// end answers everybody; what they proposed may still be applied.
func (t *term) end() {
	t.timer.Stop()
	close(t.ended)
}

// lock opens a critical section that has seen every batch applied so far, so
// that a committed better job is never missed.
func (t *term) lock() {
	t.mu.Lock()
	t.drain()
}

// drain ignores the cursor's error: feedLoop sees the same and ends the term.
func (t *term) drain() {
	for {
		c, ok, err := t.cursor.TryNext()
		if err != nil || !ok {
			return
		}
		t.take(c)
	}
}

func (t *term) take(c state.Changes) {
	if c.Index <= t.index {
		return
	}
	t.index = c.Index
	for i := range c.List {
		t.apply(&c.List[i])
	}
}

// unlock ends a critical section: it answers the syncs that have something to
// say, arms the timer and, outside the lock, proposes what was decided.
func (t *term) unlock() {
	t.answerTouched()
	t.proposeGrants()
	out := t.outbox
	t.outbox = nil
	t.arm()
	t.mu.Unlock()
	for _, p := range out {
		t.cfg.Proposer.Enqueue(p.commands(), p.done)
	}
}
