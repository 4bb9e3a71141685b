package broker

import (
	"cmp"
	"context"
	"math"
	"math/rand/v2"
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
	now   func() int64        // milliseconds of monotonic time: leases do not follow the wall clock
	draw  func(n int64) int64 // uniform in [0, n)
	ended chan struct{}       // closed when whoever waits must be told NO_LEADER
	fits  func(queue.Endpoint) bool
	timer *time.Timer // nil when a Driver steps the term

	mu        sync.Mutex
	cursor    *state.Cursor
	index     uint64 // of the newest batch taken in
	queue     *queue.Queue
	endpoints map[endpointKey]*endpoint
	byNumber  []*endpoint
	orgs      map[string]*org
	agents    map[protocol.AgentID]*agent
	roster    []*agent // the same in the order in which they were met: no step depends on a map's order
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
	armedAt   int64
	woken     bool // a parked sync was answered; only a Driver asks
}

const never = math.MaxInt64

// liveTerm is a term in the time of this machine.
func liveTerm(cfg Config) *term {
	start := time.Now()
	t := newTerm(cfg, func() int64 { return time.Since(start).Milliseconds() }, rand.Int64N)
	t.timer = time.NewTimer(time.Hour)
	return t
}

func newTerm(cfg Config, now func() int64, draw func(n int64) int64) *term {
	t := &term{
		cfg: cfg, now: now, draw: draw, ended: make(chan struct{}),
		queue:     queue.New(),
		endpoints: make(map[endpointKey]*endpoint),
		orgs:      make(map[string]*org),
		agents:    make(map[protocol.AgentID]*agent),
		leases:    make(map[protocol.JobID]*lease),
		grants:    make(map[protocol.JobID]*grant),
		reserved:  make(map[protocol.JobID]int),
		rematchAt: never, armedAt: never,
	}
	t.fits = func(no queue.Endpoint) bool {
		_, _, ok := t.pick(t.byNumber[no])
		return ok
	}
	return t
}

// build takes in a whole view. Subscribing before the view is taken means that
// a restore in between ends the cursor; batches that both show are skipped.
func (t *term) build() error {
	t.cursor = t.cfg.Store.Subscribe(t.cfg.Store.View().Index())
	view := t.cfg.Store.View()
	t.index = view.Index()
	now := t.now()
	for _, o := range view.Orgs() {
		t.applyOrg(o)
	}
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
			l.report = unknownReport
		case j.Waits():
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
		t.feed()
	}
}

// feed takes in what was applied and grants what it allows.
func (t *term) feed() {
	t.lock()
	t.match()
	t.unlock()
}

// end answers everybody; what they proposed may still be applied.
func (t *term) end() {
	if t.timer != nil {
		t.timer.Stop()
	}
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
