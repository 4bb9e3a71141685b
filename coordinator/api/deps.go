package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"windlass/coordinator/archive"
	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/board"
	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/coordinator/webhook"
	"windlass/protocol"
)

// Broker is the leader's matcher. Errors of its methods are *protocol.Error.
type Broker interface {
	Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error)
	BeginSync(req *protocol.SyncRequest) func(context.Context) (protocol.SyncResponse, error)
	Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error)
	Explain(job *state.Job) protocol.Explain
	ExplainNew(org, endpoint string, priority protocol.Priority) protocol.Explain
	Pause(job protocol.JobID, attempt uint32) error
	Health(org, endpoint string) broker.Health
	Agents() []protocol.AgentInfo
	Stats() broker.Stats
}

// Deps is what a Server serves. All of it outlives the server.
type Deps struct {
	Store *state.Store
	Board *board.Board
	Blobs blob.Store
	// Archive has the ended jobs that are not in the table any more.
	Archive *archive.Archive
	// Webhooks says where webhooks may go, and sends test events.
	Webhooks *webhook.Sender
	// MissingBlobs is how many payloads this coordinator has yet to fetch from the
	// others.
	MissingBlobs func() int64
	Keys         *auth.Keys
	Limits       Limits
	Failures     *auth.Failures
	// Cluster finds the leader for what this node cannot answer.
	Cluster Cluster
	// Broker returns the broker of this node's leadership, or NO_LEADER.
	Broker func() (Broker, *protocol.Error)
	// Write puts one command into the log, wherever the leader is. The result's
	// Code says why it was refused; an error is a *protocol.Error with
	// details.outcome, "none" or "unknown", or the context's: it may have happened.
	Write func(ctx context.Context, c *command.Command) (command.Result, error)
	// Admit says how a submit would be answered now, and writes nothing.
	Admit func(c *command.Submit) command.Result
	// Barrier returns when this node has applied all that was acknowledged
	// before the call; callers that come together share one check.
	Barrier func(ctx context.Context) error
	// Applied returns when this node has applied the log up to index.
	Applied func(ctx context.Context, index uint64) error
	// Operator is the cluster as an administrator sees and changes it.
	Operator Operator
	// Member says how this node stands in its cluster.
	Member func() Member
	// NowMs is the coordinator's clock in unix milliseconds.
	NowMs func() int64
	// PublicURL is the base of the URLs in answers, without /v2; empty takes the
	// address that the request was sent to.
	PublicURL func() string
	// UpgradeURL is where an organisation's limits are raised; empty: the
	// organisation's own route.
	UpgradeURL string
	// QueueLimit is how many jobs of one organisation may wait; 0 is
	// protocol.MaxQueueOrg.
	QueueLimit uint32
	Version    string
	Log        zerolog.Logger
	// Collectors are shown at /metrics beside the server's own.
	Collectors []prometheus.Collector
}
