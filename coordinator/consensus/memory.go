package consensus

import (
	"sync"

	"github.com/hashicorp/raft"

	"windlass/coordinator/peer"
)

// Memory keeps what a data directory would keep. A node opened again with the
// same Memory starts where it was, so tests restart coordinators in virtual
// time.
type Memory struct {
	store   *raft.InmemStore
	snaps   *raft.InmemSnapshotStore
	address raft.ServerAddress

	mu sync.Mutex
	id Identity
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

// Self is the identity for the handshakes of a peer port.
func (m *Memory) Self() peer.Identity { return m.identity().self() }

func (m *Memory) identity() Identity {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.id
}

func (m *Memory) save(id Identity) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.id = id
	return nil
}
