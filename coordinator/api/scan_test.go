package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"windlass/protocol"
)

func errDeadline() error { return context.DeadlineExceeded }

// deepest returns how deep a valid document nests.
func deepest(b []byte) int {
	depth, most := 0, 0
	d := json.NewDecoder(bytes.NewReader(b))
	for {
		tok, err := d.Token()
		if err != nil {
			return most
		}
		if delim, ok := tok.(json.Delim); ok {
			if delim == '{' || delim == '[' {
				depth++
			} else {
				depth--
			}
			most = max(most, depth)
		}
	}
}

func FuzzScanObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1,"b":[true,null,-0.5e+3],"c":{"d":"\u00e9\n"}}`, `{"a":01}`, `{"a":1.}`, `[`, `"x"`, `{"a":}`,
		`{"a":1,}`, "{\"\x01\":1}", `{"\ud800":1}`, `{"a":"\x"}`, strings.Repeat(`[`, 300), `{"a":` + strings.Repeat(`[`, 255) + strings.Repeat(`]`, 255) + `}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		members := make(map[string]json.RawMessage)
		err := scanObject(b, func(key string, value []byte) { members[key] = value })
		valid := json.Valid(b) && utf8.Valid(b)
		if valid && deepest(b) > protocol.MaxDepth {
			valid = false
		}
		switch {
		case errors.Is(err, errNotObject):
			if !valid || bytes.TrimLeft(b, " \t\r\n")[0] == '{' {
				t.Fatalf("%q is called no object", b)
			}
			return
		case (err == nil) != valid:
			t.Fatalf("%q: %v, valid is %v", b, err, valid)
		case err != nil:
			return
		}
		var want map[string]json.RawMessage
		if json.Unmarshal(b, &want) != nil || len(want) != len(members) {
			t.Fatalf("%q has %d members, found %d", b, len(want), len(members))
		}
		for k, v := range want {
			if !bytes.Equal(members[k], v) {
				t.Fatalf("%q: member %q is %q, want %q", b, k, members[k], v)
			}
		}
	})
}

func FuzzParseSubmit(f *testing.F) {
	f.Add([]byte(seedSubmit), "key")
	f.Add([]byte(`{"input":{},"webhook":"https://a/","policy":{"ttl":5000,"lowPriority":true}}`), `"q"`)
	f.Fuzz(func(t *testing.T, b []byte, key string) {
		in, err := parseSubmit(b, key, nativeDialect)
		if err != nil {
			if _, err := json.Marshal(err); err != nil {
				t.Fatalf("%q: the error cannot be sent: %v", b, err)
			}
			return
		}
		if !json.Valid(in.input) || in.input[0] != '{' || !in.priority.Valid() {
			t.Fatalf("%q gave %+v", b, in)
		}
	})
}

func FuzzTooDeeply(f *testing.F) {
	f.Add([]byte(`{"a":"[[\"[["}`))
	f.Add([]byte(strings.Repeat("[", 300)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if json.Valid(b) && tooDeeply(b) != (deepest(b) > protocol.MaxDepth) {
			t.Fatalf("%q", b)
		}
	})
}

func BenchmarkParseSubmit(b *testing.B) {
	body := []byte(`{"input": {"prompt": "` + strings.Repeat("x y ", 240) + `"}, "priority": "high", "tags": {"a": "b"}}`)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := parseSubmit(body, "", nativeDialect); err != nil {
			b.Fatal(err)
		}
	}
}
