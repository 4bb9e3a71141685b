// Package broker decides on the leader which agent runs which job: it matches
// queued jobs with parked agents, grants leases through the log, renews and
// expires them, and answers the agent protocol. See DESIGN.md.
package broker

import (
	"context"

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
}

// Config is what a Broker needs.
type Config struct {
	Proposer Proposer
	NowMs    func() int64 // the leader's clock, unix milliseconds (DESIGN 3.6)
	Board    Board
	Log      zerolog.Logger
}

// Broker is the leader's matcher. Its methods are safe for concurrent use and
// answer NO_LEADER unless Run has built its queue.
type Broker struct {
	cfg Config
}

// New returns a broker that serves once Run is called.
func New(cfg Config) *Broker { return &Broker{cfg: cfg} }

// Run builds the queue from the store and serves until ctx ends.
func (b *Broker) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Ready is closed once the current Run serves.
func (b *Broker) Ready() <-chan struct{} { return make(chan struct{}) }

// Submit creates a job, with its lease in the same batch when an agent waits.
func (b *Broker) Submit(ctx context.Context, s *command.Submit) (command.Result, error) {
	return command.Result{}, errNoLeader()
}

// Cancel ends a job as cancelled.
func (b *Broker) Cancel(ctx context.Context, org string, job protocol.JobID) (command.Result, error) {
	return command.Result{}, errNoLeader()
}

// Reopen starts a new run of a terminal job.
func (b *Broker) Reopen(ctx context.Context, org string, job protocol.JobID) (command.Result, error) {
	return command.Result{}, errNoLeader()
}

// Register opens a new life of an agent.
func (b *Broker) Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error) {
	return protocol.RegisterResponse{}, errNoLeader()
}

// Sync parks an agent's poll until there is something to tell it.
func (b *Broker) Sync(ctx context.Context, req protocol.SyncRequest) (protocol.SyncResponse, error) {
	return protocol.SyncResponse{}, errNoLeader()
}

// Report takes results and soft state and answers once the results committed.
func (b *Broker) Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error) {
	return protocol.ReportResponse{}, errNoLeader()
}

// Explain says where a job stands and why it waits.
func (b *Broker) Explain(job *state.Job) protocol.Explain { return protocol.Explain{JobID: job.ID} }

// Agents lists the registered agents by name, then id.
func (b *Broker) Agents() []protocol.AgentInfo { return nil }

// Stats counts what waits and what runs.
func (b *Broker) Stats() Stats { return Stats{} }

// Stats is a count at one moment.
type Stats struct {
	Queued  []QueuedCount // by organisation, endpoint and priority
	Running int           // leases
	Waiters int           // parked syncs
	// OldestMs is how long the oldest queued job has waited, in milliseconds.
	OldestMs int64
}

// QueuedCount is how many jobs of one endpoint and priority wait.
type QueuedCount struct {
	Org      string
	Endpoint string
	Priority protocol.Priority
	Count    int
}

func errNoLeader() error {
	return protocol.NewError(protocol.CodeNoLeader, "This coordinator does not lead: ask another one")
}
