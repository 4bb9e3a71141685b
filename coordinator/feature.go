package coordinator

import (
	"context"
	"time"

	"windlass/coordinator/command"
	"windlass/coordinator/consensus"
)

// featurePeriod is how long the newest commands wait after the last coordinator
// was upgraded.
const featurePeriod = 5 * time.Second

// features is what this version supports, as members tell it.
func features() [2]uint32 { return [2]uint32{command.FeatureMin, command.FeatureMax} }

// feature is the replicated feature level.
func (c *Coordinator) feature() uint32 {
	return max(c.store.View().Meta().Feature, command.FeatureBase)
}

// raiseFeature keeps the replicated level at what all members support. From then
// on commands of that level may be in the log, so that no older version can take
// part any more.
func (c *Coordinator) raiseFeature(ctx context.Context) {
	for {
		if level := commonFeature(c.node.Members()); level > c.feature() {
			set := &command.Command{Op: &command.Command_SetFeature{SetFeature: &command.SetFeature{Level: level}}}
			if _, err := c.node.Proposer().Propose(ctx, set); err != nil && ctx.Err() == nil {
				c.log.Warn().Err(err).Msg("feature level could not be raised yet")
			} else if err == nil {
				c.log.Info().Uint32("level", level).Msg("every coordinator supports this feature level: it is in use from now on")
			}
		}
		if !pause(ctx, featurePeriod) {
			return
		}
	}
}

// commonFeature is the highest level that every member of the configuration
// supports, whether it votes or not; the base level while one of them has never
// told. One that is away counts with what it told last: started again in an older
// version it refuses.
func commonFeature(members []consensus.Member) uint32 {
	var supported []uint32
	for _, m := range members {
		if m.Joined {
			supported = append(supported, m.Features[1])
		}
	}
	return command.CommonFeature(supported)
}
