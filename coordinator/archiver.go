package coordinator

import (
	"context"
	"time"

	"windlass/coordinator/archive"
)

const (
	// archiveTick is how often the archiver looks whether memory needs it: a
	// pointer load and two comparisons.
	archiveTick = time.Second

	// archiveParts and maxArchivePeriod set how late a job may leave memory, and
	// expire: a twelfth of its term, but not longer than a client that looks
	// at an expired job would find odd. Each pass makes a segment.
	archiveParts     = 12
	maxArchivePeriod = 5 * time.Minute

	// archiveRetry is the pause after a pass that failed, so that a store which is
	// away is not asked, and not logged, every second.
	archiveRetry = 15 * time.Second
)

// archiver is the leader's duty that lets the keeper do its passes.
type archiver struct {
	*archive.Keeper
	tick   time.Duration
	failed func(error) // a pass did not do all that is due
}

// openArchive opens the archive for lookups, which any coordinator answers.
func (c *Coordinator) openArchive(nowMs func() int64) (*archive.Archive, error) {
	return archive.New(archive.Config{
		Blobs: c.blobs.store, Keep: c.cfg.Archive.Keep.Std(), NowMs: nowMs,
		Alarm: func(u *archive.Unreadable) {
			c.log.Error().Err(u).Uint64("segment", u.Segment).
				Msg("a part of the archive is damaged, and its jobs cannot be shown: bring its blob back from a backup or from another coordinator's blob.dir")
		},
	})
}

// keepArchive is the archiver's leadership.
func (c *Coordinator) keepArchive(ctx context.Context) { c.newArchiver().run(ctx) }

func (c *Coordinator) newArchiver() *archiver {
	return &archiver{
		Keeper: &archive.Keeper{
			After: c.cfg.Archive.After.Std(), Keep: c.cfg.Archive.Keep.Std(), Count: c.cfg.Archive.Count,
			Store: c.store, Blobs: c.blobs.store, Archive: c.archive,
			Propose: c.node.Proposer().Propose, NowMs: c.node.Clock().NowMs,
		},
		tick: archiveTick,
		failed: func(err error) {
			c.log.Warn().Err(err).Msg("ended jobs could not be archived yet: they stay in memory")
		},
	}
}

// run does passes until ctx ends.
func (a *archiver) run(ctx context.Context) {
	period := min(max(min(a.After, a.Keep)/archiveParts, archiveTick), maxArchivePeriod)
	var next, retry time.Time
	for {
		now := time.Now()
		pressed := a.Pressed(a.Store.View())
		if !now.Before(retry) && (pressed || !now.Before(next)) {
			if err := a.Pass(ctx, pressed); err != nil && ctx.Err() == nil {
				a.failed(err)
				retry = time.Now().Add(archiveRetry)
			}
			if !now.Before(next) {
				next = now.Add(period)
			}
		}
		if !pause(ctx, a.tick) {
			return
		}
	}
}
