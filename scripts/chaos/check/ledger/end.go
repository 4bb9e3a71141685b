package ledger

import (
	"windlass/coordinator/command"
	"windlass/protocol"
)

// expire: a ttl ends a job that waits, and not early (I12).
func (l *Ledger[N]) expire(raw []byte) {
	j := l.of(raw, "I12", "let expire")
	if j == nil {
		return
	}
	waited, ttl := l.ClockMs-j.WaitsFrom, j.Submit.GetTtlMs()
	switch {
	case j.Leased():
		l.cfg.Fail("I12", "entry %d let %s expire while %s ran it", l.Index, j.ID, l.Name(j.Agent))
	case !waits(j.Status):
		l.cfg.Fail("I8", "entry %d let %s expire after its end", l.Index, j.ID)
	case ttl == 0 || waited < ttl:
		l.cfg.Fail("I12", "entry %d let %s expire after %d ms, its ttl is %d", l.Index, j.ID, waited, ttl)
	}
	l.become(j, protocol.StatusTimeout)
}

// cancel ends a job that has not ended (I11).
func (l *Ledger[N]) cancel(raw []byte) {
	j := l.of(raw, "I11", "cancelled")
	if j == nil {
		return
	}
	if j.Status.Terminal() {
		l.cfg.Fail("I8", "entry %d cancelled %s after its end", l.Index, j.ID)
	}
	l.become(j, protocol.StatusCancelled)
}

// hold follows a pause or a resumption of a job that waits. Nobody may continue a
// run that was given back before it.
func (l *Ledger[N]) hold(raw []byte, from, to protocol.Status) {
	j := l.of(raw, "I11", "held")
	if j == nil {
		return
	}
	if j.Status != from {
		l.cfg.Fail("I11", "entry %d made %s %s while it was %s", l.Index, j.ID, to, j.Status)
	}
	l.become(j, to)
}

// purge cancels those of its jobs that wait in the queue (I15).
func (l *Ledger[N]) purge(c *command.Purge, r *command.Result) {
	changed := int64(0)
	for _, raw := range c.GetJobs() {
		j := l.jobs[protocol.JobID(raw)]
		if j == nil || j.Place != InMemory || j.Submit.GetOrg() != c.GetOrg() || j.Submit.GetEndpoint() != c.GetEndpoint() || j.Status != protocol.StatusQueued {
			continue
		}
		changed++
		l.become(j, protocol.StatusCancelled)
	}
	if l.cfg.Whole && (r.Count < changed || r.Replayed != (changed == 0)) {
		l.cfg.Fail("I15", "entry %d purged %d jobs, and %d of those that it names waited", l.Index, r.Count, changed)
	}
}

// reopen begins another run of a job that ended (I8).
func (l *Ledger[N]) reopen(raw []byte, r *command.Result) {
	j := l.of(raw, "I8", "opened again")
	if j == nil {
		return
	}
	if !j.Status.Terminal() || r.Run != j.Run+1 {
		l.cfg.Fail("I8", "entry %d opened %s again as run %d, which is %s in run %d", l.Index, j.ID, r.Run, j.Status, j.Run)
	}
	j.Run, j.Failures, j.Losses = r.Run, 0, 0
	j.WaitsFrom, j.NotBeforeMs = l.ClockMs, 0
	l.become(j, protocol.StatusQueued)
}
