package command

import "windlass/protocol"

// The values of Result.Limit.
const (
	LimitOrg      = "organisation"
	LimitEndpoint = "endpoint"
	LimitMemory   = "memory"
)

// Result is what applying one command answered. Code is empty on success; a
// command that found nothing to do because it had been applied before succeeds
// with Replayed set.
type Result struct {
	Code      protocol.Code
	Message   string         // with Code: what to tell the caller
	Index     uint64         // raft index of the batch
	Job       protocol.JobID // Submit: the job, also when a key named an older one
	Attempt   uint32         // Lease, Adopt: the attempt granted
	CreatedMs int64          // Submit
	Run       uint32         // Submit, Reopen
	Revision  uint64         // PutEndpoint
	Replayed  bool
	Current   []protocol.HeldAttempt // Register: the attempts that are this incarnation's
	Limit     string                 // QUEUE_FULL: which one
	Count     int64                  // QUEUE_FULL: how many wait, or bytes held; INSUFFICIENT_CREDITS: nano-units that are free; Evict: how many jobs left
}
