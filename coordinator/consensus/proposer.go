package consensus

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"windlass/coordinator/command"
	"windlass/protocol"
)

const (
	// maxBatchCommands and maxBatchBytes close a batch. Batches grow by
	// themselves while the previous one syncs, so the bounds only matter far
	// above the rate where a sync is shared by enough commands: they keep one
	// entry's apply near a millisecond and one append far below raft-wal's
	// 64 MiB limit (performance.md 4.1).
	maxBatchCommands = 512
	maxBatchBytes    = 1 << 20

	// maxGroupBytes is the largest group: a group is one entry, and an entry is
	// held whole in memory on every node.
	maxGroupBytes = 16 << 20

	// maxWaiting is the number of commands that may wait before callers do:
	// eight full batches, so the batcher never starves and a slow disk costs
	// memory for a moment's work only.
	maxWaiting = 8 * maxBatchCommands

	// soloInFlight and clusterInFlight are the entries in flight with one voter
	// and with several: a second entry overlaps one node's sync with the other's
	// round trip, and only makes batches smaller when there is no other
	// (performance.md 2.1).
	soloInFlight    = 1
	clusterInFlight = 2
)

// future is what raft.Apply returns, as far as it is used here.
type future interface {
	Error() error
	Response() any
}

// group is commands that travel in one entry.
type group struct {
	cmds  []*command.Command
	done  func([]command.Result, error)
	bytes int
}

// batch is the groups of one entry in flight.
type batch struct {
	groups []group
	count  int
	future future
	err    error // it was never handed to raft
}

// Proposer packs the commands of all callers into as few raft entries as their
// rate allows. One goroutine cuts the batches; done callbacks run before the
// next batch is cut (with one voter), so that what they enqueue joins it.
type Proposer struct {
	apply    func([]byte) future
	leading  func() bool
	inFlight func() int    // 1 or 2, by the number of voters
	failed   func() error  // why nothing may be acknowledged any more
	level    func() uint32 // feature level of the cluster; nil: every command may pass
	answered func(error)   // told what raft answered; may be nil
	clock    *Clock
	waiters  sync.Pool     // of *waiter
	wake     chan struct{} // capacity 1: something waits, a slot is free, or closing
	sent     chan batch    // to the deliverer; capacity clusterInFlight
	ended    sync.WaitGroup

	batches  atomic.Uint64
	commands atomic.Uint64

	mu         sync.Mutex
	space      sync.Cond // waiting fell, delivering rose, or closed; uses mu
	queue      []group
	waiting    int // commands in queue
	delivering int // callbacks are running: Enqueue must not block
	flying     int // entries in flight
	closed     bool
}

func newProposer(p *Proposer) *Proposer {
	p.space.L = &p.mu
	p.wake = make(chan struct{}, 1)
	p.sent = make(chan batch, clusterInFlight)
	p.waiters.New = func() any {
		w := &waiter{ch: make(chan answer, 1)}
		w.done = func(r []command.Result, err error) { w.ch <- answer{r, err} }
		return w
	}
	p.ended.Go(p.cut)
	p.ended.Go(p.deliverSent)
	return p
}

type answer struct {
	results []command.Result
	err     error
}

// waiter is one Propose; done is bound once so that reuse allocates nothing.
type waiter struct {
	ch   chan answer
	done func([]command.Result, error)
}

// Propose commits cmds together and returns their results in order. When ctx
// ends first the commands may still happen: the error then has the outcome
// "unknown". Errors are *protocol.Error: CodeNoLeader or CodeUnavailable with
// the detail outcome, "none" (it did not and will not happen) or "unknown".
func (p *Proposer) Propose(ctx context.Context, cmds ...*command.Command) ([]command.Result, error) {
	if len(cmds) == 0 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, unavailable(outcomeNone, "request ended before the command was proposed", err)
	}
	w := p.waiters.Get().(*waiter)
	if err := p.admit(ctx, group{cmds: cmds, done: w.done}); err != nil {
		p.waiters.Put(w)
		return nil, err
	}
	select {
	case a := <-w.ch:
		p.waiters.Put(w)
		return a.results, a.err
	case <-ctx.Done():
		return nil, unavailable(outcomeUnknown, "request ended before the command was committed", context.Cause(ctx))
	}
}

