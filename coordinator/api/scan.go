package api

import (
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"windlass/protocol"
)

// jsonError says where a document is not JSON, or not JSON that we take.
type jsonError struct {
	offset int
	reason string
}

// Error implements error.
func (e *jsonError) Error() string { return fmt.Sprintf("%s at byte %d", e.reason, e.offset) }

// scanObject checks that b is one JSON object of valid UTF-8, nested at most
// protocol.MaxDepth deep, and calls member for each of its members with the
// bytes of the value as they were sent. It reads b once and keeps nothing: a
// submit is checked here and never decoded or encoded again. On a document
// that is not an object it returns notObject.
func scanObject(b []byte, member func(key string, value []byte)) error {
	s := scanner{b: b}
	if !utf8.Valid(b) {
		return &jsonError{reason: "Invalid UTF-8"}
	}
	i := s.space(0)
	if i == len(b) {
		return &jsonError{i, "The body is empty"}
	}
	if b[i] != '{' {
		end := s.value(i, 0)
		if s.err == nil && s.space(end) == len(b) {
			return errNotObject
		}
		if s.err == nil {
			s.fail(end, "Unexpected data after the document")
		}
		return s.err
	}
	end := s.object(i, 1, member)
	if s.err == nil {
		if end = s.space(end); end != len(b) {
			s.fail(end, "Unexpected data after the document")
		}
	}
	if s.err != nil {
		return s.err
	}
	return nil
}

// errNotObject says that a document is JSON but not an object.
var errNotObject = fmt.Errorf("the document is not a JSON object")

// scanner walks over JSON text. After the first error every method returns the
// length of the text, so that callers check once.
type scanner struct {
	b   []byte
	err *jsonError
}

func (s *scanner) fail(i int, reason string) int {
	if s.err == nil {
		s.err = &jsonError{i, reason}
	}
	return len(s.b)
}

func (s *scanner) space(i int) int {
	for i < len(s.b) && (s.b[i] == ' ' || s.b[i] == '\n' || s.b[i] == '\t' || s.b[i] == '\r') {
		i++
	}
	return i
}

// value returns the end of the value at i, which lies within depth containers.
func (s *scanner) value(i, depth int) int {
	if i >= len(s.b) {
		return s.fail(i, "Unexpected end of the document")
	}
	switch c := s.b[i]; {
	case c == '"':
		return s.text(i)
	case c == '{':
		return s.object(i, depth+1, nil)
	case c == '[':
		return s.array(i, depth+1)
	case c == '-' || (c >= '0' && c <= '9'):
		return s.number(i)
	case c == 't':
		return s.word(i, "true")
	case c == 'f':
		return s.word(i, "false")
	case c == 'n':
		return s.word(i, "null")
	}
	return s.fail(i, "Unexpected character")
}

func (s *scanner) object(i, depth int, member func(string, []byte)) int {
	if depth > protocol.MaxDepth {
		return s.fail(i, tooDeep)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(s.b) || s.b[i] != '"' {
			return s.fail(i, "Expected a key in quotes")
		}
		keyEnd := s.text(i)
		colon := s.space(keyEnd)
		if s.err != nil || colon >= len(s.b) || s.b[colon] != ':' {
			return s.fail(colon, "Expected a colon after the key")
		}
		start := s.space(colon + 1)
		end := s.value(start, depth)
		if s.err != nil {
			return len(s.b)
		}
		if member != nil {
			member(unquote(s.b[i:keyEnd]), s.b[start:end:end])
		}
		i = s.space(end)
		if i < len(s.b) && s.b[i] == '}' {
			return i + 1
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return s.fail(i, "Expected a comma or a closing brace")
		}
		i = s.space(i + 1)
	}
}

const tooDeep = "Nested too deeply (at most 256 levels)"

func (s *scanner) array(i, depth int) int {
	if depth > protocol.MaxDepth {
		return s.fail(i, tooDeep)
	}
	i = s.space(i + 1)
	if i < len(s.b) && s.b[i] == ']' {
		return i + 1
	}
	for {
		end := s.value(i, depth)
		if s.err != nil {
			return len(s.b)
		}
		i = s.space(end)
		if i < len(s.b) && s.b[i] == ']' {
			return i + 1
		}
		if i >= len(s.b) || s.b[i] != ',' {
			return s.fail(i, "Expected a comma or a closing bracket")
		}
		i = s.space(i + 1)
	}
}

func (s *scanner) text(i int) int {
	for i++; i < len(s.b); i++ {
		switch c := s.b[i]; {
		case c == '"':
			return i + 1
		case c < 0x20:
			return s.fail(i, "A control character in a string must be escaped")
		case c == '\\':
			i = s.escape(i + 1)
		}
	}
	return s.fail(i, "A string has no end")
}

// escape returns the last byte of the escape whose letter is at i.
func (s *scanner) escape(i int) int {
	if i >= len(s.b) {
		return i
	}
	switch s.b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i
	case 'u':
		for j := i + 1; j <= i+4; j++ {
			if j >= len(s.b) || unhex(s.b[j]) > 15 {
				return s.fail(i, "Invalid \\u escape")
			}
		}
		return i + 4
	}
	return s.fail(i, "Invalid escape")
}

func (s *scanner) digits(i int) int {
	for i < len(s.b) && s.b[i] >= '0' && s.b[i] <= '9' {
		i++
	}
	return i
}

func (s *scanner) number(i int) int {
	if s.b[i] == '-' {
		i++
	}
	end := s.digits(i)
	if end == i || (s.b[i] == '0' && end > i+1) {
		return s.fail(i, "Invalid number")
	}
	if i = end; i < len(s.b) && s.b[i] == '.' {
		if end = s.digits(i + 1); end == i+1 {
			return s.fail(i, "Invalid number")
		}
		i = end
	}
	if i < len(s.b) && (s.b[i] == 'e' || s.b[i] == 'E') {
		if i++; i < len(s.b) && (s.b[i] == '+' || s.b[i] == '-') {
			i++
		}
		if end = s.digits(i); end == i {
			return s.fail(i, "Invalid number")
		}
		i = end
	}
	return i
}

func (s *scanner) word(i int, want string) int {
	if len(s.b)-i < len(want) || string(s.b[i:i+len(want)]) != want {
		return s.fail(i, "Unexpected character")
	}
	return i + len(want)
}

// unquote returns the text of a checked JSON string.
func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	for _, c := range inner {
		if c == '\\' {
			var text string
			// The scanner accepted it, so it decodes.
			_ = json.Unmarshal(quoted, &text)
			return text
		}
	}
	return string(inner)
}

// tooDeeply reports whether a document, JSON or not, nests deeper than
// protocol.MaxDepth. It is for documents that are decoded afterwards.
func tooDeeply(b []byte) bool {
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case quoted:
			if c == '\\' {
				i++
			} else if c == '"' {
				quoted = false
			}
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			if depth++; depth > protocol.MaxDepth {
				return true
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return false
}
