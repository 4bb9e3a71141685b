package command

import (
	"bytes"
	"encoding/json"
	"math"
	"strings"
	"unicode/utf8"

	"windlass/inference"
	"windlass/protocol"
)

// MaxLine bounds one message in either direction; larger inputs and outputs go
// through files in the job's directory (inference.md 5.3).
const MaxLine = 1 << 20

const (
	maxCode    = 64       // of an error code
	maxMessage = 16 << 10 // of an error message
	maxStep    = 1 << 10  // of a progress step
)

// kind is the type field of a message from the child.
type kind string

const (
	kindHello    kind = "hello"
	kindPhase    kind = "phase"
	kindReady    kind = "ready"
	kindProgress kind = "progress"
	kindChunk    kind = "chunk"
	kindLog      kind = "log"
	kindMetric   kind = "metric"
	kindFile     kind = "file"
	kindResult   kind = "result"
	kindError    kind = "error"

	kindCheckpoint kind = "checkpoint"
)

func (k kind) known() bool {
	switch k {
	case kindHello, kindPhase, kindReady, kindProgress, kindChunk, kindLog, kindMetric, kindFile, kindResult, kindError, kindCheckpoint:
		return true
	}
	return false
}

// message is one message from the child. Fields of a wrong type are left raw and
// read by the accessors, so that one bad field does not void the rest.
type message struct {
	kind  kind
	id    string // "" when absent
	raw   map[string]json.RawMessage
	fault fault
}

// fault says what is wrong with a line that was meant as a message.
type fault uint8

const (
	faultNone    fault = iota
	faultLong          // longer than MaxLine
	faultInvalid       // not JSON, or not UTF-8
	faultDeep          // nested deeper than protocol.MaxDepth
)

// parse reads one line. ok is false when it is no message, which makes it a log
// line. A line that names a known type but cannot be read comes with its fault.
func parse(line []byte, cut bool) (m message, ok bool) {
	line = bytes.TrimSpace(line)
	if len(line) == 0 || line[0] != '{' {
		return message{}, false
	}
	if cut {
		return guess(line, faultLong)
	}
	valid := utf8.Valid(line)
	if !valid {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	if json.Unmarshal(line, &m.raw) != nil {
		return guess(line, faultInvalid)
	}
	m.kind, m.id = kind(m.text("type")), m.text("id")
	if !m.kind.known() {
		return message{}, false
	}
	switch {
	case !valid && (m.kind == kindResult || m.kind == kindCheckpoint):
		m.fault = faultInvalid
	case depth(line) > protocol.MaxDepth:
		m.fault = faultDeep
	}
	return m, true
}

// guess finds type and id in a line that is no JSON: a result with NaN in it must
// fail its job, not vanish as a log line.
func guess(line []byte, f fault) (message, bool) {
	m := message{kind: kind(find(line, `"type"`)), id: find(line, `"id"`), fault: f}
	if !m.kind.known() {
		return message{}, false
	}
	return m, true
}

// find returns the text that follows the first key in line, "" if there is none.
func find(line []byte, key string) string {
	_, rest, ok := bytes.Cut(line, []byte(key))
	if !ok {
		return ""
	}
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte{':'})
	if !ok {
		return ""
	}
	rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t"), []byte{'"'})
	end := bytes.IndexByte(rest, '"')
	if !ok || end < 0 || end > maxMessage {
		return ""
	}
	return string(rest[:end])
}

// depth is how deep valid JSON is nested.
func depth(b []byte) int {
	deepest, now, inText, escaped := 0, 0, false, false
	for _, c := range b {
		switch {
		case escaped:
			escaped = false
		case inText:
			escaped, inText = c == '\\', c != '"'
		case c == '"':
			inText = true
		case c == '{' || c == '[':
			now++
			deepest = max(deepest, now)
		case c == '}' || c == ']':
			now--
		}
	}
	return deepest
}

func (m message) text(field string) string {
	var s string
	_ = json.Unmarshal(m.raw[field], &s) // another type is as good as none
	return s
}

func (m message) number(field string) (float64, bool) {
	return number(m.raw[field])
}

func number(raw json.RawMessage) (float64, bool) {
	var v *float64
	if len(raw) == 0 || json.Unmarshal(raw, &v) != nil || v == nil {
		return 0, false
	}
	return *v, true
}

func (m message) boolean(field string) bool {
	var v bool
	_ = json.Unmarshal(m.raw[field], &v)
	return v
}

// object returns the field if it is an object of at most limit bytes.
func (m message) object(field string, limit int) json.RawMessage {
	raw := m.raw[field]
	if len(raw) == 0 || raw[0] != '{' || len(raw) > limit {
		return nil
	}
	return raw
}

// value returns the field as it was sent; absent is null.
func (m message) value(field string) json.RawMessage {
	if raw := m.raw[field]; len(raw) > 0 {
		return bytes.Clone(raw)
	}
	return json.RawMessage("null")
}

// percentSlack is how far outside of 0 to 100 a percentage is a rounding error.
const percentSlack = 1

// percent returns the field in 0 to 100; what is far outside means nothing and
// is left out rather than guessed.
func (m message) percent() (float64, bool) {
	v, ok := m.number("percent")
	if !ok || v < -percentSlack || v > 100+percentSlack {
		return 0, false
	}
	return min(max(v, 0), 100), true
}

// throughput reads {value, unit} or a number, whose unit is then unknown.
func (m message) throughput() *protocol.Throughput {
	raw := m.raw["throughput"]
	var t struct {
		Value json.RawMessage `json:"value"`
		Unit  string          `json:"unit"`
	}
	if len(raw) > 0 && raw[0] == '{' {
		if json.Unmarshal(raw, &t) != nil {
			return nil
		}
		raw = t.Value
	}
	v, ok := number(raw)
	if !ok || v < 0 {
		return nil
	}
	return &protocol.Throughput{Value: v, Unit: t.Unit}
}

// eta reads seconds until completion.
func (m message) eta() *int64 {
	v, ok := m.number("eta")
	if !ok || v < 0 || v > protocol.MaxPolicyTime.Seconds() {
		return nil
	}
	ms := int64(math.Round(v * 1000))
	return &ms
}

// failure reads an error message of a handler.
func (m message) failure() *inference.Failure {
	f := &inference.Failure{
		Code: protocol.CodeHandlerError, Message: m.text("message"), Retryable: m.boolean("retryable"),
	}
	if code := m.text("code"); validCode(code) {
		f.Code = protocol.Code(code)
	}
	if f.Message == "" {
		f.Message = "the handler reported an error without a message"
	}
	f.Message = clip(f.Message, maxMessage)
	_ = json.Unmarshal(m.object("details", MaxLine), &f.Details) // absent or no object: none
	if raw := m.raw["partial"]; len(raw) > 0 && !bytes.Equal(raw, []byte("null")) {
		f.Partial = bytes.Clone(raw)
	}
	return f
}

func validCode(s string) bool {
	return s != "" && len(s) <= maxCode && s[0] >= 'A' && s[0] <= 'Z' &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
}

func clip(s string, limit int) string {
	if len(s) > limit {
		return strings.ToValidUTF8(s[:limit], "") + "..."
	}
	return s
}
