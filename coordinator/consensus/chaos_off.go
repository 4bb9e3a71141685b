//go:build !chaos

package consensus

import (
	"time"

	"github.com/hashicorp/raft"
)

// The seams of scripts/chaos. A build without the tag chaos has none of its
// faults: each of these gives back what it was given.

// Strike does at a point of the caller's what the tests told: nothing.
func Strike(string) {}

func faultyDisk(b backend) backend { return b }

func faultyFSM(f raft.FSM) raft.FSM { return f }

func faultySnapshots(s raft.SnapshotStore) raft.SnapshotStore { return s }

func snapshotLimits(trailing, threshold uint64, interval time.Duration) (uint64, uint64, time.Duration) {
	return trailing, threshold, interval
}

func segmentSize(size int) int { return size }
