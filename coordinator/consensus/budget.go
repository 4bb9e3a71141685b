package consensus

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

const (
	// logBudget is the log, in bytes, that is kept behind a snapshot for
	// followers that were away for a moment, and the log that is written before
	// the next snapshot. raft counts entries, and an entry may be 30 bytes or a
	// megabyte (architecture.md 2.9).
	logBudget = 64 << 20

	// startTrailing is used until entries have been measured: at the largest
	// entry it is 1 GiB, at a usual one 30 MiB.
	startTrailing = 1024

	// minTrailing keeps a follower that missed a few entries from needing a
	// snapshot. Never 0: then a damaged newest snapshot would be repaired
	// silently by losing acknowledged commands (reliability D5).
	minTrailing = 64

	// maxTrailing bounds the entries read at start.
	maxTrailing = 65536

	// budgetInterval is how often the limits follow the measured size.
	budgetInterval = 10 * time.Second
)

// budget keeps raft's limits, which count entries, at a budget in bytes.
func (n *Node) budget(ctx context.Context) {
	tick := time.NewTicker(budgetInterval)
	defer tick.Stop()
	var entries, bytes uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		e, b := n.store.entries.Load(), n.store.bytes.Load()
		if e-entries < minTrailing {
			continue // too few to say anything; they count in the next round
		}
		perEntry := (b - bytes) / (e - entries)
		entries, bytes = e, b
		if err := n.setBudget(perEntry); err != nil {
			n.cfg.Log.Warn().Err(err).Msg("log budget could not be set")
		}
	}
}

// setBudget applies the measured bytes per entry. A snapshot is due when the
// log behind it is as large as the snapshot itself, but not below logBudget:
// then a large state is written at most twice as often as its changes.
func (n *Node) setBudget(perEntry uint64) error {
	perEntry = max(perEntry, 1)
	due := uint64(logBudget)
	list, err := n.snaps.List()
	if err != nil {
		return err
	}
	if len(list) > 0 {
		due = max(due, uint64(list[0].Size))
	}
	conf := n.raft.ReloadableConfig()
	next := conf
	next.TrailingLogs, next.SnapshotThreshold, next.SnapshotInterval = snapshotLimits(
		min(max(logBudget/perEntry, minTrailing), maxTrailing),
		min(max(due/perEntry, minTrailing), maxTrailing), snapshotInterval)
	if next == conf {
		return nil
	}
	return n.raft.ReloadConfig(next)
}

var _ raft.MonotonicLogStore = (*store)(nil)
