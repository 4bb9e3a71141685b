package archive

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"windlass/coordinator/fsm"
	"windlass/coordinator/state"
	"windlass/protocol"
)

var update = flag.Bool("update", false, "write golden files that are missing; existing ones are never changed")

func goldenJobs() []*state.Job {
	return []*state.Job{
		job(1),
		job(2, func(j *state.Job) {
			j.Status, j.Failures, j.Losses, j.RetryTimeout = protocol.StatusFailed, 3, 1, true
			j.Input = state.Payload{Ref: &state.Blob{SHA256: [32]byte{1, 2, 3}, Size: 70_000}}
			j.Extra = &state.Extra{CallbackURL: "https://example.com/hook", IdempotencyKey: "k", ReopenedMs: start, Tags: []state.Tag{{Key: "a", Value: "b"}}}
			j.Outcome.ErrCode, j.Outcome.ErrMessage, j.Outcome.ErrDetails = "HANDLER_ERROR", "it broke", []byte(`{"line":1}`)
			j.Outcome.Agent, j.Outcome.Revision, j.Outcome.Retryable, j.Outcome.Partial = protocol.AgentID{7}, 5, true, []byte(`[1]`)
			j.Outcome.Chunks = state.Payload{Ref: &state.Blob{SHA256: [32]byte{4}, Size: 9}}
		}),
		job(3, func(j *state.Job) { j.Status, j.Outcome = protocol.StatusCancelled, nil }),
	}
}

// TestGoldenSegment keeps version 1 readable: the file is never rewritten.
func TestGoldenSegment(t *testing.T) {
	file := filepath.Join("testdata", "v1.segment")
	want, err := os.ReadFile(file)
	w := newWorld(t)
	g := w.write(goldenJobs()...)
	if errors.Is(err, os.ErrNotExist) && *update {
		want = w.blobs.blobs[g.SHA256]
		err = os.WriteFile(file, want, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	w.blobs.set(func(m *memory) { m.blobs[g.SHA256] = want })
	for _, j := range goldenJobs() {
		// The row's checksum is of what this version writes: equal bytes, or the
		// compressor changed and the row must be made from the file.
		w.has(j)
	}
}

func FuzzTail(f *testing.F) {
	w := newWorld(f)
	g := w.write(goldenJobs()...)
	f.Add(w.blobs.blobs[g.SHA256][g.IndexOffset:], g.IndexOffset)
	f.Fuzz(func(t *testing.T, tail []byte, offset int64) {
		if x, err := parseTail(tail, offset); err == nil {
			again := appendIndex(nil, x)
			if again = appendTrailer(again, offset, again); !bytes.Equal(again, tail) {
				t.Fatal("what was read is not what is written")
			}
		}
		// Behind the checksum, which would stop the fuzzer.
		if len(tail) < fixedSize+trailerSize {
			return
		}
		body := tail[:len(tail)-trailerSize]
		x, err := parseIndex(body)
		if err != nil {
			if !errors.Is(err, errFormat) {
				t.Fatalf("error without a type: %v", err)
			}
			return
		}
		if !bytes.Equal(appendIndex(nil, x), body) {
			t.Fatal("the index is not what is written")
		}
		if x.check(offset) != nil {
			return
		}
		x.filter.has(id(1))
		for _, n := range []protocol.JobID{id(0), id(2), x.first, x.last} {
			if at, ok := x.find(n); ok && at >= len(x.blocks) {
				t.Fatalf("block %d of %d", at, len(x.blocks))
			}
		}
	})
}

func FuzzBlock(f *testing.F) {
	wr := newWorld(f).a.NewWriter()
	for _, j := range goldenJobs() {
		if err := wr.Add(j); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(bytes.Clone(wr.raw))
	a := newWorld(f).a
	f.Fuzz(func(t *testing.T, raw []byte) {
		k := &block{raw: len(raw), first: id(1), jobs: 3}
		if got, err := a.expand(k, wr.pack.EncodeAll(raw, nil)); err == nil && !bytes.Equal(got, raw) {
			t.Fatal("other records")
		}
		for r := (records{raw: raw}); ; {
			_, record, ok := r.next()
			if !ok {
				return
			}
			if j, err := fsm.DecodeJob(record); err == nil {
				if _, err := fsm.DecodeJob(fsm.EncodeJob(j)); err != nil {
					t.Fatalf("what was decoded cannot be decoded again: %v", err)
				}
			}
		}
	})
}

func TestFilterMissesNothingAndFindsLittle(t *testing.T) {
	f, wrong := newFilter(5000), 0
	for n := range 5000 {
		f.add(id(2 * n))
	}
	for n := range 5000 {
		if !f.has(id(2 * n)) {
			t.Fatalf("%d is missing", 2*n)
		}
		if f.has(id(2*n + 1)) {
			wrong++
		}
	}
	if wrong > 100 {
		t.Errorf("%d of 5000 ids were found that are not there, want about 50", wrong)
	}
}
