// Package broker decides on the leader which agent runs which job: it matches
// queued jobs with parked agents, grants leases through the log, renews and
// expires them, and answers the agent protocol. See DESIGN.md.
package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/rs/zerolog"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// Proposer appends commands to the log.
type Proposer interface {
	// Enqueue hands over one group, which is applied in order within one batch.
	// done is called exactly once, from a goroutine of the proposer's or before
	// Enqueue returns: with one result for each command, after the batch was
	// applied here; or with an error, after which the group may still be applied.
	Enqueue(group []*command.Command, done func([]command.Result, error))
}

// Board keeps the soft state of attempts.
type Board interface {
	// Update takes updates whose fence is current and answers each, in order.
	Update(agent protocol.AgentID, u []protocol.AttemptUpdate) []protocol.AttemptReply
	// Measured returns when the handler of an attempt started, in unix milliseconds
	// or 0, and what its agent told of it so far.
	Measured(job protocol.JobID, attempt uint32) (startedMs int64, facts state.Facts)
}

// Config is what a Broker needs.
type Config struct {
	Store    *state.Store
	Proposer Proposer
	NowMs    func() int64 // the leader's clock, unix milliseconds (DESIGN 3.6)
	Board    Board
	// Feature is the replicated feature level: below command.FeatureCarry the next
	// leader may not know what a report's answer can carry. nil: every coordinator
	// knows.
	Feature func() uint32
	Log     zerolog.Logger
}

// Broker is the leader's matcher. Its methods are safe for concurrent use and
// answer NO_LEADER unless Run has built its queue.
type Broker struct {
	cfg Config

	mu    sync.Mutex
	term  *term // nil while this coordinator does not serve
	ready chan struct{}
}

// New returns a broker that serves once Run is called.
func New(cfg Config) *Broker { return &Broker{cfg: cfg, ready: make(chan struct{})} }

// Run builds the queue from the store and serves until ctx ends, which is how
// leadership is lost; it returns nil then. When a snapshot replaces the state it
// builds again. Whoever still waits is answered with NO_LEADER.
func (b *Broker) Run(ctx context.Context) error {
	for {
		err := b.serve(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if !errors.Is(err, state.ErrAbandoned) && !errors.Is(err, state.ErrTooOld) {
			return fmt.Errorf("cannot serve jobs: %w", err)
		}
		b.cfg.Log.Info().Msg("state was replaced, queue is built again")
	}
}

func (b *Broker) serve(ctx context.Context) error {
	t := liveTerm(b.cfg)
	if err := t.build(); err != nil {
		return err
	}
	b.mu.Lock()
	b.term = t
	close(b.ready)
	b.mu.Unlock()
	err := t.run(ctx)
	b.mu.Lock()
	b.term = nil
	b.ready = make(chan struct{})
	b.mu.Unlock()
	t.end()
	return err
}

// Ready is closed once the current Run serves.
func (b *Broker) Ready() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ready
}

func (b *Broker) current() (*term, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.term == nil {
		return nil, errNoLeader()
	}
	return b.term, nil
}

// Submit creates a job, with its lease in the same batch when an agent waits
// for it. It returns when the job is committed. The result's Code says why a
// submit was refused; an error means that the job may exist.
func (b *Broker) Submit(ctx context.Context, s *command.Submit) (command.Result, error) {
	t, err := b.current()
	if err != nil {
		return command.Result{}, err
	}
	return t.submit(ctx, s)
}

// Write applies one command of a client: Submit for a submit, else as it is.
// It returns when the command is committed. The result's Code says why it was
// refused; an error with details.outcome "none" that it never happens, any other
// that it may have.
func (b *Broker) Write(ctx context.Context, c *command.Command) (command.Result, error) {
	t, err := b.current()
	if err != nil {
		return command.Result{}, err
	}
	r, err := t.wait(ctx, t.beginWrite(c))
	if err != nil {
		return command.Result{}, err
	}
	return r[0], nil
}

// Register opens a new life of an agent (DESIGN 3.3). It is answered when the
// registration, and every adoption that it led to, is committed.
func (b *Broker) Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	t, err := b.current()
	if err != nil {
		return protocol.RegisterResponse{}, err
	}
	return t.register(ctx, req)
}

// Sync takes an agent's statement of its state and parks it until there is
// something to tell, or until its hold ends (DESIGN 3.4). Errors: UNKNOWN_AGENT,
// STALE_INCARNATION, NO_LEADER, the context's.
func (b *Broker) Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	return b.BeginSync(&req)(ctx)
}

// BeginSync is Sync in two steps: it takes the statement in, and what it returns
// waits for the answer. That must be called once; with a context that ended it
// gives the parked sync up. Ten thousand wait at a time, and a goroutine that
// only waits needs a fourth of the stack of one that also took the statement in.
func (b *Broker) BeginSync(req *protocol.SyncRequest) func(context.Context) (protocol.SyncResponse, error) {
	t, err := b.current()
	if err != nil {
		return func(context.Context) (protocol.SyncResponse, error) { return protocol.SyncResponse{}, err }
	}
	return t.sync(req).wait
}

// Report takes results and soft state and answers once the results committed.
// Errors are those of Sync, and the proposer's: the agent must repeat them.
func (b *Broker) Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	t, err := b.current()
	if err != nil {
		return protocol.ReportResponse{}, err
	}
	return t.report(ctx, req)
}

// Explain says where a job stands and why it waits, by the rules that match it.
func (b *Broker) Explain(job *state.Job) protocol.Explain {
	t, err := b.current()
	if err != nil {
		return protocol.Explain{JobID: job.ID, Status: job.Status, Reasons: []string{"no coordinator leads at the moment"}}
	}
	return t.explain(job)
}

// ExplainNew says the same of a job that would be submitted now.
func (b *Broker) ExplainNew(org, endpoint string, priority protocol.Priority) protocol.Explain {
	t, err := b.current()
	if err != nil {
		return protocol.Explain{Status: protocol.StatusQueued, Reasons: []string{"no coordinator leads at the moment"}}
	}
	return t.explainNew(org, endpoint, priority)
}

// Agents lists the registered agents by name, then id; empty without leadership.
func (b *Broker) Agents() []protocol.AgentInfo {
	t, err := b.current()
	if err != nil {
		return nil
	}
	return t.infos()
}

// Pause asks the agent of a leased attempt to stop it at a checkpoint. Whether it
// does is seen in the job. Errors: CONFLICT when the attempt is not leased any
// more, NO_LEADER.
func (b *Broker) Pause(job protocol.JobID, attempt uint32) error {
	t, err := b.current()
	if err != nil {
		return err
	}
	return t.pause(job, attempt)
}

// Health tells how an endpoint stands with its agents; zero without leadership.
func (b *Broker) Health(org, endpoint string) Health {
	t, err := b.current()
	if err != nil {
		return Health{}
	}
	return t.health(org, endpoint)
}

// Stats counts what waits and what runs; zero without leadership.
func (b *Broker) Stats() Stats {
	t, err := b.current()
	if err != nil {
		return Stats{}
	}
	return t.stats()
}

func errNoLeader() error {
	return protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead: ask another one").With("outcome", "none")
}

// errTermOver is for what was proposed in a term that ended: it may be applied.
func errTermOver() error {
	return protocol.NewError(protocol.CodeNoLeader, "This coordinator stopped leading while the write was under way").With("outcome", "unknown")
}
