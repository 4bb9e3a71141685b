package api

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"windlass/coordinator/auth"
	"windlass/coordinator/blob"
	"windlass/coordinator/board"
	"windlass/coordinator/broker"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// Broker is the leader's matcher. Errors of its methods are *protocol.Error;
// one with details.outcome "unknown" says that the write may have happened.
type Broker interface {
	Submit(ctx context.Context, s *command.Submit) (command.Result, error)
	Register(ctx context.Context, req protocol.RegisterRequest) (protocol.RegisterResponse, error)
	BeginSync(req *protocol.SyncRequest) func(context.Context) (protocol.SyncResponse, error)
	Report(ctx context.Context, req protocol.ReportRequest) (protocol.ReportResponse, error)
	Cancel(ctx context.Context, org string, job protocol.JobID) (command.Result, error)
	Reopen(ctx context.Context, org string, job protocol.JobID) (command.Result, error)
	Explain(job *state.Job) protocol.Explain
	Agents() []protocol.AgentInfo
	Stats() broker.Stats
}

// Deps is what a Server serves. All of it outlives the server.
type Deps struct {
	Store *state.Store
	Board *board.Board
	Blobs blob.Store
	Keys  *auth.Keys
	// Broker returns the broker of this node's leadership, or NO_LEADER.
	Broker func() (Broker, *protocol.Error)
	// Propose appends commands to the log and returns their results.
	Propose func(ctx context.Context, commands ...*command.Command) ([]command.Result, error)
	// Barrier returns when this node has applied all that was acknowledged
	// before the call; callers that come together share one check.
	Barrier func(ctx context.Context) error
	// Member says how this node stands in its cluster.
	Member func() Member
	// NowMs is the coordinator's clock in unix milliseconds.
	NowMs func() int64
	// PublicURL is the base of the URLs in answers, without /v2; empty takes the
	// address that the request was sent to.
	PublicURL func() string
	// QueueLimit is how many jobs of one organisation may wait; 0 is
	// protocol.MaxQueueOrg.
	QueueLimit uint32
	Version    string
	Log        zerolog.Logger
	// Collectors are shown at /metrics beside the server's own.
	Collectors []prometheus.Collector
}
