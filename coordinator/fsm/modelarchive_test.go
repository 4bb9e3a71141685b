package fsm

import (
	"bytes"
	"fmt"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"windlass/coordinator/command"
	"windlass/coordinator/state"
	"windlass/protocol"
)

func (m *model) archive(a *command.Archive) command.Result {
	g, known := m.segments[a.Number]
	r := command.Result{Replayed: known}
	switch add := a.Segment; {
	case add == nil && !known, known && add != nil && g.hash != add.Sha256[0], add != nil && !known && add.Number != m.newest+1:
		return answer(protocol.CodeConflict)
	case add != nil && !known:
		for _, n := range a.Replaces {
			if _, ok := m.segments[n]; !ok {
				return answer(protocol.CodeConflict)
			}
		}
		for _, n := range a.Replaces {
			delete(m.segments, n)
		}
		g = modelSegment{add.Sha256[0], protocol.JobID(add.First), protocol.JobID(add.Last), add.NewestEndMs}
		m.segments[add.Number], m.newest = g, add.Number
	}
	for _, row := range a.Jobs {
		id := protocol.JobID(row.Job)
		if j := m.jobs[id]; j != nil && j.status.Terminal() && !j.owes() && m.index[id] == row.Index && g.covers(id) {
			m.remove(id)
			r.Count++
			r.Replayed = false
		}
	}
	return r
}

func (g modelSegment) covers(id protocol.JobID) bool {
	return bytes.Compare(g.first[:], id[:]) <= 0 && bytes.Compare(id[:], g.last[:]) <= 0
}

func (m *model) remove(id protocol.JobID) {
	j := m.jobs[id]
	name := j.org + "/" + j.endpoint + "/" + j.key
	if k, ok := m.keys[name]; ok && k.job == id && j.key != "" {
		k.created = j.created
		m.keys[name] = k
	}
	delete(m.jobs, id)
}

func (m *model) recall(r *command.Recall) command.Result {
	id := protocol.JobID(r.Job)
	if m.jobs[id] != nil {
		return command.Result{Replayed: true}
	}
	held, newer := false, false
	for number, g := range m.segments {
		if g.covers(id) {
			held, newer = true, newer || number > r.Newest
		}
	}
	switch {
	case newer:
		return answer(protocol.CodeConflict)
	case !held:
		return answer(protocol.CodeJobNotFound)
	}
	rec, ok := m.records[id]
	if !ok || !bytes.Equal(rec.bytes, r.Record) {
		return answer(protocol.CodeValidation)
	}
	j := rec.job
	m.jobs[id] = &j
	return command.Result{}
}

// modelRecord is a row as bytes, and what it was then.
type modelRecord struct {
	bytes []byte
	job   modelJob
}

// randomArchive draws a segment, or rows of the newest one. Like the leader it
// writes the record of every row before.
func (m *model) randomArchive(t *rapid.T, w *world) *command.Command {
	number := m.newest + uint64(rapid.SampledFrom([]int{1, 1, 1, 0, 2}).Draw(t, "number"))
	a := &command.Archive{Number: max(number, 1)}
	if rapid.IntRange(0, 3).Draw(t, "rows alone") > 0 {
		first, hash := rapid.IntRange(1, 2).Draw(t, "first"), byte(a.Number)
		end := int64(rapid.SampledFrom([]int{0, 1 << 30}).Draw(t, "end"))
		a.Segment = newSegment(a.Number, first, rapid.IntRange(3, 5).Draw(t, "last"), hash, end)
		for _, n := range rapid.SliceOfN(rapid.Uint64Range(1, 6), 0, 2).Draw(t, "replaces") {
			if n < a.Number {
				a.Replaces = append(a.Replaces, n)
			}
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "rows") {
		id := job(rapid.IntRange(1, 5).Draw(t, "row"))
		index := m.index[id]
		if rapid.IntRange(0, 9).Draw(t, "changed") == 0 {
			index++
		}
		if j := w.store.Job(id); j != nil && !j.Live() {
			m.records[id] = modelRecord{bytes: EncodeJob(j)}
			if known := m.jobs[id]; known != nil {
				m.records[id] = modelRecord{EncodeJob(j), *known}
			}
		}
		a.Jobs = append(a.Jobs, &command.Archived{Job: raw(id), Index: index})
	}
	return &command.Command{Op: &command.Command_Archive{Archive: a}}
}

func newSegment(number uint64, first, last int, hash byte, end int64) *command.Segment {
	return &command.Segment{
		Number: number, Sha256: bytes.Repeat([]byte{hash}, 32), IndexSha256: bytes.Repeat([]byte{hash}, 32), Size: 1000, IndexOffset: 900,
		First: raw(job(first)), Last: raw(job(last)), Jobs: 3, OldestEndMs: 0, NewestEndMs: end,
	}
}

// randomRecall draws the recall of a job, mostly with its own record.
func (m *model) randomRecall(t *rapid.T, n int) *command.Command {
	record := m.records[job(n)].bytes
	if len(record) == 0 || rapid.IntRange(0, 9).Draw(t, "other record") == 0 {
		record = []byte{0xff}
	}
	newest := m.newest - min(m.newest, uint64(rapid.SampledFrom([]int{0, 0, 0, 1}).Draw(t, "newest")))
	return recall(n, record, newest)
}

// rebase returns the command for a world whose rows were changed by other logs.
func rebase(c *command.Command, m *model, to *world) *command.Command {
	c = proto.CloneOf(c)
	if p := c.GetPause(); p != nil {
		p.ExpectIndex = m.rebaseIndex(to, p.Job, p.ExpectIndex)
	}
	if r := c.GetResume(); r != nil {
		r.ExpectIndex = m.rebaseIndex(to, r.Job, r.ExpectIndex)
	}
	for _, a := range c.GetArchive().GetJobs() {
		id := protocol.JobID(a.Job)
		if j := to.store.Job(id); j != nil {
			a.Index += j.Index - m.index[id]
		}
	}
	return c
}

func (m *model) archiveDifferences(v *state.View) []string {
	var out []string
	list := v.Segments()
	if len(list) != len(m.segments) || v.Meta().Segment != m.newest {
		out = append(out, fmt.Sprintf("%d segments up to %d, want %d up to %d", len(list), v.Meta().Segment, len(m.segments), m.newest))
	}
	for _, g := range list {
		if got, want := (modelSegment{g.SHA256[0], g.First, g.Last, g.NewestEndMs}), m.segments[g.Number]; got != want {
			out = append(out, fmt.Sprintf("segment %d: got %+v, want %+v", g.Number, got, want))
		}
	}
	var jobs, owed int
	var size int64
	v.Jobs(protocol.JobID{}, false, func(j *state.Job) bool {
		switch {
		case j.Status.Terminal() && m.jobs[j.ID].owes():
			owed++
		case j.Status.Terminal():
			jobs, size = jobs+1, size+j.Size()
		}
		return true
	})
	if n, bytes := v.Ended(); n != jobs || bytes != size || v.Owed() != owed {
		out = append(out, fmt.Sprintf("counts %d ended jobs of %d bytes and %d owed, there are %d of %d and %d", n, bytes, v.Owed(), jobs, size, owed))
	}
	return out
}
