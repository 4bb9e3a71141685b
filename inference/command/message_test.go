package command

import (
	"encoding/json"
	"strings"
	"testing"

	"windlass/protocol"
)

func FuzzParse(f *testing.F) {
	for _, line := range []string{
		`{"type":"hello","engine":"x"}`, `{"type":"phase","name":"modelLoad"}`, `{"type":"ready"}`,
		`{"type":"progress","percent":12.5,"step":"a","metadata":{},"throughput":3,"eta":1}`,
		`{"type":"progress","throughput":{"value":1,"unit":"u"}}`, `{"type":"chunk","id":"j","data":[1]}`,
		`{"type":"metric","name":"m","value":1}`, `{"type":"log","message":"m"}`, `{"type":"result","output":{"a":[1]}}`,
		`{"type":"result","output":NaN}`, `{"type":"error","code":"X","message":"m","details":{"a":1},"retryable":true,"partial":1}`,
		`{"type":"error","code":5,"details":[]}`, `{"type":"checkpoint","id":"j","data":{"a":1}}`, `{"type":"hello","checkpoint":true}`, `{"type":{"type":"result"}}`, `{`, `null`, "\xff", `{"type":"result"`, strings.Repeat("[", 500),
	} {
		f.Add([]byte(line), false)
	}
	f.Add([]byte(`{"type":"result","id":"job","output":"xxxxx`), true)
	f.Fuzz(func(t *testing.T, line []byte, cut bool) {
		m, ok := parse(line, cut)
		if !ok {
			return
		}
		if !m.kind.known() {
			t.Fatalf("kind %q is unknown", m.kind)
		}
		if p, ok := m.percent(); ok && (p < 0 || p > 100) {
			t.Fatalf("percent %v", p)
		}
		if fl := m.failure(); fl.Code == "" || fl.Message == "" {
			t.Fatalf("failure %+v", fl)
		}
		if eta := m.eta(); eta != nil && *eta < 0 {
			t.Fatalf("eta %d", *eta)
		}
		if th := m.throughput(); th != nil && th.Value < 0 {
			t.Fatalf("throughput %+v", th)
		}
		if out := m.value("output"); m.fault == faultNone && m.kind == kindResult && !validOutput(out) {
			t.Fatalf("output %q passed as valid", out)
		}
		if md := m.object("metadata", protocol.MaxMetadata); md != nil && !json.Valid(md) {
			t.Fatalf("metadata %q", md)
		}
	})
}

func TestDepthCountsOutsideOfText(t *testing.T) {
	for in, want := range map[string]int{`1`: 0, `[]`: 1, `{"a":[{}]}`: 3, `"[[["`: 0, `["\"[["]`: 1, `["\\",[]]`: 2} {
		if got := depth([]byte(in)); got != want {
			t.Errorf("depth(%s) = %d, want %d", in, got, want)
		}
	}
}

func TestErrorDefaults(t *testing.T) {
	for line, want := range map[string]protocol.Code{
		`{"type":"error"}`:                             protocol.CodeHandlerError,
		`{"type":"error","code":"not a code"}`:         protocol.CodeHandlerError,
		`{"type":"error","code":"RESOURCE_EXHAUSTED"}`: protocol.CodeResource,
	} {
		m, ok := parse([]byte(line), false)
		if f := m.failure(); !ok || f.Code != want || f.Retryable || f.Crashed {
			t.Errorf("%s = %+v", line, f)
		}
	}
}
