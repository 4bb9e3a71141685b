package consensus

import "time"

// Stats are counters since Open, for metrics and the bench.
type Stats struct {
	Syncs     uint64        // durable operations of the log store
	SyncTime  time.Duration // spent in them
	Entries   uint64        // raft entries appended
	Bytes     uint64        // of those entries
	Batches   uint64        // entries this node proposed and saw applied
	Commands  uint64        // commands in them
	Applied   uint64        // newest index the FSM has applied
	Committed uint64        // newest index known to be committed
	Term      uint64
	Voters    int
	Waiting   int // commands that wait for a batch
}

// Stats returns the counters of this moment.
func (n *Node) Stats() Stats {
	s := Stats{
		Syncs:     n.store.syncs.Load(),
		SyncTime:  time.Duration(n.store.nanos.Load()),
		Entries:   n.store.entries.Load(),
		Bytes:     n.store.bytes.Load(),
		Batches:   n.proposer.batches.Load(),
		Commands:  n.proposer.commands.Load(),
		Applied:   n.track.index(),
		Committed: n.raft.CommitIndex(),
		Term:      n.raft.CurrentTerm(),
		Voters:    n.voters(),
	}
	n.proposer.mu.Lock()
	s.Waiting = n.proposer.waiting
	n.proposer.mu.Unlock()
	return s
}
