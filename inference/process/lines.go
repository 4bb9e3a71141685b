package process

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

const readSize = 64 << 10 // a pipe's capacity: more is never read at once

// Lines calls line for every line of r, without its end, until r ends; a last
// line without an end counts. A line longer than limit comes with its first
// limit bytes and cut true, and the rest is read and dropped, so memory is
// bounded by limit. The bytes are valid during the call only.
func Lines(r io.Reader, limit int, line func(b []byte, cut bool)) {
	br := bufio.NewReaderSize(r, readSize)
	var buf []byte
	cut := false
	for {
		part, err := br.ReadSlice('\n')
		end := err == nil
		if end {
			part = part[:len(part)-1]
		}
		if room := limit - len(buf); len(part) > room {
			// A carriage return before the line end is no content.
			cut = cut || !end || len(part) > room+1 || part[room] != '\r'
			part = part[:room]
		}
		switch {
		case end && len(buf) == 0:
			line(bytes.TrimSuffix(part, []byte{'\r'}), cut)
		case end:
			line(bytes.TrimSuffix(append(buf, part...), []byte{'\r'}), cut)
		default:
			buf = append(buf, part...)
		}
		if end {
			buf, cut = shrink(buf), false
		} else if !errors.Is(err, bufio.ErrBufferFull) {
			if len(buf) > 0 || cut {
				line(bytes.TrimSuffix(buf, []byte{'\r'}), cut)
			}
			return
		}
	}
}

// shrink empties buf, and drops it when a rare long line made it large.
func shrink(buf []byte) []byte {
	if cap(buf) > 2*readSize {
		return nil
	}
	return buf[:0]
}
