package board

import (
	"encoding/json"
	"sync"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Memory bounds. A job keeps its whole log and all chunks on its agent until
// its result is acknowledged, so what the board drops is never lost; it only
// cannot be replayed to a stream that comes late.
const (
	// logBytes is the log tail of one attempt: 200 lines of some 1,200 bytes.
	logBytes = 256 << 10
	// chunkBytes replays some 20,000 tokens, or two chunks of the largest size.
	chunkBytes = 2 << 20
	// boardBytes is where all attempts together are pressed to the small
	// bounds below: 1,000 attempts at a quarter of a megabyte.
	boardBytes = 256 << 20
	// pressedLog and pressedChunk hold a screen of log and a page of tokens.
	pressedLog   = 16 << 10
	pressedChunk = 16 << 10
)

type limits struct{ log, chunk int }

// Config is what a Board is built from.
type Config struct {
	// Job reads the newest row of a job; nil when there is none. It must not
	// call the board.
	Job func(protocol.JobID) *state.Job
	// NowMs is the coordinator's clock in unix milliseconds.
	NowMs func() int64
	// Term is the raft term; nil is always 0.
	Term func() uint64
}

// Board holds the soft state of every leased attempt and wakes the streams
// that watch a job. Agents send it again after a failover; nothing of it is
// in the log.
type Board struct {
	cfg Config

	mu      sync.Mutex
	entries map[protocol.JobID]*entry
	bytes   int
	watch   map[protocol.JobID]map[*Subscription]struct{}
}

// New returns an empty board.
func New(cfg Config) *Board {
	if cfg.Term == nil {
		cfg.Term = func() uint64 { return 0 }
	}
	return &Board{
		cfg:     cfg,
		entries: make(map[protocol.JobID]*entry),
		watch:   make(map[protocol.JobID]map[*Subscription]struct{}),
	}
}

// Update merges what an agent reports and answers one reply for each update,
// in the same order. The caller has checked the fence; an update whose attempt
// ended in between is answered STALE_ATTEMPT. NextLog and NextChunk tell the
// agent where to go on, which repairs gaps.
func (b *Board) Update(agent protocol.AgentID, updates []protocol.AttemptUpdate) []protocol.AttemptReply {
	replies := make([]protocol.AttemptReply, 0, len(updates))
	for i := range updates {
		replies = append(replies, b.update(agent, &updates[i]))
	}
	return replies
}

func (b *Board) update(agent protocol.AgentID, u *protocol.AttemptUpdate) protocol.AttemptReply {
	reply := protocol.AttemptReply{Job: u.Job, Attempt: u.Attempt}
	nowMs := b.cfg.NowMs()
	seq := stamp(b.cfg.Term(), nowMs)
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[u.Job]
	if e == nil || e.soft.Attempt != u.Attempt {
		// The row is read under the lock: an attempt whose end was observed
		// cannot come back here, so nothing is kept that nobody forgets.
		if row := b.cfg.Job(u.Job); row == nil || row.Lease == nil || row.Attempt != u.Attempt || row.Lease.Agent != agent {
			reply.Code = protocol.CodeStaleAttempt
			return reply
		}
		b.drop(u.Job)
		e = newEntry(u.Attempt, seq)
		b.entries[u.Job] = e
	}
	b.bytes += e.merge(u, seq, nowMs, b.limits())
	reply.NextLog, reply.NextChunk = e.soft.NextLog, e.soft.NextChunk
	b.wake(u.Job)
	return reply
}

func (b *Board) limits() limits {
	if b.bytes > boardBytes {
		return limits{log: pressedLog, chunk: pressedChunk}
	}
	return limits{log: logBytes, chunk: chunkBytes}
}

// Get returns the soft state of one attempt; false when the board has none.
func (b *Board) Get(job protocol.JobID, attempt uint32) (Soft, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entries[job]
	if e == nil || e.soft.Attempt != attempt {
		return Soft{}, false
	}
	return e.soft, true
}

// Measured returns when the handler of an attempt started, in unix milliseconds
// or 0, and what its agent told of it so far.
func (b *Board) Measured(job protocol.JobID, attempt uint32) (startedMs int64, facts state.Facts) {
	soft, _ := b.Get(job, attempt)
	return soft.StartedMs, state.Facts{ColdStart: soft.ColdStart, Usage: soft.Usage, Progress: soft.Progress}
}

// Logs returns the kept lines of an attempt with a number of at least from.
func (b *Board) Logs(job protocol.JobID, attempt uint32, from uint64) []Item[protocol.LogLine] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[job]; e != nil && e.soft.Attempt == attempt {
		return e.logs.from(from)
	}
	return nil
}

// Chunks returns the kept stream chunks with a number of at least from.
func (b *Board) Chunks(job protocol.JobID, attempt uint32, from uint64) []Item[json.RawMessage] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[job]; e != nil && e.soft.Attempt == attempt {
		return e.chunks.from(from)
	}
	return nil
}

// Resume returns the numbers of the first log line and chunk that arrived
// after sequence number seq, which is where a stream goes on.
func (b *Board) Resume(job protocol.JobID, attempt uint32, seq uint64) (log, chunk uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entries[job]; e != nil && e.soft.Attempt == attempt {
		return e.logs.after(seq), e.chunks.after(seq)
	}
	return 0, 0
}

// Forget drops the soft state of a job and wakes its streams. It is for rows
// that left their lease: terminal, requeued or evicted.
func (b *Board) Forget(job protocol.JobID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(job)
	b.wake(job)
}

// Revision returns the revision of a row together with its soft state. That of a
// leased row is above everything that the leaders before showed of it, also while
// nothing was heard of it since.
func (b *Board) Revision(row *state.Job) Revision {
	r := Revision{Index: row.Revised(), Attempt: row.Attempt}
	if row.Lease == nil {
		return r
	}
	if term := b.cfg.Term(); term > 0 {
		r.Seq = stamp(term, 0)
	}
	if soft, ok := b.Get(row.ID, row.Attempt); ok {
		r.Seq = max(r.Seq, soft.Seq)
	}
	return r
}

// Stats counts what the board holds.
type Stats struct {
	Attempts int
	Bytes    int // of log lines and chunks
	Streams  int
}

// Stats returns the counts of this moment.
func (b *Board) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Stats{Attempts: len(b.entries), Bytes: b.bytes}
	for _, subs := range b.watch {
		s.Streams += len(subs)
	}
	return s
}

func (b *Board) drop(job protocol.JobID) {
	if e := b.entries[job]; e != nil {
		b.bytes -= e.bytes()
		delete(b.entries, job)
	}
}
