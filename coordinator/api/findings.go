package api

import (
	"fmt"

	"windlass/protocol"
)

// finding is one thing that is wrong with a document, as details.errors lists it.
type finding struct {
	Field  string `json:"field"`
	Value  any    `json:"value"`
	Reason string `json:"reason"`
}

// maxFindings bounds an error body; nobody repairs more at once.
const maxFindings = 20

// maxShownValue bounds the part of a wrong value that an error repeats.
const maxShownValue = 256

// findings collects everything that is wrong, so that a caller repairs it in
// one go.
type findings struct {
	list []finding
	more int
}

func (f *findings) add(field string, value any, reason string) {
	if len(f.list) == maxFindings {
		f.more++
		return
	}
	f.list = append(f.list, finding{field, shown(value), reason})
}

// shown returns what an error may repeat of a value.
func shown(value any) any {
	switch v := value.(type) {
	case string:
		if len(v) > maxShownValue {
			return v[:maxShownValue] + "..."
		}
	case []byte:
		return rawValue(v)
	}
	return value
}

// rawValue is a JSON value as it was sent, or a note about its length.
func rawValue(b []byte) any {
	if len(b) > maxShownValue {
		return fmt.Sprintf("(%d bytes of JSON)", len(b))
	}
	return jsonText(b)
}

// jsonText is checked JSON that is not encoded again.
type jsonText string

// MarshalJSON implements json.Marshaler.
func (t jsonText) MarshalJSON() ([]byte, error) { return []byte(t), nil }

// err returns a validation error that leads with the first finding, or nil.
func (f *findings) err() error {
	if len(f.list) == 0 {
		return nil
	}
	first := f.list[0]
	e := protocol.Invalid(first.Field, first.Value, first.Reason).With("errors", f.list)
	if f.more > 0 {
		e.Details["moreErrors"] = f.more
	}
	return e
}

// malformed is the answer to a body that is not JSON at all.
func malformed(err error) error {
	e := protocol.NewError(protocol.CodeMalformed, "The request body is not valid JSON").
		With("field", "body").With("value", nil).With("reason", err.Error())
	if j, ok := err.(*jsonError); ok {
		e.Details["offset"] = j.offset
	}
	return e
}
