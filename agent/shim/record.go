package shim

import (
	"encoding/json"
	"fmt"
	"slices"
	"sync"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

// Bounds of what one attempt keeps in memory, in the shim and again in the agent.
const (
	// maxLogHead is kept from the start of a log and streamed; a job that says
	// more is flooding, and only its newest lines are worth keeping beside it.
	maxLogHead = 2 << 20
	// maxLogTail is how many of the newest lines are kept beyond the head.
	maxLogTail = protocol.LogTail
	// maxChunks is the most that all stream chunks of one attempt may hold; it
	// equals what one output may hold.
	maxChunks = protocol.MaxOutput
	// logOverhead is charged per line beyond its text, so that a flood of empty
	// lines is bounded as well.
	logOverhead = 64
)

// Record is what one attempt told so far. The shim fills it from events, the
// agent mirrors it from updates; both hand out what somebody has not seen yet.
type Record struct {
	mu         sync.Mutex
	soft       uint64 // grows with every change of the fields up to cold
	substate   protocol.Substate
	started    time.Time
	progress   *protocol.Progress
	usage      *protocol.Usage
	cold       *protocol.ColdStart
	logs       []protocol.LogLine
	logBytes   int
	tail       []protocol.LogLine
	dropped    int
	chunks     []json.RawMessage
	chunkBytes int
}

// Cursor is how much of a Record somebody has.
type Cursor struct {
	Soft   uint64
	Logs   uint64
	Chunks uint64
}

// Apply adds an event. Its error is an *inference.Failure: the attempt said
// more than may be kept.
func (r *Record) Apply(e inference.Event, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch e.Type {
	case inference.EventState:
		r.substate = e.Substate
		r.soft++
	case inference.EventProgress:
		r.progress = e.Progress
		r.soft++
	case inference.EventLog:
		r.log(e, now)
	case inference.EventChunk:
		return r.chunk(e.Chunk)
	case inference.EventPhase: // belongs to the instance, not to an attempt
	}
	return nil
}

func (r *Record) log(e inference.Event, now time.Time) {
	line := protocol.LogLine{Time: e.Time, Source: e.Source, Line: e.Line}
	if line.Time.IsZero() {
		line.Time = protocol.TimeOf(now)
	}
	if len(line.Line) > protocol.MaxLogLine {
		line.Line = line.Line[:protocol.MaxLogLine]
	}
	size := len(line.Line) + logOverhead
	if r.logBytes+size <= maxLogHead {
		r.logs, r.logBytes = append(r.logs, line), r.logBytes+size
		return
	}
	r.logBytes = maxLogHead // no later, shorter line may slip in before this one
	if len(r.tail) == maxLogTail {
		r.tail = append(r.tail[:0:0], r.tail[1:]...)
		r.dropped++
	}
	r.tail = append(r.tail, line)
}

func (r *Record) chunk(c json.RawMessage) error {
	if len(c) > protocol.MaxChunk || r.chunkBytes+len(c) > maxChunks {
		return &inference.Failure{
			Code:    protocol.CodeOutputTooLarge,
			Message: fmt.Sprintf("the job streamed more than %s", protocol.FormatBytes(maxChunks)),
			Details: map[string]any{"limit": maxChunks, "chunkLimit": protocol.MaxChunk},
		}
	}
	r.chunks, r.chunkBytes = append(r.chunks, c), r.chunkBytes+len(c)
	return nil
}

// Start notes that the handler runs.
func (r *Record) Start(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.started.IsZero() {
		r.started, r.substate = now, protocol.SubstateProcessing
		r.soft++
	}
}

// SetSubstate notes what the attempt is doing.
func (r *Record) SetSubstate(s protocol.Substate) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.substate = s
	r.soft++
}

// SetUsage notes the newest measurement.
func (r *Record) SetUsage(u protocol.Usage) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.usage = &u
	r.soft++
}

// SetColdStart notes how the instance came up for this attempt.
func (r *Record) SetColdStart(c protocol.ColdStart) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cold = &c
	r.soft++
}

