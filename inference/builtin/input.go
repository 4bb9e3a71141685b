package builtin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"

	"windlass/inference"
	"windlass/protocol"
)

// maxEcho bounds how much of a bad value an error repeats.
const maxEcho = 200

// fields reads an input object and keeps the first thing that is wrong with it.
type fields struct {
	raw   map[string]json.RawMessage
	known []string
	err   *inference.Failure
}

func readFields(input json.RawMessage) *fields {
	f := &fields{}
	if err := json.Unmarshal(input, &f.raw); err != nil || f.raw == nil {
		f.err = invalid("input", input, "must be an object")
	}
	return f
}

// invalid is the failure of an input that no retry will make right.
func invalid(field string, value json.RawMessage, reason string) *inference.Failure {
	var shown any // nil is a missing value
	if len(value) > maxEcho {
		shown = strings.ToValidUTF8(string(value[:maxEcho]), "") + "..."
	} else if len(value) > 0 {
		shown = value
	}
	return &inference.Failure{
		Code:    protocol.CodeInvalidInput,
		Message: fmt.Sprintf("Invalid input: %s %s", field, reason),
		Details: map[string]any{"field": field, "value": shown, "reason": reason},
	}
}

func (f *fields) fail(name, reason string) {
	if f.err == nil {
		f.err = invalid(name, f.raw[name], reason)
	}
}

// take returns a field, nil when it is absent or null.
func (f *fields) take(name string) json.RawMessage {
	f.known = append(f.known, name)
	if v := f.raw[name]; !bytes.Equal(v, []byte("null")) {
		return v
	}
	return nil
}

// prompt returns the required text, without blanks around it: the model puts its
// own blank before the text that follows.
func (f *fields) prompt() string {
	const name = "prompt"
	var text string
	if v := f.take(name); v == nil {
		f.fail(name, "is required")
	} else if json.Unmarshal(v, &text) != nil {
		f.fail(name, "must be text")
	} else if text = strings.TrimSpace(text); text == "" {
		f.fail(name, "must not be empty")
	}
	return text
}

// number returns a number in lo to hi.
func (f *fields) number(name string, def, lo, hi float64) float64 {
	v := f.take(name)
	if v == nil {
		return def
	}
	n := math.NaN()
	if json.Unmarshal(v, &n) != nil || !(n >= lo && n <= hi) {
		f.fail(name, fmt.Sprintf("must be a number from %v to %v", lo, hi))
		return def
	}
	return n
}

// whole returns a whole number in lo to hi; 3.0 is one.
func (f *fields) whole(name string, def, lo, hi int64) int64 {
	v := f.take(name)
	if v == nil {
		return def
	}
	n := math.NaN()
	if json.Unmarshal(v, &n) != nil || n != math.Trunc(n) || n < float64(lo) || n > float64(hi) {
		f.fail(name, fmt.Sprintf("must be a whole number from %d to %d", lo, hi))
		return def
	}
	return int64(n)
}

// maxSeed is the largest whole number that every JSON reader keeps.
const maxSeed = 1<<53 - 1

// seed returns the seed; without one it is 0, so that a job and its retry tell
// the same.
func (f *fields) seed() uint64 {
	return uint64(f.whole("seed", 0, -maxSeed, maxSeed))
}

// texts returns a list of 1 to most texts, def when it is absent.
func (f *fields) texts(name string, def []string, most int) []string {
	v := f.take(name)
	if v == nil {
		return def
	}
	var list []string
	if json.Unmarshal(v, &list) != nil || len(list) == 0 || len(list) > most || slices.Contains(list, "") {
		f.fail(name, fmt.Sprintf("must be a list of 1 to %d texts that are not empty", most))
		return def
	}
	return list
}

// text returns an optional text.
func (f *fields) text(name string) string {
	var s string
	if v := f.take(name); v != nil && json.Unmarshal(v, &s) != nil {
		f.fail(name, "must be text")
	}
	return s
}

// unknown lists the fields that nobody took, in order.
func (f *fields) unknown() []string {
	names := []string{}
	for name := range f.raw {
		if !slices.Contains(f.known, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
