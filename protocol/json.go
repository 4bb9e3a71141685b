package protocol

import (
	"bytes"
	"encoding/json"
)

// EncodeJSON is json.Marshal without HTML escaping: a payload that v carries as
// raw JSON is compacted and otherwise byte-equal, because the rule of DESIGN 3.1
// is that nobody re-encodes what a client or a handler sent.
func EncodeJSON(v any) ([]byte, error) {
	if a, ok := v.(jsonAppender); ok {
		return a.appendJSON(nil)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
