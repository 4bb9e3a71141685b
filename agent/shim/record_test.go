package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"windlass/inference"
	"windlass/protocol"
)

func TestRecordMirrorsAcrossReconnects(t *testing.T) {
	src, dst := &Record{}, &Record{}
	now := time.Unix(1000, 0)
	src.Start(now)
	var cur Cursor
	for i := range 50 {
		for _, e := range []inference.Event{
			{Type: inference.EventLog, Source: "stdout", Line: fmt.Sprint("line ", i)},
			{Type: inference.EventChunk, Chunk: json.RawMessage(fmt.Sprint(i))},
		} {
			if err := src.Apply(e, now); err != nil {
				t.Fatal(err)
			}
		}
		if i%10 == 9 {
			cur = Cursor{} // a new connection says all again
		}
		for {
			u, next, ok := src.Since(cur, 100, now)
			if !ok {
				break
			}
			cur = next
			dst.Merge(u, now)
		}
	}
	u, _, _ := dst.Since(Cursor{}, 1<<20, now)
	if len(u.Logs) != 50 || len(u.Chunks) != 50 || u.Logs[49].Line != "line 49" || string(u.Chunks[49]) != "49" {
		t.Errorf("%d lines, %d chunks", len(u.Logs), len(u.Chunks))
	}
}

func TestFloodIsBoundedAndKeepsItsEnd(t *testing.T) {
	r := &Record{}
	line := strings.Repeat("x", protocol.MaxLogLine+100)
	for i := range 1000 {
		if err := r.Apply(inference.Event{Type: inference.EventLog, Line: fmt.Sprint(i, line)}, time.Unix(1, 0)); err != nil {
			t.Fatal(err)
		}
	}
	var f protocol.Finish
	r.Complete(&f, time.Unix(2, 0))
	if most := maxLogHead + (maxLogTail+1)*(protocol.MaxLogLine+2*logOverhead); len(f.Logs) > most {
		t.Errorf("log of %d bytes, at most %d", len(f.Logs), most)
	}
	if last := r.lastLines(1); !strings.HasPrefix(last[0], "999") {
		t.Errorf("last line %.10s", last[0])
	}
	if !strings.Contains(string(f.Logs), "were dropped here") {
		t.Error("nothing says that lines are missing")
	}
}

func TestTooManyChunksFail(t *testing.T) {
	r := &Record{}
	c := json.RawMessage(strings.Repeat("1", protocol.MaxChunk))
	var err error
	for range maxChunks/protocol.MaxChunk + 1 {
		err = r.Apply(inference.Event{Type: inference.EventChunk, Chunk: c}, time.Unix(1, 0))
	}
	var f *inference.Failure
	if !errors.As(err, &f) || f.Code != protocol.CodeOutputTooLarge {
		t.Errorf("got %v", err)
	}
}

func FuzzReader(f *testing.F) {
	f.Add(`{"type":"hello","version":1,"runs":[{"run":"a","job":"job_01M81XG21X1GVT3R94BC21Y4NT","attempt":1}]}` + "\n")
	f.Add("{}\n[]\n")
	f.Add("{")
	f.Fuzz(func(t *testing.T, in string) {
		r := newReader(strings.NewReader(in))
		for {
			m, err := r.next()
			if err != nil {
				return
			}
			if _, err := encode(m); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func FuzzEntryName(f *testing.F) {
	f.Add("job_01M81XG21X1GVT3R94BC21Y4NT.1.json")
	f.Add("job_.0001.json")
	f.Fuzz(func(t *testing.T, name string) {
		k, ok := ParseEntryName(name)
		if ok && EntryPath("", k) != name {
			t.Errorf("%q is read as %+v, whose file is %q", name, k, EntryPath("", k))
		}
	})
}

func FuzzMerge(f *testing.F) {
	f.Add([]byte(`{"job":"","attempt":1,"logFrom":1,"logs":[{"line":"x"}],"chunkFrom":18446744073709551615,"chunks":[1]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var u protocol.AttemptUpdate
		if json.Unmarshal(in, &u) != nil {
			return
		}
		r := &Record{}
		r.Merge(u, time.Unix(1, 0))
		r.Merge(u, time.Unix(1, 0))
		got, _, _ := r.Since(Cursor{}, 1<<20, time.Unix(1, 0))
		if len(got.Logs) > len(u.Logs) || len(got.Chunks) > len(u.Chunks) {
			t.Errorf("%d lines became %d, %d chunks became %d", len(u.Logs), len(got.Logs), len(u.Chunks), len(got.Chunks))
		}
	})
}
