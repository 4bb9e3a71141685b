package inference

import (
	"slices"
	"sync"
	"time"

	"windlass/protocol"
)

// Bounds of residency.
const (
	// DefaultKeep is how long an idle instance stays loaded (agent.md 5.3).
	DefaultKeep = 10 * time.Minute
	// MinResidency is how long an instance is safe from eviction, so that two
	// endpoints on a full host do not swap for every job.
	MinResidency = 30 * time.Second
	// BackoffMin and BackoffMax bound the pause after failed starts, which doubles.
	BackoffMin = time.Second
	BackoffMax = time.Minute
	// StartGrace is how long a start goes on that nobody waits for. Whoever asked
	// for it was served by another instance that became free, and while jobs are
	// short the next one asks a moment later: without it a busy agent starts and
	// ends an instance for every job and never has enough of them.
	StartGrace = time.Second
	// DefaultStopGrace is what a runtime gets to unload before it is killed.
	DefaultStopGrace = 10 * time.Second

	maxDoublings = 8    // BackoffMin doubled so often is above BackoffMax
	minReload    = 0.01 // seconds; keeps the value of instances that load at once comparable
)

// loop runs what is due by time alone.
func (p *Pool) loop() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		p.mu.Lock()
		if at := p.wakeAt; at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(time.Until(at))
		}
		p.mu.Unlock()
		select {
		case <-p.ctx.Done():
			return
		case <-p.kick:
		case <-timer.C:
			p.mu.Lock()
			p.schedule()
			p.mu.Unlock()
		}
	}
}

// schedule brings the pool to what its waiters and policies ask for; it runs
// after every change, with mu held. Grants come first, so that nobody waits for
// a start while a warm slot is free.
func (p *Pool) schedule() {
	now := time.Now()
	p.wakeAt = time.Time{}
	p.grantFree()
	p.abandonStarts(now)
	p.retireOld()
	for _, w := range p.waiters {
		if w.start == nil && !p.join(w) {
			w.start = p.begin(w.key, w.spec, now)
		}
	}
	p.keepMin(now)
	p.unloadIdle(now)
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *Pool) grantFree() {
	for _, w := range slices.Clone(p.waiters) {
		for _, r := range p.residents {
			if r.key == w.key && r.free() > 0 && p.grant(w, r, warmStart()) {
				break
			}
		}
	}
}

// grant gives w a slot of r if one is free.
func (p *Pool) grant(w *waiter, r *resident, cold protocol.ColdStart) bool {
	if r.free() == 0 {
		return false
	}
	p.drop(w)
	r.take(time.Now())
	w.finish(&Lease{pool: p, r: r, cold: cold}, nil)
	return true
}

// abandonStarts ends the starts that nobody has been waiting for, unless
// warm.min wants them.
func (p *Pool) abandonStarts(now time.Time) {
	for _, r := range p.residents {
		if r.state != starting || r.retired {
			continue
		}
		e := p.endpoints[r.key.Endpoint]
		current := !p.closed && e != nil && r.key.Revision == e.revision
		if p.bound(r) > 0 {
			continue
		}
		if current && p.count(r.key) <= e.warm.Min {
			r.unwanted = time.Time{}
			continue
		}
		if r.unwanted.IsZero() {
			r.unwanted = now
		}
		if due := r.unwanted.Add(StartGrace); current && now.Before(due) {
			p.wake(due)
			continue
		}
		r.retired = true
		r.cancel()
	}
}

// retireOld drains the instances of older revisions, and stops what is drained.
func (p *Pool) retireOld() {
	for _, r := range p.residents {
		if e := p.endpoints[r.key.Endpoint]; e != nil && r.key.Revision < e.revision && !p.wanted(r.key) {
			r.retired = true
		}
		if r.retired && r.busy == 0 {
			p.retire(r)
		}
	}
}

// wanted reports whether someone waits for key: work of an older revision that
// was leased before the change still finds its instance.
func (p *Pool) wanted(key Key) bool {
	return slices.ContainsFunc(p.waiters, func(w *waiter) bool { return w.key == key })
}

// join binds w to a start of its key that has a slot left.
func (p *Pool) join(w *waiter) bool {
	for _, r := range p.residents {
		if r.key == w.key && r.state == starting && !r.retired && p.bound(r) < r.slots {
			w.start, r.unwanted = r, time.Time{}
			return true
		}
	}
	return false
}

// begin starts an instance if policy, back-off and room allow it; nil if not.
func (p *Pool) begin(key Key, spec Spec, now time.Time) *resident {
	e := p.endpoint(key.Endpoint)
	n := p.count(key)
	if e.warm.Max > 0 && n >= max(e.warm.Max, e.warm.Min) {
		return nil
	}
	if now.Before(e.notUntil) {
		p.wake(e.notUntil)
		return nil
	}
	if e.failures > 0 && p.startingOf(key.Endpoint) > 0 {
		return nil // after a failure one start at a time shows whether it is cured
	}
	if p.config.MaxInstances > 0 && len(p.residents) >= p.config.MaxInstances {
		p.makeRoom(now)
		return nil
	}
	r := newResident(p.ctx, key, spec)
	p.residents = append(p.residents, r)
	p.wg.Go(func() { p.start(r) })
	return r
}