// Enqueue commits cmds together, in one entry that may hold other groups, and
// calls done exactly once: with one result for each command, or with an error
// as Propose returns it. done runs on the proposer's goroutine: it must be
// quick and must not wait for another proposal, and it may call Enqueue. cmds
// belong to the proposer until then. Enqueue blocks while maxWaiting commands
// wait, but never while callbacks run, so a caller may hold a lock that its
// callbacks take. After Close, done is called before Enqueue returns.
func (p *Proposer) Enqueue(cmds []*command.Command, done func([]command.Result, error)) {
	if len(cmds) == 0 {
		done(nil, nil)
		return
	}
	if err := p.admit(nil, group{cmds: cmds, done: done}); err != nil {
		done(nil, err)
	}
}

// measure checks and sizes the group on its caller's processor. A command that
// can never be applied is refused here, because the codec would refuse the
// whole batch, with everybody else's commands in it.
func (g *group) measure() error {
	for _, c := range g.cmds {
		if err := command.Check(c); err != nil {
			return protocol.NewError(protocol.CodeInternal, err.Error()).With("outcome", outcomeNone)
		}
		g.bytes += command.Size(c)
	}
	if g.bytes > maxGroupBytes {
		return protocol.NewError(protocol.CodeTooLarge, fmt.Sprintf("commands of %d bytes do not fit in one log entry", g.bytes)).With("outcome", outcomeNone)
	}
	return nil
}

// supported refuses what a coordinator of the version before could not apply.
func (g *group) supported(level func() uint32) error {
	if level == nil {
		return nil
	}
	for _, c := range g.cmds {
		if need, has := command.Feature(c), max(level(), command.FeatureBase); need > has {
			return unavailable(outcomeNone, fmt.Sprintf("this needs feature level %d, and the cluster has %d until every coordinator runs the newer version", need, has), nil)
		}
	}
	return nil
}

// admit queues g once there is room. A nil ctx is Enqueue's: it waits without
// end, but passes while callbacks run.
func (p *Proposer) admit(ctx context.Context, g group) error {
	if err := g.measure(); err != nil {
		return err
	}
	if err := g.supported(p.level); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting >= maxWaiting && ctx != nil {
		stop := context.AfterFunc(ctx, func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.space.Broadcast()
		})
		defer stop()
	}
	for p.waiting >= maxWaiting && !p.closed && (ctx != nil || p.delivering == 0) {
		if ctx != nil && ctx.Err() != nil {
			return unavailable(outcomeNone, "too many commands are waiting for the log", context.Cause(ctx))
		}
		p.space.Wait()
	}
	if p.closed {
		return unavailable(outcomeNone, "this coordinator is shutting down", nil)
	}
	p.queue = append(p.queue, g)
	p.waiting += len(g.cmds)
	if len(p.queue) == 1 {
		p.signal()
	}
	return nil
}

func (p *Proposer) signal() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// cut is the batcher: it takes what waits, proposes it, and with nothing else
// in flight waits for it and delivers.
func (p *Proposer) cut() {
	defer close(p.sent)
	for {
		b, alone, ok := p.next()
		if !ok {
			return
		}
		p.propose(&b)
		if alone {
			p.deliver(b)
		} else {
			p.sent <- b
		}
	}
}

// next waits for work and a free slot. alone is set when entries are to be in
// flight one at a time.
func (p *Proposer) next() (b batch, alone, ok bool) {
	for {
		// Whoever can run at this moment, such as those that the last batch
		// answered, may be about to enqueue: let them, so that more commands share
		// the sync. With nobody else to run it returns at once.
		runtime.Gosched()
		limit := p.inFlight()
		p.mu.Lock()
		if len(p.queue) > 0 && p.flying < limit {
			b = p.takeLocked()
			p.flying++
			p.mu.Unlock()
			return b, limit == 1, true
		}
		over := p.closed && len(p.queue) == 0
		p.mu.Unlock()
		if over {
			return batch{}, false, false
		}
		<-p.wake
	}
}

