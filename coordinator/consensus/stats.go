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
	LastIndex uint64        // newest entry of the log
	Snapshot  uint64        // newest entry in the newest snapshot
	Installs  uint64        // snapshots that a leader sent or a restore brought
	Leaders   uint64        // leaders seen, this node included; one less is the changes
	Contact   time.Duration // since this node heard of its leader; 0 when it leads, negative: never
	Leads     bool
	Members   int // servers in the configuration
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
		LastIndex: n.raft.LastIndex(),
		Snapshot:  n.snapshotIndex(),
		Installs:  n.track.installs.Load(),
		Leaders:   n.leaders.Load(),
		Leads:     n.IsLeader(),
		Members:   len(n.configuration().Servers),
		Voters:    n.voters(),
	}
	s.Contact = n.contact()
	n.proposer.mu.Lock()
	s.Waiting = n.proposer.waiting
	n.proposer.mu.Unlock()
	return s
}
