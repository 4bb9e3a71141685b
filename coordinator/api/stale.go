package api

import (
	"strconv"
	"time"

	"windlass/coordinator/board"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// readConsistency reads consistency=. A stale read is answered by this node as
// it is, also without a leader, and says how old that is: what it answers was
// true at the log index and at most Age ago (DESIGN 3.8).
func (c *call) readConsistency() error {
	switch raw := c.query("consistency"); raw {
	case "", "linearizable":
		return nil
	case "stale":
		c.stale = true
		// Read before the state is, so that it never promises too much.
		age := c.s.deps.Cluster.Age()
		c.label = [][2]string{
			{protocol.HeaderIndex, strconv.FormatUint(c.s.deps.Store.View().Index(), 10)},
			{protocol.HeaderAge, strconv.FormatInt(age.Milliseconds(), 10)},
		}
		return nil
	default:
		return protocol.Invalid("consistency", shown(raw), "Must be linearizable or stale")
	}
}

// soft is what is known of a leased attempt beside its row.
type soft struct {
	board.Soft
	status  protocol.Status
	staleMs int64 // since when nothing was heard of it; 0: it is current
}

// softOf joins a leased row with the board. After a failover nothing is known of
// an attempt until its agent reports: it counts as running, as most are, and says
// since when that is not confirmed. So does what a stale read finds on a node
// that does not lead.
func (s *Server) softOf(row *state.Job) soft {
	known, ok := s.deps.Board.Get(row.ID, row.Attempt)
	out := soft{Soft: known, status: protocol.StatusInitializing}
	if known.StartedMs > 0 {
		out.status = protocol.StatusRunning
	}
	since := row.Lease.GrantedMs
	if ok {
		since = known.SeenMs
	}
	lead, leads := s.deps.Cluster.Leads()
	switch {
	case !leads:
		out.staleMs = max(since, s.deps.NowMs()-s.deps.Cluster.Age().Milliseconds())
	case since < lead.SinceMs && ok:
		out.staleMs = since
	case since < lead.SinceMs:
		out.staleMs = lead.SinceMs
	}
	if out.staleMs > 0 && !ok {
		out.status = protocol.StatusRunning
	}
	return out
}

// maxAge is what a node says that has not heard of a leader since it started.
const maxAge = 365 * 24 * time.Hour
