package main

import (
	"context"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
	"windlass/scripts/chaos/check/ledger"
)

// nowMs is the clock that the archive's readers go by.
func (w *world) nowMs() int64 {
	if w.leader != nil {
		return w.leader.nowMs()
	}
	return w.wallMs()
}

// feature is the level that whoever asks the leader may use.
func (w *world) feature() uint32 {
	if w.leader == nil {
		return command.FeatureBase
	}
	return max(w.leader.store.View().Meta().Feature, command.FeatureBase)
}

// find returns a job as any coordinator shows it: its row, or what the archive
// has of it, or nil.
func (w *world) find(view *state.View, id protocol.JobID) *state.Job {
	if j := view.Job(id); j != nil {
		return j
	}
	j, err := w.archive.Job(context.Background(), view, id)
	if err != nil {
		w.fail("I1", "the archive cannot say whether it has job %s: %v", id, err)
	}
	return j
}

// found: a job can be found until its retention ends, in memory or in the
// archive, as it was last (I1, I8).
func (c *checker) found(view *state.View, id protocol.JobID) {
	s := c.job(id)
	if s == nil {
		c.fail("I1", "job %s was acknowledged, and nobody ever made it", id)
	}
	j := c.world.find(view, id)
	if s.Place != ledger.InMemory && j != nil {
		c.world.count.Found++
	}
	over := s.Place != ledger.InMemory && s.EndedMs+c.world.plan.Keep <= c.world.nowMs()
	switch last := s.Note.versions[len(s.Note.versions)-1]; {
	case j == nil && !over:
		c.fail("I1", "job %s was acknowledged and is gone: it is %s since %d ms", id, s.Status, c.world.nowMs()-s.EndedMs)
	case j != nil && last != version{j.Index, rowSum(j)}:
		c.fail("I8", "job %s is shown as it was at log %d, and changed last at %d", id, j.Index, last.index)
	}
}

// forgotten: nobody forgets a job before its time (I1).
func (c *checker) forgotten(s *shadow) {
	if left := s.EndedMs + c.world.plan.Keep - c.clock; left > 0 {
		c.fail("I1", "job %s was removed %d ms before its time", s.ID, left)
	}
}
