package ledger

import (
	"cmp"
	"slices"

	"windlass/coordinator/command"
	"windlass/protocol"
)

// Unheld is the detail of a lease that is lost because its agent began a new life
// without it.
const Unheld = "its agent registered without it"

// grant follows a new attempt: I5, I6, I8, I9, I11.
func (l *Ledger[N]) grant(raw []byte, from uint32, agentID, inc []byte, r *command.Result, adopt bool) {
	agent := protocol.AgentID(agentID)
	j := l.of(raw, "I5", "leased")
	if j == nil {
		return
	}
	life, registered := l.agents[agent]
	switch {
	case j.Leased():
		l.cfg.Fail("I5", "entry %d leased %s to %s while %s held it", l.Index, j.ID, l.Name(agent), l.Name(j.Agent))
	case j.Status == protocol.StatusCancelled:
		l.cfg.Fail("I11", "entry %d leased %s to %s although it was cancelled", l.Index, j.ID, l.Name(agent))
	case j.Status.Terminal():
		l.cfg.Fail("I8", "entry %d leased %s to %s although it had ended", l.Index, j.ID, l.Name(agent))
	case j.Status == protocol.StatusPaused:
		l.cfg.Fail("I11", "entry %d leased %s to %s although it is paused", l.Index, j.ID, l.Name(agent))
	case r.Attempt <= j.Attempt || l.cfg.Whole && (j.Attempt != from || r.Attempt != from+1):
		l.cfg.Fail("I5", "entry %d leased %s as attempt %d after attempt %d", l.Index, j.ID, r.Attempt, j.Attempt)
	case (registered || l.cfg.Whole) && life != protocol.Incarnation(inc):
		l.cfg.Fail("I6", "entry %d leased %s to a life of %s that is over", l.Index, j.ID, l.Name(agent))
	case adopt && !j.Adoptable && l.cfg.Whole:
		l.cfg.Fail("I6", "entry %d let %s adopt %s, whose last attempt was not given back", l.Index, l.Name(agent), j.ID)
	case !adopt && j.NotBeforeMs > l.ClockMs:
		l.cfg.Fail("I9", "entry %d leased %s %d ms before its back-off ends", l.Index, j.ID, j.NotBeforeMs-l.ClockMs)
	}
	j.NotBeforeMs = 0
	l.become(j, protocol.StatusInitializing)
	j.Attempt, j.Agent, j.Incarnation = r.Attempt, agent, protocol.Incarnation(inc)
	l.holders[agent] = append(l.holders[agent], j)
	if l.cfg.Granted != nil {
		l.cfg.Granted(j)
	}
}

// fence fails when an agent's write was taken that is not that of the lease (I6).
func (l *Ledger[N]) fence(j *Job[N], what string, attempt uint32, agent, inc []byte) {
	switch {
	case j.Status.Terminal():
		l.cfg.Fail("I6", "entry %d took a %s of %s after its end", l.Index, what, j.ID)
	case !j.Leased() || attempt != j.Attempt || protocol.AgentID(agent) != j.Agent || protocol.Incarnation(inc) != j.Incarnation:
		l.cfg.Fail("I6", "entry %d took a %s of %s from attempt %d of %s, and attempt %d of %s was current",
			l.Index, what, j.ID, attempt, l.Name(protocol.AgentID(agent)), j.Attempt, l.Name(j.Agent))
	}
}

// finish follows an accepted result, and what it leads to (I9).
func (l *Ledger[N]) finish(f *command.Finish) {
	j := l.of(f.GetJob(), "I6", "took a result of")
	if j == nil {
		return
	}
	l.fence(j, "result", f.GetAttempt(), f.GetAgent(), f.GetIncarnation())
	next, again := protocol.StatusFailed, f.GetRetryable()
	switch protocol.Outcome(f.GetOutcome()) {
	case protocol.OutcomeCompleted:
		next = protocol.StatusCompleted
	case protocol.OutcomeCancelled:
		next = protocol.StatusCancelled
	case protocol.OutcomePaused:
		next = protocol.StatusPaused
	case protocol.OutcomeTimeout:
		next, again = protocol.StatusTimeout, j.Submit.GetRetryTimeout()
	}
	if next == protocol.StatusFailed || next == protocol.StatusTimeout {
		j.Failures++
		if again && j.Failures < cmp.Or(j.Submit.GetMaxAttempts(), protocol.DefaultMaxAttempts) {
			next = protocol.StatusQueued
			j.NotBeforeMs = f.GetNotBeforeMs()
		}
	}
	l.become(j, next)
	if next.Terminal() {
		j.EndedMs = cmp.Or(f.GetEndedMs(), l.ClockMs)
	}
}

func (l *Ledger[N]) release(c *command.Release) {
	j := l.of(c.GetJob(), "I6", "took a release of")
	if j == nil {
		return
	}
	l.fence(j, "release", c.GetAttempt(), c.GetAgent(), c.GetIncarnation())
	lost := c.GetReason() == command.Release_LOST
	if lost && l.cfg.Lost != nil && j.Leased() {
		l.cfg.Lost(j, c.GetDetail())
	}
	l.giveBack(j, lost, c.GetNotBeforeMs())
}

// giveBack puts a job back into its place, or ends it when it was lost too often.
func (l *Ledger[N]) giveBack(j *Job[N], lost bool, notBefore int64) {
	if lost {
		j.Losses++
	}
	if lost && j.Losses > cmp.Or(j.Submit.GetMaxLosses(), protocol.DefaultMaxLosses) {
		l.become(j, protocol.StatusFailed)
		return
	}
	j.NotBeforeMs = notBefore
	l.become(j, protocol.StatusQueued)
	j.Adoptable = true
}

// register moves the attempts that the agent still has to its new life, and
// takes the others away from its older ones.
func (l *Ledger[N]) register(c *command.Register, r *command.Result) {
	agent, inc := protocol.AgentID(c.GetAgent()), protocol.Incarnation(c.GetIncarnation())
	l.agents[agent], l.names[agent] = inc, c.GetName()
	for _, k := range r.Current {
		j := l.jobs[k.Job]
		switch {
		case j == nil && !l.cfg.Whole:
			continue
		case j == nil || !j.Leased() || j.Agent != agent || j.Attempt != k.Attempt:
			l.cfg.Fail("I6", "entry %d moved attempt %d of %s to a new life of %s, which does not have it", l.Index, k.Attempt, k.Job, l.Name(agent))
			continue
		}
		if j.Incarnation != inc {
			j.Incarnation, j.Index = inc, l.Index
		}
		if l.cfg.Changed != nil {
			l.cfg.Changed(j, j.Status)
		}
	}
	for _, j := range slices.Clone(l.holders[agent]) {
		if j.Incarnation != inc {
			if l.cfg.Lost != nil {
				l.cfg.Lost(j, Unheld)
			}
			l.giveBack(j, true, 0)
		}
	}
}