// Since returns what c lacks, at most about limit bytes of logs and chunks, and
// the cursor after it; false when nothing is new.
func (r *Record) Since(c Cursor, limit int, now time.Time) (protocol.AttemptUpdate, Cursor, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	u := protocol.AttemptUpdate{}
	fresh := c.Soft != r.soft
	if fresh {
		u.Substate, u.Progress, u.Usage, u.ColdStart = r.substate, r.progress, r.usage, r.cold
		u.StartedMs = r.startedMs(now)
		c.Soft = r.soft
	}
	for _, l := range after(r.logs, c.Logs) {
		if limit -= len(l.Line) + logOverhead; limit < 0 && len(u.Logs) > 0 {
			break
		}
		u.Logs = append(u.Logs, l)
	}
	if len(u.Logs) > 0 {
		u.LogFrom = c.Logs
		c.Logs += uint64(len(u.Logs))
	}
	for _, ch := range after(r.chunks, c.Chunks) {
		if limit -= len(ch); limit < 0 && len(u.Chunks) > 0 {
			break
		}
		u.Chunks = append(u.Chunks, ch)
	}
	if len(u.Chunks) > 0 {
		u.ChunkFrom = c.Chunks
		c.Chunks += uint64(len(u.Chunks))
	}
	return u, c, fresh || len(u.Logs) > 0 || len(u.Chunks) > 0
}

func after[T any](s []T, from uint64) []T { return s[min(from, uint64(len(s))):] }

// startedMs is at least 1 once started, because 0 says that it did not start.
func (r *Record) startedMs(now time.Time) int64 {
	if r.started.IsZero() {
		return 0
	}
	return max(1, now.Sub(r.started).Milliseconds())
}

// Merge adds an update; what was there before is skipped by its number. It
// reports whether the handler started with it.
func (r *Record) Merge(u protocol.AttemptUpdate, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	began := false
	if u.StartedMs > 0 && r.started.IsZero() {
		r.started, began = now.Add(-time.Duration(u.StartedMs)*time.Millisecond), true
		r.soft++
	}
	if u.Substate != "" {
		r.substate, r.progress, r.usage = u.Substate, u.Progress, u.Usage
		r.soft++
	}
	if u.ColdStart != nil {
		r.cold = u.ColdStart
	}
	if have := uint64(len(r.logs)); u.LogFrom <= have {
		r.logs = append(r.logs, after(u.Logs, have-u.LogFrom)...)
	}
	if have := uint64(len(r.chunks)); u.ChunkFrom <= have {
		r.chunks = append(r.chunks, after(u.Chunks, have-u.ChunkFrom)...)
	}
	return began
}

// fill completes a Finish with everything that was recorded.
func (r *Record) fill(f *protocol.Finish, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f.Progress, f.Usage, f.ColdStart = r.progress, r.usage, r.cold
	if !r.started.IsZero() {
		f.RunMs = max(1, now.Sub(r.started).Milliseconds())
	}
	lines := slices.Clone(r.logs)
	if r.dropped > 0 {
		lines = append(lines, protocol.LogLine{
			Time: protocol.TimeOf(now), Source: "agent", Line: fmt.Sprintf("%d lines were dropped here: the log is limited", r.dropped),
		})
	}
	lines = append(lines, r.tail...)
	var err error
	if len(lines) > 0 {
		if f.Logs, err = protocol.EncodeJSON(lines); err != nil {
			return fmt.Errorf("cannot encode log: %w", err)
		}
	}
	if len(r.chunks) > 0 {
		if f.Chunks, err = protocol.EncodeJSON(r.chunks); err != nil {
			return fmt.Errorf("cannot encode chunks: %w", err)
		}
	}
	return nil
}

// lastLines returns the text of the newest n log lines.
func (r *Record) lastLines(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	lines := append(after(r.logs, uint64(max(0, len(r.logs)-n))), r.tail...)
	var out []string
	for _, l := range after(lines, uint64(max(0, len(lines)-n))) {
		out = append(out, l.Line)
	}
	return out
}

// Complete adds what is known of a run whose shim could not write its result.
func (r *Record) Complete(f *protocol.Finish, now time.Time) {
	if err := r.fill(f, now); err != nil {
		f.Logs, f.Chunks = nil, nil // a result without its details is better than none
	}
}
