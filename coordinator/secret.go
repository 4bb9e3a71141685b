package coordinator

import (
	"context"
	"crypto/rand"

	"windlass/coordinator/command"
)

// keepSecret makes the cluster's secret once every coordinator can have it.
func (c *Coordinator) keepSecret(ctx context.Context) {
	for c.store.View().Meta().Secret == [32]byte{} {
		if c.feature() >= command.FeatureAPI {
			var secret [32]byte
			rand.Read(secret[:])
			put := &command.Command{Op: &command.Command_PutClusterSecret{PutClusterSecret: &command.PutClusterSecret{Secret: secret[:]}}}
			if _, err := c.node.Proposer().Propose(ctx, put); err != nil && ctx.Err() == nil {
				c.log.Warn().Err(err).Msg("the cluster's secret could not be replicated yet: outputs have no URLs")
			}
		}
		if c.store.View().Meta().Secret == [32]byte{} && !pause(ctx, establishPause) {
			return
		}
	}
}
