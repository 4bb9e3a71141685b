package process

import (
	"bytes"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"windlass/protocol"
)

func TestLinesAreBounded(t *testing.T) {
	long := strings.Repeat("x", 3*readSize)
	var got []string
	var cuts []bool
	Lines(strings.NewReader("a\r\n\n"+long+"\nb\n12345678\r\nlast"), 8, func(b []byte, cut bool) {
		got, cuts = append(got, string(b)), append(cuts, cut)
	})
	want := []string{"a", "", "xxxxxxxx", "b", "12345678", "last"}
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("lines = %q, want %q", got, want)
	}
	for i, cut := range cuts {
		if cut != (i == 2) {
			t.Errorf("line %d: cut = %t", i, cut)
		}
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb"), uint16(4))
	f.Add([]byte("\r\n\r\n"), uint16(1))
	f.Add(bytes.Repeat([]byte("x"), 100), uint16(10))
	f.Fuzz(func(t *testing.T, in []byte, limit uint16) {
		most := int(limit%64) + 1
		var whole, bytewise []string
		keep := func(to *[]string) func([]byte, bool) {
			return func(b []byte, cut bool) {
				if len(b) > most || bytes.IndexByte(b, '\n') >= 0 {
					t.Fatalf("line %q exceeds %d or holds a line end", b, most)
				}
				*to = append(*to, string(b))
			}
		}
		Lines(bytes.NewReader(in), most, keep(&whole))
		Lines(iotest.OneByteReader(bytes.NewReader(in)), most, keep(&bytewise))
		if strings.Join(whole, "\n") != strings.Join(bytewise, "\n") {
			t.Fatalf("%q and %q differ by how the bytes arrived", whole, bytewise)
		}
		if n := bytes.Count(in, []byte{'\n'}); len(whole) != n && len(whole) != n+1 {
			t.Fatalf("%d lines of %d line ends", len(whole), n)
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add("plain")
	f.Add("10%\r50%\r100%\r\n")
	f.Add("\xff\x00é")
	f.Add(strings.Repeat("é", protocol.MaxLogLine))
	f.Fuzz(func(t *testing.T, line string) {
		log := NewLog(func(_, got string) {
			if !utf8.ValidString(got) || strings.ContainsAny(got, "\r\x00") {
				t.Fatalf("line %q is not clean", got)
			}
		})
		log.Write("stdout", line)
	})
}

func TestLogShowsWhatAProgressBarShows(t *testing.T) {
	var got []string
	log := NewLog(func(_, line string) { got = append(got, line) })
	log.Write("stderr", "10%\r50%\r100%\r")
	log.Write("stderr", strings.Repeat("é", protocol.MaxLogLine))
	if got[0] != "100%" || len(got[1]) > protocol.MaxLogLine || !utf8.ValidString(got[1]) {
		t.Errorf("lines = %.40q", got)
	}
}

func TestLogRateIsLimitedAndTheLossIsCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		bytes := 0
		log := NewLog(func(source, line string) {
			got = append(got, source+": "+line)
			bytes += len(line)
		})
		line := strings.Repeat("x", 1<<10)
		for range 4096 {
			log.Write("stdout", line)
		}
		if bytes > LogRate {
			t.Errorf("%d bytes passed at once", bytes)
		}
		passed := len(got)
		<-time.After(time.Second)
		log.Write("stdout", "after")
		if !strings.Contains(got[passed], "log lines") || !strings.HasPrefix(got[passed], SourceAgent) || got[passed+1] != "stdout: after" {
			t.Errorf("after the flood: %.80q", got[passed:])
		}
		if tail := log.Tail(); tail[len(tail)-1] != "after" || len(tail) > TailLines {
			t.Errorf("tail has %d lines", len(tail))
		}
	})
}
