package consensus

import (
	"github.com/hashicorp/raft"
)

// Memory keeps what a data directory would keep, and lets several nodes of one
// process reach each other. A node opened again with the same Memory starts
// where it was, so tests restart coordinators in virtual time.
type Memory struct {
	id      Identity
	store   *raft.InmemStore
	snaps   *raft.InmemSnapshotStore
	address raft.ServerAddress
}

// NewMemory returns the storage of a new node.
func NewMemory() *Memory {
	id := newID("srv_")
	return &Memory{
		id:      Identity{ServerID: id},
		store:   raft.NewInmemStore(),
		snaps:   raft.NewInmemSnapshotStore(),
		address: raft.ServerAddress(id),
	}
}
