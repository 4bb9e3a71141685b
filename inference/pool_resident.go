package inference

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"windlass/protocol"
)

// useHalfLife is how fast past use loses weight in a resident's value: about
// the time after which an operator calls an endpoint idle.
const useHalfLife = 10 * time.Minute

// endpoint is what the pool knows of one endpoint; Pool.mu guards it.
type endpoint struct {
	revision uint64 // the newest seen
	spec     Spec
	warm     protocol.WarmPolicy
	failures int       // failed starts in a row
	notUntil time.Time // no start before
}

// keep is how long an idle instance stays.
func (e *endpoint) keep() time.Duration {
	if d := e.warm.Keep.Std(); d > 0 {
		return d
	}
	return DefaultKeep
}

// fail notes a failed start and doubles the pause before the next.
func (e *endpoint) fail(now time.Time) {
	e.failures++
	pause := BackoffMax
	if e.failures < maxDoublings {
		pause = min(BackoffMin<<(e.failures-1), BackoffMax)
	}
	e.notUntil = now.Add(pause)
}

// waiter is one Acquire; Pool.mu guards it until ready is closed.
type waiter struct {
	key   Key
	spec  Spec
	sink  Sink
	ready chan struct{}

	start *resident // the start it waits for, nil if none
	lease *Lease
	err   error
}

func (w *waiter) finish(l *Lease, err error) {
	w.lease, w.err = l, err
	close(w.ready)
}

type residentState uint8

const (
	starting residentState = iota
	ready
	stopping
)

// resident is one instance from its start to its end, and one goroutine.
type resident struct {
	key    Key
	spec   Spec
	ctx    context.Context // of the start
	cancel context.CancelFunc
	stop   chan struct{} // closed to stop it
	gone   chan struct{} // closed when it is gone

	// Pool.mu guards the rest.
	state    residentState
	retired  bool      // no further job
	unwanted time.Time // since when nobody waits for the start
	inst     Instance
	slots    int
	busy     int
	served   bool // a job was released without a crash
	cold     protocol.ColdStart
	readyAt  time.Time
	idleAt   time.Time
	uses     float64 // jobs, decayed by useHalfLife since usedAt
	usedAt   time.Time
}

func newResident(ctx context.Context, key Key, spec Spec) *resident {
	r := &resident{key: key, spec: spec, stop: make(chan struct{}), gone: make(chan struct{}), slots: max(spec.Concurrency, 1)}
	r.ctx, r.cancel = context.WithCancel(ctx)
	return r
}

// settle makes a started instance ready.
func (r *resident) settle(inst Instance, cold protocol.ColdStart) {
	now := time.Now()
	r.state, r.inst, r.cold, r.slots = ready, inst, cold, max(inst.Info().Slots, 1)
	r.readyAt, r.idleAt, r.usedAt = now, now, now
}

// free is the number of slots that a job may take now.
func (r *resident) free() int {
	if r.state != ready || r.retired || worn(r.inst) {
		return 0
	}
	select {
	case <-r.inst.Done():
		return 0
	default:
		return max(r.slots-r.busy, 0)
	}
}

// worn reports whether inst lost a slot for good.
func worn(inst Instance) bool {
	r, ok := inst.(Retirer)
	return ok && r.Retired()
}

func (r *resident) take(now time.Time) {
	r.busy++
	r.uses = r.rate(now) + 1
	r.usedAt = now
}

func (r *resident) put(crashed bool) {
	r.busy--
	r.idleAt = time.Now()
	if crashed || worn(r.inst) {
		r.retired = true
	} else {
		r.served = true
	}
}

func (r *resident) rate(now time.Time) float64 {
	return r.uses * math.Exp2(-now.Sub(r.usedAt).Seconds()/useHalfLife.Seconds())
}

// value orders idle residents for eviction: recent use times what a reload
// costs; with equal costs that is nearly least recently used (agent.md 5.3).
func (r *resident) value(now time.Time) float64 {
	return r.rate(now) * max(r.cold.Duration, minReload)
}

// reside is the life of one resident after its start.
func (p *Pool) reside(r *resident) {
	select {
	case <-r.inst.Done():
	case <-r.stop:
	}
	var err error
	select {
	case <-r.inst.Done(): // ended by itself: nothing of it is left
	default:
		ctx, cancel := context.WithTimeout(context.Background(), p.config.StopGrace)
		err = r.inst.Stop(ctx)
		cancel()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		p.failed = append(p.failed, fmt.Errorf("cannot stop instance of %s: %w", r.key.Endpoint, err))
	}
	if r.state == ready && !r.served && r.inst.Err() != nil {
		p.endpoint(r.key.Endpoint).fail(time.Now()) // it never did a job: part of a crash loop
	}
	p.remove(r)
	p.schedule()
}

// start opens one instance for the waiters bound to it, then is its life.
func (p *Pool) start(r *resident) {
	phases := &phaseMeter{}
	began := time.Now()
	inst, err := p.config.Open(r.ctx, r.key, r.spec, func(e Event) {
		phases.note(e)
		p.tell(r, e)
	})
	r.cancel()
	p.mu.Lock()
	if err != nil {
		p.startFailed(r, err)
		p.mu.Unlock()
		return
	}
	if e := p.endpoints[r.key.Endpoint]; e != nil {
		e.failures, e.notUntil = 0, time.Time{}
	}
	r.settle(inst, phases.coldStart(time.Since(began)))
	for _, w := range slices.Clone(p.waiters) {
		if w.start == r {
			w.start = nil
			p.grant(w, r, r.cold)
		}
	}
	p.schedule()
	p.mu.Unlock()
	p.reside(r)
}

// startFailed gives the failure to those who shared the start.
func (p *Pool) startFailed(r *resident, err error) {
	if e := p.endpoints[r.key.Endpoint]; e != nil && !r.retired { // a start that was called off did not fail
		e.fail(time.Now())
	}
	for _, w := range slices.Clone(p.waiters) {
		if w.start == r {
			p.drop(w)
			w.finish(nil, err)
		}
	}
	p.remove(r)
	p.schedule()
}

// tell hands an event of a start to those who wait for it.
func (p *Pool) tell(r *resident, e Event) {
	if p.config.Events != nil {
		p.config.Events(r.key, e)
	}
	p.mu.Lock()
	var sinks []Sink
	for _, w := range p.waiters {
		if w.start == r && w.sink != nil {
			sinks = append(sinks, w.sink)
		}
	}
	p.mu.Unlock()
	for _, sink := range sinks {
		sink(e)
	}
}
