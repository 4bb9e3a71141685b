package consensus

import (
	"slices"

	"windlass/protocol"
)

// Join gives a node that waits for its cluster more peer addresses (host:port)
// to ask, beside those of its configuration, until it is restarted.
func (n *Node) Join(hosts []string) error {
	if n.cfg.Port == nil || n.formed() {
		return protocol.NewError(protocol.CodeConflict, "this coordinator is in a cluster already: see its members; to move it to another one, let it leave and give it an empty data directory")
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, host := range hosts {
		if !slices.Contains(n.cfg.Join, host) && !slices.Contains(n.asked, host) {
			n.asked = append(n.asked, host)
		}
	}
	return nil
}
