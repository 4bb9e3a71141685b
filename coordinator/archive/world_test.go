package archive

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"windlass/coordinator/blob"
	"windlass/coordinator/command"
	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

// memory is a blob store that a test can break.
type memory struct {
	mu     sync.Mutex
	blobs  map[blob.Digest][]byte
	good   map[blob.Digest][]byte // what Repair brings
	err    error                  // of every read
	hang   chan struct{}          // reads wait until it is closed
	ranges int                    // parts that were read
	bytes  int
}

func newMemory() *memory {
	return &memory{blobs: make(map[blob.Digest][]byte), good: make(map[blob.Digest][]byte)}
}

func (m *memory) Put(_ context.Context, r io.Reader, _ *blob.Digest, _ int64) (blob.Digest, int64, error) {
	b, err := io.ReadAll(r)
	d := blob.Digest(sha256.Sum256(b))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = b
	return d, int64(len(b)), err
}

func (m *memory) ReadRange(ctx context.Context, d blob.Digest, offset int64, p []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ranges, m.bytes = m.ranges+1, m.bytes+len(p)
	if hang := m.hang; hang != nil {
		m.mu.Unlock()
		select {
		case <-hang:
		case <-ctx.Done():
		}
		m.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	b, ok := m.blobs[d]
	switch {
	case m.err != nil:
		return m.err
	case !ok:
		return blob.ErrNotFound
	case offset+int64(len(p)) > int64(len(b)):
		return blob.ErrCorrupt
	}
	copy(p, b[offset:])
	return nil
}

func (m *memory) Repair(_ context.Context, d blob.Digest) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.good[d]
	if !ok {
		return blob.ErrCorrupt
	}
	m.blobs[d] = b
	return nil
}

func (m *memory) Get(context.Context, blob.Digest) (io.ReadCloser, int64, error) {
	return nil, 0, errors.New("the archive reads parts only")
}
func (m *memory) Walk(context.Context, func(blob.Copy) error) error { return nil }
func (m *memory) Remove(context.Context, blob.Copy) error           { return nil }

// set changes the store while others read.
func (m *memory) set(change func(*memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// world is an archive with the segments that a test wrote.
type world struct {
	t      testing.TB
	blobs  *memory
	a      *Archive
	list   []*state.Segment
	nowMs  int64
	alarms []string
}

const (
	day   = 24 * time.Hour
	keep  = 30 * day
	start = int64(1_700_000_000_000)
)

func newWorld(t testing.TB) *world {
	w := &world{t: t, blobs: newMemory(), nowMs: start}
	w.restart()
	return w
}

// restart empties the caches.
func (w *world) restart() {
	a, err := New(Config{
		Blobs: w.blobs, Keep: keep, NowMs: func() int64 { return w.nowMs },
		Alarm: func(u *Unreadable) { w.alarms = append(w.alarms, u.Error()) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.a = a
}

// write stores a segment of the jobs, which are in order.
func (w *world) write(jobs ...*state.Job) *state.Segment {
	w.t.Helper()
	wr := w.a.NewWriter()
	for _, j := range jobs {
		if err := wr.Add(j); err != nil {
			w.t.Fatal(err)
		}
	}
	return w.store(wr)
}

func (w *world) store(wr *Writer) *state.Segment {
	w.t.Helper()
	number := uint64(1)
	if n := len(w.list); n > 0 {
		number = w.list[n-1].Number + 1
	}
	file, row := wr.Finish(number)
	d, _, err := w.blobs.Put(w.t.Context(), bytes.NewReader(file), nil, MaxSegment)
	if err != nil || !bytes.Equal(d[:], row.Sha256) {
		w.t.Fatalf("stored as %x, described as %x: %v", d, row.Sha256, err)
	}
	if err := command.Check(&command.Command{Op: &command.Command_Archive{Archive: &command.Archive{Number: number, Segment: row}}}); err != nil {
		w.t.Fatal(err)
	}
	g := &state.Segment{
		Number: number, SHA256: d, Size: row.Size, IndexOffset: row.IndexOffset, IndexSHA256: [32]byte(row.IndexSha256),
		First: protocol.JobID(row.First), Last: protocol.JobID(row.Last), Jobs: row.Jobs,
		OldestEndMs: row.OldestEndMs, NewestEndMs: row.NewestEndMs,
	}
	w.list = append(w.list, g)
	return g
}

// view is a state that has the segments and nothing else.
func (w *world) view() *state.View {
	w.t.Helper()
	b := state.NewBuilder()
	meta := state.Meta{}
	for _, g := range w.list {
		meta.Segment = g.Number
		if err := b.Segment(g); err != nil {
			w.t.Fatal(err)
		}
	}
	s := state.New()
	s.Replace(b, meta)
	return s.View()
}

func (w *world) job(id protocol.JobID) *state.Job {
	w.t.Helper()
	j, err := w.a.Job(w.t.Context(), w.view(), id)
	if err != nil {
		w.t.Fatal(err)
	}
	return j
}

// has fails unless the archive has the job as it is.
func (w *world) has(want *state.Job) {
	w.t.Helper()
	got := w.job(want.ID)
	if got == nil {
		w.t.Fatalf("%s is not found", want.ID)
	}
	if !bytes.Equal(fsm.EncodeJob(got), fsm.EncodeJob(want)) {
		w.t.Fatalf("%s is\n%+v, was\n%+v", want.ID, got, want)
	}
}

// walk returns the ids that a walk finds, as numbers.
func (w *world) walk(before protocol.JobID) []int {
	w.t.Helper()
	var out []int
	for walk := w.a.Newest(w.view(), before); ; {
		bound, ok := walk.Bound()
		j, err := walk.Next(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		if j == nil {
			return out
		}
		if !ok || bytes.Compare(j.ID[:], bound[:]) > 0 {
			w.t.Fatalf("%s is above the bound %s", j.ID, bound)
		}
		out = append(out, number(j.ID))
	}
}

func id(n int) (out protocol.JobID) {
	binary.BigEndian.PutUint64(out[8:], uint64(n))
	out[0] = 1
	return out
}

func number(id protocol.JobID) int { return int(binary.BigEndian.Uint64(id[8:])) }

// job is an ended job with a bit of everything.
func job(n int, change ...func(*state.Job)) *state.Job {
	j := &state.Job{
		ID: id(n), Seq: uint64(n), Index: uint64(n), Org: "org_default", Target: "ep_echo", CreatedMs: start - 1000 + int64(n),
		TTLMs: 86_400_000, ExecutionMs: 600_000, Input: state.Payload{Inline: fmt.Appendf(nil, `{"n":%d}`, n)},
		Attempt: 1, Run: 1, MaxAttempts: 3, MaxLosses: 3, Status: protocol.StatusCompleted, Priority: protocol.PriorityNormal,
		Outcome: &state.Outcome{
			Attempt: 1, GrantedMs: start - 900, StartedMs: start - 800, EndedMs: start + int64(n), Reported: true,
			Output: state.Payload{Inline: fmt.Appendf(nil, `{"result":"the answer to %d"}`, n)},
			Facts:  []byte(`{"usage":{"cpuMs":5}}`), Logs: state.Payload{Inline: []byte(`[]`)},
		},
	}
	for _, c := range change {
		c(j)
	}
	return j
}

func jobs(from, to int) []*state.Job {
	var out []*state.Job
	for n := from; n <= to; n++ {
		out = append(out, job(n))
	}
	return out
}
