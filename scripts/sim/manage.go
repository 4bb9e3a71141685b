package main

import (
	"fmt"

	"windlass/coordinator/archive"
	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// recallTries is how often a client brings a job back that left memory again (api).
const recallTries = 5

// makeOrgs makes the organisations as soon as the cluster knows what they are;
// their endpoints were there before.
func (c *clients) makeOrgs() {
	w := c.world
	if w.feature() < command.FeatureAPI {
		w.in(30*second, c.makeOrgs)
		return
	}
	for n := range int64(w.plan.Orgs) {
		c.org(n, true, 1+w.draws.client.Uint32N(4), 0)
	}
	w.in(w.draws.client.Int64N(w.plan.Span), func() { c.org(0, false, 2, 1+w.draws.client.Uint32N(20)) })
}

// org sets what an organisation's jobs share and are limited by.
func (c *clients) org(n int64, create bool, weight, running uint32) {
	id := c.orgOf(n)
	c.insist(&command.Command{Op: &command.Command_PutOrg{PutOrg: &command.PutOrg{
		Id: id, Name: id, Weight: weight, MaxRunning: running, Create: create && id != protocol.OrgDefault,
	}}})
}

// pauseEndpoint says whether jobs of an endpoint are given to agents.
func (c *clients) pauseEndpoint(n int64, paused bool) {
	if c.world.feature() < command.FeatureAPI {
		c.shape(n, map[bool]int64{true: 1, false: 0}[paused])
		return
	}
	c.insist(&command.Command{Op: &command.Command_PauseEndpoint{PauseEndpoint: &command.PauseEndpoint{
		Org: c.orgOf(n), Id: c.endpointName(n), Paused: paused,
	}}})
}

// closeEndpoint pauses an endpoint for a while.
func (c *clients) closeEndpoint(n, ms int64) {
	c.pauseEndpoint(n, true)
	c.world.in(ms, func() { c.pauseEndpoint(n, false) })
}

// purge cancels what waits for an endpoint; a repetition has the same id.
func (c *clients) purge(n int64) {
	w := c.world
	if w.leader == nil || w.feature() < command.FeatureAPI {
		return
	}
	p := &command.Purge{Purge: fmt.Sprintf("purge at %d", w.now), Org: c.orgOf(n), Endpoint: c.endpointName(n)}
	// All that have not ended: which of them wait is decided where the purge is applied.
	w.leader.store.View().Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		if j.Org == p.Org && j.Target == p.Endpoint && j.Live() {
			p.Jobs = append(p.Jobs, j.ID[:])
		}
		return len(p.Jobs) < command.MaxPurge
	})
	if len(p.Jobs) > 0 {
		c.insist(&command.Command{Op: &command.Command_Purge{Purge: p}})
	}
}

// hold pauses a job that waits, and resumes it later.
func (c *clients) hold(number, ms int64) {
	w := c.world
	q, id, ok := c.target(number)
	if !ok || w.leader == nil || w.feature() < command.FeatureAPI {
		return
	}
	row := w.leader.store.Job(id)
	if row == nil {
		return
	}
	pause := &command.Pause{Job: id[:], Org: q.submit.Org, ExpectIndex: row.Index}
	c.write(&command.Command{Op: &command.Command_Pause{Pause: pause}}, 3, func(command.Result, bool, error) {
		w.in(ms, func() { c.resume(q, id) })
	})
}

// resume lets a paused job wait again; until it does.
func (c *clients) resume(q *request, id protocol.JobID) {
	w := c.world
	if w.leader == nil {
		w.in(second, func() { c.resume(q, id) })
		return
	}
	row := w.leader.store.Job(id)
	if row == nil || row.Status != protocol.StatusPaused {
		return
	}
	resume := &command.Resume{Job: id[:], Org: q.submit.Org, ExpectIndex: row.Index}
	c.write(&command.Command{Op: &command.Command_Resume{Resume: resume}}, 3, func(command.Result, bool, error) {
		w.in(second, func() { c.resume(q, id) })
	})
}

// resumeAll resumes every job: a pause may have had its effect after its caller
// was told that nobody knows.
func (c *clients) resumeAll() {
	for _, number := range c.numbers {
		if q, id, ok := c.target(number); ok {
			c.resume(q, id)
		}
	}
}

// read looks a job up as it is now.
func (c *clients) read(number int64) {
	w := c.world
	q := c.jobs[number]
	if q == nil || !q.acked || w.leader == nil || w.leader.applied < w.check.applied {
		return
	}
	w.check.found(w.leader.store.View(), q.bound)
}

// retry runs a job again. One that is in the archive is brought back first, as
// the API does.
func (c *clients) retry(number int64) { c.rerun(number, recallTries) }

func (c *clients) rerun(number int64, tries int) {
	w := c.world
	q, id, ok := c.target(number)
	if !ok || w.leader == nil || tries == 0 {
		return
	}
	view := w.leader.store.View()
	row := w.find(view, id)
	if row == nil {
		return
	}
	again := func(r command.Result, _ bool, err error) {
		if err == nil && (r.Code == "" || r.Code == protocol.CodeConflict) {
			c.rerun(number, tries-1)
		}
	}
	if view.Job(id) == nil {
		c.write(archive.Recall(view, row), 3, again)
		return
	}
	c.write(&command.Command{Op: &command.Command_Reopen{Reopen: &command.Reopen{Job: id[:], Org: q.submit.Org, ExpectRun: row.Run}}}, 3,
		func(r command.Result, _ bool, err error) {
			if err == nil && r.Code == protocol.CodeJobNotFound {
				c.rerun(number, tries-1) // it left memory again
			}
		})
}