// takeLocked removes the groups of the next batch; always at least one.
func (p *Proposer) takeLocked() batch {
	n, count, size := 0, 0, 0
	for n < len(p.queue) {
		g := &p.queue[n]
		if n > 0 && (count+len(g.cmds) > maxBatchCommands || size+g.bytes > maxBatchBytes) {
			break
		}
		count += len(g.cmds)
		size += g.bytes
		n++
	}
	b := batch{count: count}
	if n == len(p.queue) {
		b.groups, p.queue = p.queue, nil
	} else {
		b.groups, p.queue = p.queue[:n:n], p.queue[n:]
	}
	p.waiting -= count
	if p.waiting < maxWaiting {
		p.space.Broadcast()
	}
	return b
}

// propose hands the batch to raft. On a node that does not lead, it is refused
// here, where it is certain that nothing happened.
func (p *Proposer) propose(b *batch) {
	if !p.leading() {
		b.err = raft.ErrNotLeader
		return
	}
	cmds := make([]*command.Command, 0, b.count)
	for _, g := range b.groups {
		cmds = append(cmds, g.cmds...)
	}
	data, err := command.Marshal(p.clock.NowMs(), cmds)
	if err != nil {
		b.err = fmt.Errorf("cannot encode batch: %w", err)
		return
	}
	b.future = p.apply(data)
}

func (p *Proposer) deliverSent() {
	for b := range p.sent {
		p.deliver(b)
	}
}

// deliver waits for the entry and answers every group of it.
func (p *Proposer) deliver(b batch) {
	results, err := p.outcome(&b)
	p.mu.Lock()
	p.delivering++
	p.space.Broadcast()
	p.mu.Unlock()
	for i := range b.groups {
		g := &b.groups[i]
		if err != nil {
			g.done(nil, err)
			continue
		}
		n := len(g.cmds)
		g.done(results[:n:n], nil)
		results = results[n:]
	}
	p.mu.Lock()
	p.delivering--
	p.flying--
	p.mu.Unlock()
	p.signal()
}

// outcome is the results of the batch, or the error for all of its groups.
func (p *Proposer) outcome(b *batch) ([]command.Result, error) {
	if b.future == nil {
		return nil, proposalError(b.err, true)
	}
	err := b.future.Error()
	if p.answered != nil {
		p.answered(err)
	}
	if err != nil {
		return nil, proposalError(err, false)
	}
	if err := p.failed(); err != nil {
		return nil, proposalError(err, false)
	}
	results, ok := b.future.Response().([]command.Result)
	if !ok || len(results) != b.count {
		return nil, unavailable(outcomeUnknown, "the state machine did not answer the batch", nil)
	}
	p.batches.Add(1)
	p.commands.Add(uint64(b.count))
	return results, nil
}

// close refuses new commands, lets what waits be proposed, and returns when
// every callback has run. raft must still run: it answers what is in flight.
func (p *Proposer) close() {
	p.mu.Lock()
	p.closed = true
	p.space.Broadcast()
	p.mu.Unlock()
	p.signal()
	p.ended.Wait()
}

// The values of the detail "outcome".
const (
	outcomeNone    = "none"    // it did not happen and will not
	outcomeUnknown = "unknown" // it may have happened
)

// proposalError translates what raft answered. sure says that the entry was
// never handed over. raft refuses an entry before it is in the log with the
// three errors below; every other error may come after it is.
func proposalError(err error, sure bool) error {
	switch {
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrEnqueueTimeout):
		return protocol.NewError(protocol.CodeNoLeader, "this coordinator does not lead").With("outcome", outcomeNone)
	case sure:
		return unavailable(outcomeNone, "the command could not be proposed", err)
	case errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrAbortedByRestore):
		return protocol.NewError(protocol.CodeNoLeader, "leadership was lost while the command was committed").With("outcome", outcomeUnknown)
	default:
		return unavailable(outcomeUnknown, "the command may not have been committed", err)
	}
}

func unavailable(outcome, message string, cause error) error {
	if cause != nil {
		message += ": " + cause.Error()
	}
	return protocol.NewError(protocol.CodeUnavailable, message).With("outcome", outcome)
}
