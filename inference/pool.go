package inference

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"windlass/protocol"
)

// ErrPoolClosed answers an Acquire on a pool that closes.
var ErrPoolClosed = errors.New("pool is closed")

// Key names what an instance serves. A new revision is a new key: instances of
// the older one drain (DESIGN 3.13).
type Key struct {
	Endpoint string // protocol.EndpointName
	Revision uint64
}

// Opener starts one instance for key. ctx ends when nobody wants it any more.
type Opener func(ctx context.Context, key Key, spec Spec, sink Sink) (Instance, error)

// PoolConfig configures a Pool.
type PoolConfig struct {
	// Open starts instances; usually through a shim.
	Open Opener
	// MaxInstances bounds the resident instances, starting and stopping ones
	// included; 0 is no bound.
	MaxInstances int
	// StopGrace is how long an unloaded instance may take before it is ended by
	// force; 0 is DefaultStopGrace.
	StopGrace time.Duration
	// Events, if set, receives what instances tell outside of Invoke.
	Events func(Key, Event)
}

// Pool keeps instances resident: it starts them once for all who wait, gives
// their slots to jobs, and unloads what is not used.
type Pool struct {
	config PoolConfig
	ctx    context.Context // ends when the pool closes
	cancel context.CancelFunc
	kick   chan struct{} // wakes the loop after a change of wakeAt
	empty  chan struct{} // closed when the pool is closed and no resident is left
	wg     sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	endpoints map[string]*endpoint
	residents []*resident // starting, ready and stopping
	waiters   []*waiter   // in the order of their arrival
	wakeAt    time.Time   // when schedule has something to do by time alone
	failed    []error     // stops that failed
}

// NewPool returns a running pool; Close ends it.
func NewPool(config PoolConfig) *Pool {
	if config.StopGrace == 0 {
		config.StopGrace = DefaultStopGrace
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &Pool{
		config: config, ctx: ctx, cancel: cancel,
		kick: make(chan struct{}, 1), empty: make(chan struct{}), endpoints: make(map[string]*endpoint),
	}
	p.wg.Go(p.loop)
	return p
}

// Lease is one slot of one instance, held for one job.
type Lease struct {
	pool *Pool
	r    *resident
	cold protocol.ColdStart
	once sync.Once
}

// Instance is what the job runs on.
func (l *Lease) Instance() Instance { return l.r.inst }

// ColdStart says what the job waited for: on a warm instance it did not occur
// and cacheHit is true; otherwise it is the start as the instance measured it.
func (l *Lease) ColdStart() protocol.ColdStart { return l.cold }

// Release gives the slot back; the instance stays warm. Only the first call of
// Release or Discard counts.
func (l *Lease) Release() { l.once.Do(func() { l.pool.release(l.r, false) }) }

// Discard gives the slot back and retires the instance, as a Failure with
// Crashed asks: it gets no further job and stops when its last slot is free.
func (l *Lease) Discard() { l.once.Do(func() { l.pool.release(l.r, true) }) }

// Acquire waits for a slot on an instance of key: a free warm one, one that is
// starting, or a new one from spec. Concurrent callers share a start. sink, if
// set, receives the events of the start while the caller waits for it. The
// error is the start's, the cause of ctx, or ErrPoolClosed. After failed starts
// the next one waits for its back-off, and the caller with it.
func (p *Pool) Acquire(ctx context.Context, key Key, spec Spec, sink Sink) (*Lease, error) {
	w := &waiter{key: key, spec: spec, sink: sink, ready: make(chan struct{})}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, ErrPoolClosed
	}
	e := p.endpoint(key.Endpoint)
	if key.Revision > e.revision {
		e.revision, e.spec = key.Revision, spec
	}
	p.waiters = append(p.waiters, w)
	p.schedule()
	p.mu.Unlock()

	select {
	case <-w.ready:
		return w.lease, w.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-w.ready: // settled in the meantime: a slot must not be lost
		if w.lease != nil {
			w.lease.r.put(false)
		}
	default:
		p.drop(w)
	}
	p.schedule()
	return nil, context.Cause(ctx)
}

// Configure sets the endpoint's policy and current revision: instances of other
// revisions drain, and warm.min instances of this one are kept started from spec.
func (p *Pool) Configure(key Key, spec Spec, warm protocol.WarmPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	e := p.endpoint(key.Endpoint)
	e.warm = warm
	if key.Revision >= e.revision {
		e.revision, e.spec = key.Revision, spec
	}
	p.schedule()
}

// Forget drains every instance of an endpoint that does not exist any more.
func (p *Pool) Forget(endpoint string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.endpoints, endpoint)
	for _, r := range p.residents {
		if r.key.Endpoint == endpoint {
			r.retired = true
		}
	}
	p.schedule()
}

// Adopt takes over an instance that outlived its agent. It returns one lease for
// each of the running jobs that it still has.
func (p *Pool) Adopt(key Key, inst Instance, running int) ([]*Lease, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrPoolClosed
	}
	e := p.endpoint(key.Endpoint)
	e.revision = max(e.revision, key.Revision)
	r := newResident(p.ctx, key, Spec{})
	p.residents = append(p.residents, r)
	r.settle(inst, protocol.ColdStart{})
	leases := make([]*Lease, running)
	for i := range leases {
		leases[i] = &Lease{pool: p, r: r, cold: warmStart()}
		r.busy++
	}
	p.wg.Go(func() { p.reside(r) })
	p.schedule()
	return leases, nil
}

// Warm lists the ready instances with free slots, by endpoint and revision.
func (p *Pool) Warm() []protocol.WarmInstance {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []protocol.WarmInstance
	for _, r := range p.residents {
		if r.free() > 0 {
			out = append(out, protocol.WarmInstance{Endpoint: r.key.Endpoint, Revision: r.key.Revision, Free: r.free()})
		}
	}
	slices.SortFunc(out, func(a, b protocol.WarmInstance) int {
		return cmp.Or(cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Free, b.Free))
	})
	return out
}

// Evict unloads the idle instance of least value and waits until it is gone; an
// Opener calls it when the host lacks room for a start. It returns false when
// nothing is idle.
func (p *Pool) Evict(ctx context.Context) (bool, error) {
	p.mu.Lock()
	r := p.victim(time.Now())
	if r == nil {
		p.mu.Unlock()
		return false, nil
	}
	p.retire(r)
	p.mu.Unlock()
	select {
	case <-r.gone:
		return true, nil
	case <-ctx.Done():
		return true, context.Cause(ctx)
	}
}

// Close refuses further calls, ends the starts, and stops every instance as soon
// as its leases are released, or by force when ctx ends. It returns when all are gone.
func (p *Pool) Close(ctx context.Context) error {
	p.mu.Lock()
	if !p.closed && len(p.residents) == 0 {
		close(p.empty)
	}
	p.closed = true
	for _, w := range p.waiters {
		w.finish(nil, ErrPoolClosed)
	}
	p.waiters = nil
	for _, r := range p.residents {
		r.retired = true
	}
	p.schedule()
	p.mu.Unlock()

	select {
	case <-p.empty:
	case <-ctx.Done():
		p.mu.Lock()
		for _, r := range p.residents {
			p.retire(r)
		}
		p.mu.Unlock()
		<-p.empty
	}
	p.cancel()
	p.wg.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.failed...)
}
