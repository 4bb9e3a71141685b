package api

import (
	"encoding/json"
	"time"

	"windlass/coordinator/board"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// follower turns the changes of one job into events. It holds what the reader
// has seen. It belongs to one goroutine.
type follower struct {
	s    *Server
	job  protocol.JobID
	base string         // of URLs, without /v2
	key  protocol.KeyID // of the reader; zero: the bootstrap key

	begun   bool           // the first frame was made
	pending bool           // events were sent since the newest id
	sent    board.Revision // of the newest status frame
	last    board.Revision // of the newest id
	sentAt  time.Time
	status  protocol.Status // of the newest status frame
	attempt uint32          // whose output and log are followed
	log     uint64          // next line
	chunk   uint64          // next chunk
	shown   bool            // a chunk of an attempt was shown
	restart bool            // the next chunk voids those before
}

// resume starts behind what the reader has. Another attempt than the current
// one is void: its successor starts from the beginning and says so.
func (f *follower) resume(row *state.Job, seen board.Revision) {
	if seen.Attempt == 0 {
		return
	}
	f.attempt, f.shown = seen.Attempt, true
	if row.Attempt == seen.Attempt {
		f.log, f.chunk = f.s.deps.Board.Resume(row.ID, row.Attempt, seen.Seq)
	}
}

// step appends the events that are due. wait says when to come back for a
// status frame that came too soon; done says that nothing more will come.
//
// An id is sent only where everything up to it was sent, so that a stream that
// breaks anywhere goes on without a hole.
func (f *follower) step(out []byte, now time.Time) (_ []byte, wait time.Duration, done bool) {
	row, err := f.s.find(f.s.base, f.s.deps.Store.View(), f.job)
	if row == nil || err != nil {
		return out, 0, true // expired while it was watched, or unknown: the reader asks again
	}
	revision := f.s.deps.Board.Revision(row)
	if !f.begun && !row.Status.Terminal() {
		out = f.frame(out, row, revision, now, false)
	}
	size := len(out)
	switch {
	case row.Lease != nil:
		f.follow(row.Attempt)
		out = f.live(out, row)
	case row.Status.Terminal():
		out = f.rest(out, row)
	}
	f.pending = f.pending || len(out) > size
	f.begun = true
	if row.Status.Terminal() {
		return f.frame(out, row, revision, now, true), 0, true
	}
	if revision == f.sent && !f.pending {
		return out, 0, false
	}
	due := frameGap - now.Sub(f.sentAt)
	if due > 0 && f.s.shownStatus(row) == f.status {
		return out, due, false
	}
	return f.frame(out, row, revision, now, true), 0, false
}

// frame appends the status document.
func (f *follower) frame(out []byte, row *state.Job, revision board.Revision, now time.Time, id bool) []byte {
	doc := f.s.document(row, include{inline: protocol.InlineOutput, base: f.base})
	data, err := protocol.EncodeJSON(doc)
	if err != nil {
		f.s.deps.Log.Error().Str("component", "api").Stringer("job", row.ID).Err(err).Msg("cannot encode status")
		return out
	}
	e := protocol.Event{Type: protocol.EventStatus, Data: data}
	f.pending = !id && f.behind(row)
	if !f.pending {
		e.ID = revision.String()
		f.last = revision
	}
	f.sent, f.sentAt, f.status = revision, now, doc.Status
	return protocol.AppendEvent(out, e)
}

// behind reports whether the board has lines or chunks that were not sent.
func (f *follower) behind(row *state.Job) bool {
	soft, ok := f.s.deps.Board.Get(row.ID, row.Attempt)
	if !ok || row.Lease == nil {
		return false
	}
	return row.Attempt != f.attempt && soft.NextLog+soft.NextChunk > 0 || soft.NextLog > f.log || soft.NextChunk > f.chunk
}

// follow turns to an attempt; it starts from its beginning when it is new.
func (f *follower) follow(attempt uint32) {
	if attempt == f.attempt {
		return
	}
	f.attempt, f.log, f.chunk = attempt, 0, 0
	f.restart = f.shown
}

// live appends the output and log of the attempt that runs.
func (f *follower) live(out []byte, row *state.Job) []byte {
	for _, item := range f.s.deps.Board.Chunks(row.ID, row.Attempt, f.chunk) {
		out = f.gap(out, protocol.EventOutput, f.chunk, item.N)
		out = f.output(out, item.N, item.Value)
	}
	for _, item := range f.s.deps.Board.Logs(row.ID, row.Attempt, f.log) {
		out = f.gap(out, protocol.EventLog, f.log, item.N)
		out = appendJSON(out, protocol.EventLog, item.Value)
		f.log = item.N + 1
	}
	return out
}

// rest appends what an attempt said between what the reader has and its end,
// which the result carries. A reader that comes after the end gets the same as
// one that came before.
func (f *follower) rest(out []byte, row *state.Job) []byte {
	if row.Outcome == nil || row.Outcome.Attempt == 0 {
		return out
	}
	f.follow(row.Outcome.Attempt)
	var chunks []json.RawMessage
	var lines []protocol.LogLine
	err := f.s.readDetail(f.s.base, row.Outcome.Chunks, &chunks)
	if err == nil {
		err = f.s.readDetail(f.s.base, row.Outcome.Logs, &lines)
	}
	if err != nil {
		f.s.deps.Log.Error().Str("component", "api").Stringer("job", row.ID).Err(err).Msg("cannot read the end of a stream")
	}
	for n := f.chunk; n < uint64(len(chunks)); n++ {
		out = f.output(out, n, chunks[n])
	}
	for n := f.log; n < uint64(len(lines)); n++ {
		out = appendJSON(out, protocol.EventLog, lines[n])
		f.log = n + 1
	}
	return out
}

func (f *follower) output(out []byte, n uint64, chunk json.RawMessage) []byte {
	out = appendJSON(out, protocol.EventOutput, protocol.OutputEvent{Attempt: f.attempt, Seq: n, Chunk: chunk, Restart: f.restart})
	f.chunk, f.shown, f.restart = n+1, true, false
	return out
}

func (f *follower) gap(out []byte, kind string, from, to uint64) []byte {
	if to <= from {
		return out
	}
	return appendJSON(out, protocol.EventGap, protocol.GapEvent{Attempt: f.attempt, Type: kind, From: from, To: to})
}

// appendJSON appends an event without an id. A chunk that is no JSON was
// refused before it came here, so encoding cannot fail.
func appendJSON(out []byte, kind string, v any) []byte {
	data, err := protocol.EncodeJSON(v)
	if err != nil {
		return out
	}
	return protocol.AppendEvent(out, protocol.Event{Type: kind, Data: data})
}
