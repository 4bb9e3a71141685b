package api

import (
	"context"
	"time"

	"windlass/protocol"
)

// readyTime bounds the leader check of /readyz: a prober must not pile up.
const readyTime = 2 * time.Second

// health is GET /healthz: the process serves.
func (s *Server) health(c *call) error {
	return c.json(struct {
		Status  string `json:"status"`
		Version string `json:"version,omitempty"`
	}{"ok", s.deps.Version})
}

// ready is GET /readyz: a leader is known and this node has applied its log.
func (s *Server) ready(c *call) error {
	ctx, cancel := context.WithTimeout(s.base, readyTime)
	defer cancel()
	if err := s.deps.Barrier(ctx); err != nil {
		return protocol.NewError(protocol.CodeUnavailable, "Not ready: no leader confirms that this coordinator is up to date").With("retryAfter", noLeaderRetry)
	}
	return c.json(struct {
		Status string `json:"status"`
		Index  uint64 `json:"index"`
		// Payloads that are on their way here; meanwhile they are read elsewhere.
		MissingBlobs int64 `json:"missingBlobs,omitempty"`
	}{"ready", s.deps.Store.View().Index(), s.deps.MissingBlobs()})
}
