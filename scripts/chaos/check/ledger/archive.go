package ledger

import (
	"bytes"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// evict removes jobs that ended.
func (l *Ledger[N]) evict(c *command.Evict, r *command.Result) {
	gone := int64(0)
	for _, raw := range c.GetJobs() {
		if j := l.jobs[protocol.JobID(raw)]; j != nil && j.Place == InMemory && j.Status.Terminal() {
			l.remove(j, Forgotten)
			gone++
		}
	}
	if l.cfg.Whole && r.Count != gone {
		l.cfg.Fail("I1", "entry %d evicted %d jobs, and %d of those that it names had ended", l.Index, r.Count, gone)
	}
}

func (l *Ledger[N]) remove(j *Job[N], to int) {
	j.Place = to
	if l.cfg.Changed != nil {
		l.cfg.Changed(j, j.Status)
	}
}

// archive removes those jobs that are as they were when they were written to a
// segment that is recorded.
func (l *Ledger[N]) archive(c *command.Archive, r *command.Result) {
	if s := c.GetSegment(); s != nil && l.segments[s.GetNumber()] == nil {
		if s.GetNumber() != l.newest+1 && l.cfg.Whole {
			l.cfg.Fail("I17", "entry %d recorded archive segment %d after %d", l.Index, s.GetNumber(), l.newest)
		}
		l.segments[s.GetNumber()], l.newest = s, s.GetNumber()
		for _, n := range c.GetReplaces() {
			delete(l.segments, n)
		}
	}
	s := l.segments[c.GetNumber()]
	if s == nil {
		if l.cfg.Whole {
			l.cfg.Fail("I1", "entry %d moved jobs to archive segment %d, which is not recorded", l.Index, c.GetNumber())
		}
		return
	}
	gone := int64(0)
	for _, a := range c.GetJobs() {
		j := l.jobs[protocol.JobID(a.GetJob())]
		inside := bytes.Compare(s.GetFirst(), a.GetJob()) <= 0 && bytes.Compare(a.GetJob(), s.GetLast()) <= 0
		if j != nil && j.Place == InMemory && j.Status.Terminal() && j.Index == a.GetIndex() && inside {
			l.remove(j, Archived)
			gone++
		}
	}
	if l.cfg.Whole && r.Count != gone {
		l.cfg.Fail("I1", "entry %d moved %d jobs to the archive, and %d of those that it names were as they were written", l.Index, r.Count, gone)
	}
}

// recall brings an archived job back as it was (I8).
func (l *Ledger[N]) recall(c *command.Recall) {
	j := l.jobs[protocol.JobID(c.GetJob())]
	switch {
	case j == nil && !l.cfg.Whole:
		return
	case j == nil:
		l.cfg.Fail("I2", "entry %d recalled job %s, which nobody submitted", l.Index, protocol.JobID(c.GetJob()))
		return
	case j.Place == InMemory:
		l.cfg.Fail("I8", "entry %d recalled %s, which is in memory", l.Index, j.ID)
	case j.Place == Forgotten:
		l.cfg.Fail("I8", "entry %d recalled %s, whose time was over", l.Index, j.ID)
	}
	l.remove(j, InMemory)
}
