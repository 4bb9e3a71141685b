package api

import (
	"windlass/coordinator/command"
	"windlass/protocol"
)

// supports refuses what the coordinators of the version before do not know, while
// one of them may be in the cluster.
func (s *Server) supports(level uint32) error {
	if max(s.deps.Store.View().Meta().Feature, command.FeatureBase) < level {
		return upgrading()
	}
	return nil
}

func upgrading() error {
	return protocol.NewError(protocol.CodeUnavailable, "This is not available until every coordinator of the cluster runs this version").
		With("retryAfter", noLeaderRetry).With("outcome", "none")
}
