// Package consensus runs this coordinator's raft node and everything that must
// stand around it: the log store with its stall watchdog, verified snapshots,
// the node's identity, the transport, the one batcher that proposes commands
// and the leader's clock. Nothing outside it (but fsm) knows raft. DESIGN.md
// says why it is built this way.
package consensus
