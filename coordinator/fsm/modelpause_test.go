package fsm

import (
	"slices"

	"pgregory.net/rapid"

	"windlass/coordinator/command"
	"windlass/protocol"
)

func pauseJob(n int, org string, index uint64) *command.Command {
	return &command.Command{Op: &command.Command_Pause{Pause: &command.Pause{Job: raw(job(n)), Org: org, ExpectIndex: index}}}
}

func resumeJob(n int, org string, index uint64) *command.Command {
	return &command.Command{Op: &command.Command_Resume{Resume: &command.Resume{Job: raw(job(n)), Org: org, ExpectIndex: index}}}
}

func pauseEndpoint(org, id string, paused bool) *command.Command {
	return &command.Command{Op: &command.Command_PauseEndpoint{PauseEndpoint: &command.PauseEndpoint{Org: org, Id: id, Paused: paused}}}
}

func purge(name, org, endpoint string, jobs ...int) *command.Command {
	p := &command.Purge{Purge: name, Org: org, Endpoint: endpoint}
	slices.Sort(jobs)
	for _, n := range slices.Compact(jobs) {
		p.Jobs = append(p.Jobs, raw(job(n)))
	}
	return &command.Command{Op: &command.Command_Purge{Purge: p}}
}

func checkpointed(data string) func(*command.Finish) {
	return func(f *command.Finish) { f.Checkpoint = &command.Payload{Inline: []byte(data)} }
}

// paused applies what holds jobs back and takes them out of the queue.
func (m *model) paused(c *command.Command) command.Result {
	switch op := c.GetOp().(type) {
	case *command.Command_Pause:
		j := m.jobs[protocol.JobID(op.Pause.Job)]
		switch {
		case j == nil || j.org != op.Pause.Org:
			return answer(protocol.CodeJobNotFound)
		case j.status == protocol.StatusPaused:
			return command.Result{Replayed: true}
		case j.status != protocol.StatusQueued || m.index[protocol.JobID(op.Pause.Job)] != op.Pause.ExpectIndex:
			return answer(protocol.CodeConflict)
		}
		j.status, j.adoptable = protocol.StatusPaused, false
	case *command.Command_Resume:
		j := m.jobs[protocol.JobID(op.Resume.Job)]
		switch {
		case j == nil || j.org != op.Resume.Org:
			return answer(protocol.CodeJobNotFound)
		case j.status == protocol.StatusPaused && m.index[protocol.JobID(op.Resume.Job)] == op.Resume.ExpectIndex:
			j.status = protocol.StatusQueued
		case j.status == protocol.StatusPaused || j.status.Terminal():
			return answer(protocol.CodeConflict)
		default:
			return command.Result{Replayed: true}
		}
	case *command.Command_PauseEndpoint:
		e := m.endpoints[op.PauseEndpoint.Org+"/"+op.PauseEndpoint.Id]
		if e == nil {
			return answer(protocol.CodeEndpointNotFound)
		}
		r := command.Result{Revision: e.revision, Replayed: e.paused == op.PauseEndpoint.Paused}
		e.paused = op.PauseEndpoint.Paused
		return r
	case *command.Command_Purge:
		return m.purge(op.Purge)
	}
	return command.Result{}
}

func (m *model) purge(p *command.Purge) command.Result {
	r := command.Result{Replayed: true}
	for _, raw := range p.Jobs {
		id := protocol.JobID(raw)
		j := m.jobs[id]
		if j == nil || j.org != p.Org || j.endpoint != p.Endpoint {
			continue
		}
		if j.status == protocol.StatusQueued {
			m.stop(id, j, protocol.StatusCancelled, protocol.CodeCancelled)
			j.purge, r.Replayed = p.Purge, false
		}
		if j.purge == p.Purge {
			r.Count++
		}
	}
	return r
}

// counted counts what one command did to runs, by what they were before it.
func (m *model) counted(before map[protocol.JobID]modelJob) {
	for id, j := range m.jobs {
		was, known := before[id]
		e := m.endpoints[j.org+"/"+j.endpoint]
		if !known || e == nil {
			continue
		}
		switch again := j.run > was.run || j.failures > was.failures || j.losses > was.losses; {
		case was.status.Terminal() && j.status.Terminal():
		case j.status == protocol.StatusCompleted:
			e.counts[0]++
		case j.status == protocol.StatusFailed, j.status == protocol.StatusTimeout:
			e.counts[1]++
		case !j.status.Terminal() && again:
			e.counts[2]++
		}
	}
}

func (m *model) before() map[protocol.JobID]modelJob {
	out := make(map[protocol.JobID]modelJob, len(m.jobs))
	for id, j := range m.jobs {
		out[id] = *j
	}
	return out
}

// randomPurge draws a purge; names repeat, so that one ends what another began.
func randomPurge(t *rapid.T, org, ep string) *command.Command {
	return purge(rapid.SampledFrom([]string{"prg_a", "prg_b"}).Draw(t, "purge"), org, ep,
		rapid.SliceOfN(rapid.IntRange(1, 5), 0, 5).Draw(t, "purged")...)
}

// expected is the index that a pause or resume names: mostly the row's.
func expected(t *rapid.T, w *world, n int) uint64 {
	index := uint64(rapid.SampledFrom([]int{0, 0, 0, 0, 1}).Draw(t, "changed"))
	if j := w.store.Job(job(n)); j != nil {
		index += j.Index
	}
	return index
}

// rebaseIndex moves an expected index to the rows of another world.
func (m *model) rebaseIndex(to *world, id []byte, index uint64) uint64 {
	if j := to.store.Job(protocol.JobID(id)); j != nil {
		return index + j.Index - m.index[protocol.JobID(id)]
	}
	return index
}
