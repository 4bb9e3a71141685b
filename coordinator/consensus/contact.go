package consensus

import (
	"errors"
	"time"
)

// LastContact is when this node was last known to follow a leader, or to be
// one; the zero time when it never was since it started.
func (n *Node) LastContact() time.Time {
	if n.IsLeader() {
		return time.Now() // it steps down within its lease
	}
	return n.raft.LastContact()
}

// Sever cuts this node off from the others for good and at once, as the end of
// its process would: for tests of failover. It must still be closed.
func (n *Node) Sever() error {
	t, ok := n.trans.(network)
	if !ok {
		return errors.New("cannot sever a node in memory")
	}
	err := t.Close()
	t.CloseStreams()
	return err
}