// makeRoom evicts one idle instance, unless one is on its way out already.
func (p *Pool) makeRoom(now time.Time) {
	for _, r := range p.residents {
		if r.state == stopping {
			return
		}
	}
	if r := p.victim(now); r != nil {
		p.retire(r)
	}
}

// victim is the idle instance of least value that policy lets go; nil if none.
func (p *Pool) victim(now time.Time) *resident {
	var least *resident
	for _, r := range p.residents {
		if r.state != ready || r.busy > 0 || !p.spare(r) {
			continue
		}
		if safe := r.readyAt.Add(MinResidency); now.Before(safe) {
			p.wake(safe)
			continue
		}
		if least == nil || r.value(now) < least.value(now) {
			least = r
		}
	}
	return least
}

// spare reports whether warm.min does without r.
func (p *Pool) spare(r *resident) bool {
	e := p.endpoints[r.key.Endpoint]
	return e == nil || r.key.Revision != e.revision || p.count(r.key) > e.warm.Min
}

func (p *Pool) keepMin(now time.Time) {
	if p.closed {
		return
	}
	for id, e := range p.endpoints {
		key := Key{Endpoint: id, Revision: e.revision}
		for p.count(key) < e.warm.Min {
			if p.begin(key, e.spec, now) == nil {
				break
			}
		}
	}
}

// unloadIdle stops what has been idle for warm.keep, above warm.min.
func (p *Pool) unloadIdle(now time.Time) {
	for _, r := range p.residents {
		if r.state != ready || r.busy > 0 || !p.spare(r) {
			continue
		}
		if due := r.idleAt.Add(p.endpoint(r.key.Endpoint).keep()); now.Before(due) {
			p.wake(due)
		} else {
			p.retire(r)
		}
	}
}

// retire ends r now: no further job, and its goroutine stops it.
func (p *Pool) retire(r *resident) {
	r.retired = true
	switch r.state {
	case starting:
		r.cancel()
	case ready:
		r.state = stopping
		close(r.stop)
	case stopping:
	}
}

func (p *Pool) release(r *resident, crashed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	r.put(crashed)
	p.schedule()
}

func (p *Pool) remove(r *resident) {
	p.residents = slices.DeleteFunc(p.residents, func(o *resident) bool { return o == r })
	r.cancel()
	close(r.gone)
	if p.closed && len(p.residents) == 0 {
		close(p.empty)
	}
}

func (p *Pool) drop(w *waiter) {
	p.waiters = slices.DeleteFunc(p.waiters, func(o *waiter) bool { return o == w })
}

func (p *Pool) endpoint(id string) *endpoint {
	e := p.endpoints[id]
	if e == nil {
		e = &endpoint{}
		p.endpoints[id] = e
	}
	return e
}

// bound counts the waiters of a start.
func (p *Pool) bound(r *resident) int {
	n := 0
	for _, w := range p.waiters {
		if w.start == r {
			n++
		}
	}
	return n
}

// count is how many instances of key are or will be ready.
func (p *Pool) count(key Key) int {
	n := 0
	for _, r := range p.residents {
		if r.key == key && !r.retired && r.state != stopping {
			n++
		}
	}
	return n
}

func (p *Pool) startingOf(endpoint string) int {
	n := 0
	for _, r := range p.residents {
		if r.key.Endpoint == endpoint && r.state == starting {
			n++
		}
	}
	return n
}

func (p *Pool) wake(at time.Time) {
	if p.wakeAt.IsZero() || at.Before(p.wakeAt) {
		p.wakeAt = at
	}
}

// warmStart is the cold start document of a job that found a warm instance.
func warmStart() protocol.ColdStart {
	hit := true
	return protocol.ColdStart{CacheHit: &hit}
}

// phaseMeter adds up the phases of one start.
type phaseMeter struct {
	mu     sync.Mutex
	seen   bool
	phases protocol.ColdStartPhases
}

func (m *phaseMeter) note(e Event) {
	if e.Type != EventPhase {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = true
	switch e.Phase {
	case PhaseContainerStart:
		m.phases.ContainerStart += e.Seconds
	case PhaseDependencyLoad:
		m.phases.DependencyLoad += e.Seconds
	case PhaseModelLoad:
		m.phases.ModelLoad += e.Seconds
	}
}

// coldStart is the document; a runtime that measured no phase gets the time of
// its start alone, because phases are never invented.
func (m *phaseMeter) coldStart(took time.Duration) protocol.ColdStart {
	m.mu.Lock()
	defer m.mu.Unlock()
	miss := false
	c := protocol.ColdStart{Occurred: true, Duration: took.Seconds(), CacheHit: &miss}
	if m.seen {
		ph := m.phases
		c.Phases, c.Duration = &ph, ph.ContainerStart+ph.DependencyLoad+ph.ModelLoad
	}
	return c
}
