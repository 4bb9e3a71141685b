package board

import (
	"encoding/json"
	"maps"

	"windlass/protocol"
)

// Soft is the newest soft state of one attempt, as its agent told it. It is a
// copy; what it points to is never changed after it was shown.
type Soft struct {
	Attempt    uint32
	Seq        uint64 // grows with every change; of Revision
	SeenMs     int64  // when the agent spoke last, unix, on the coordinator's clock
	Substate   protocol.Substate
	StartedMs  int64 // unix, on the coordinator's clock; 0: the handler has not started
	Progress   *protocol.Progress
	ProgressMs int64 // when Progress arrived: its EtaMs counts from here
	ColdStart  *protocol.ColdStart
	Usage      *protocol.Usage
	Pausable   *bool // nil: its agent never said
	NextLog    uint64
	NextChunk  uint64
}

// entry is one attempt on the board; the board's lock guards it.
type entry struct {
	soft   Soft
	logs   ring[protocol.LogLine]
	chunks ring[json.RawMessage]
}

// perLine is what a kept log line costs beside its text: the item, its source
// and allocation overhead.
const perLine = 96

// seqShift leaves room for milliseconds until the year 2109 below the term.
const seqShift = 42

// stamp is the least sequence number of a moment. The raft term stands above the
// time, so that the numbers of a new leader are above those of every leader
// before it, whatever their clocks said: a stream that goes on at another
// coordinator may repeat, never leave out.
func stamp(term uint64, nowMs int64) uint64 { return term<<seqShift | uint64(max(nowMs, 1)) }

func newEntry(attempt uint32, seq uint64) *entry {
	e := &entry{soft: Soft{Attempt: attempt, Seq: seq}}
	e.logs = ring[protocol.LogLine]{count: protocol.LogTail, size: func(l protocol.LogLine) int { return perLine + len(l.Line) }}
	e.chunks = ring[json.RawMessage]{size: func(c json.RawMessage) int { return perLine + len(c) }}
	return e
}

// merge applies one update that is current. Lines and chunks that were seen
// before are skipped; after a gap none is taken, so that the reply asks again
// from the gap. It returns by how much the entry's bytes changed.
func (e *entry) merge(u *protocol.AttemptUpdate, seq uint64, nowMs int64, lim limits) int {
	s := &e.soft
	s.Seq, s.SeenMs = max(s.Seq+1, seq), nowMs
	if u.Substate != "" {
		s.Substate = u.Substate
	}
	if u.StartedMs > 0 && s.StartedMs == 0 {
		s.StartedMs = nowMs - u.StartedMs
	}
	if u.Progress != nil {
		s.Progress, s.ProgressMs = mergeProgress(s.Progress, u.Progress), nowMs
	}
	if u.ColdStart != nil {
		s.ColdStart = u.ColdStart
	}
	if u.Usage != nil {
		s.Usage = u.Usage
	}
	if u.Pausable != nil {
		s.Pausable = u.Pausable
	}
	grown := 0
	for i := range u.Logs {
		if u.LogFrom+uint64(i) == e.logs.next {
			grown += e.logs.push(u.Logs[i], s.Seq, lim.log)
		}
	}
	for i := range u.Chunks {
		if u.ChunkFrom+uint64(i) == e.chunks.next {
			grown += e.chunks.push(u.Chunks[i], s.Seq, lim.chunk)
		}
	}
	s.NextLog, s.NextChunk = e.logs.next, e.chunks.next
	return grown
}

// mergeProgress keeps what the newer message does not repeat: a handler may
// send a step without a percentage, and metrics one at a time. The result is a
// new value because readers hold the old one.
func mergeProgress(old, p *protocol.Progress) *protocol.Progress {
	if old == nil {
		return p
	}
	m := *old
	if p.Percent != nil {
		m.Percent = p.Percent
	}
	if p.Step != "" {
		m.Step = p.Step
	}
	if p.Metadata != nil {
		m.Metadata = p.Metadata
	}
	if p.Throughput != nil {
		m.Throughput = p.Throughput
	}
	// An estimate is of its moment: one that is not repeated is void.
	m.EtaMs = p.EtaMs
	if len(p.Metrics) > 0 {
		m.Metrics = maps.Clone(old.Metrics)
		if m.Metrics == nil {
			m.Metrics = make(map[string]float64, len(p.Metrics))
		}
		for k, v := range p.Metrics {
			if _, known := m.Metrics[k]; known || len(m.Metrics) < maxMetrics {
				m.Metrics[k] = v
			}
		}
	}
	return &m
}

// maxMetrics bounds the custom metrics of an attempt: a handler that names a
// metric after each item must not grow the board without end.
const maxMetrics = 64

func (e *entry) bytes() int { return e.logs.bytes + e.chunks.bytes }
