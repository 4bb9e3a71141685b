package api

import (
	"strings"

	"windlass/protocol"
)

// maxSegments is more than any route has; a longer path is nobody's.
const maxSegments = 8

// path is a request path cut into decoded segments. It holds copies.
type path struct {
	seg [maxSegments]string
	n   int
}

// parsePath cuts the path as the client sent it. Slashes collapse here, before
// routing and authorisation; what would make two readers disagree about the
// path (encoded slashes and dots, dot segments, NUL, backslashes) is refused.
func parsePath(raw []byte) (path, *protocol.Error) {
	var p path
	if len(raw) == 0 || raw[0] != '/' {
		return p, badPath("it does not start with /")
	}
	// One copy for all segments: it is cut twice for every request.
	for part := range strings.SplitSeq(string(raw), "/") {
		if part == "" {
			continue
		}
		seg, why := segment(part)
		if why != "" {
			return p, badPath(why)
		}
		if p.n == maxSegments {
			return p, protocol.NewError(protocol.CodeNotFound, "No route has that many path segments")
		}
		p.seg[p.n] = seg
		p.n++
	}
	return p, nil
}

func badPath(why string) *protocol.Error {
	return protocol.NewError(protocol.CodeMalformed, "Invalid path").With("field", "path").With("reason", "The path cannot be used: "+why)
}

// segment decodes one segment; why is not empty when it is refused.
func segment(s string) (decoded, why string) {
	if strings.IndexByte(s, '%') >= 0 {
		text, ok := unescape(s)
		if !ok {
			return "", "it holds an encoded slash, dot or control character, or a broken escape"
		}
		s = string(text)
	}
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == 0x7f || c == '\\' {
			return "", "it holds a control character or a backslash"
		}
	}
	if s == "." || s == ".." {
		return "", "it holds a dot segment"
	}
	return s, ""
}

func unescape(part string) ([]byte, bool) {
	out := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		if part[i] != '%' {
			out = append(out, part[i])
			continue
		}
		if i+2 >= len(part) {
			return nil, false
		}
		hi, lo := unhex(part[i+1]), unhex(part[i+2])
		c := hi<<4 | lo
		if hi > 15 || lo > 15 || c < 0x20 || strings.IndexByte("/.%\\\x7f", c) >= 0 {
			return nil, false
		}
		out = append(out, c)
		i += 2
	}
	return out, true
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}
