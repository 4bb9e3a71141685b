package protocol

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

// reflected is what encoding/json writes for a document that has no encoder of
// its own.
func reflected(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSuffix(b.Bytes(), []byte("\n")))
}

func TestOwnEncodersWriteWhatReflectionWrites(t *testing.T) {
	type submit SubmitResponse
	type sync SyncResponse
	type report ReportResponse
	odd := "a\"b\\c\n<&>\u2028é\x7f\xff"
	id := JobID{1, 2, 3, 0xff}
	for _, seconds := range []float64{0, 1, 0.25, 1e-7, -3.5, 1e21, 123456.789} {
		for _, r := range []SubmitResponse{
			{},
			{JobID: id, TaskID: id, Status: StatusQueued, EndpointID: "ep", Priority: PriorityNormal, CreatedAt: 1753000000123, StatusURL: "http://h/v2/jobs/x/status"},
			{JobID: id, EstimatedDuration: &seconds, EndpointID: odd, StatusURL: odd, Tags: map[string]string{"b": odd, "a": "<"}, Status: 99, Priority: 99},
		} {
			got, err := EncodeJSON(&r)
			if want := reflected(t, (*submit)(&r)); err != nil || string(got) != want {
				t.Errorf("%v\n%s\n%s", err, got, want)
			}
		}
	}
	filled := Assignment{}
	fill(reflect.ValueOf(&filled).Elem())
	stop := []StopAttempt{{Job: id, Attempt: 7, Reason: StopStale}, {Reason: StopReason(odd)}}
	assign := []Assignment{
		{Job: id, Attempt: 3, Endpoint: "ep", Revision: 4, Org: OrgDefault, Priority: PriorityHigh, Input: json.RawMessage("{ \"a\" : [ 1,\t\"x \\\" y\\\\\" ] }"), ExecutionMs: 5},
		{Org: odd, Endpoint: odd, InputBlob: "ab", InputSize: 9},
		filled,
	}
	docs := []Endpoint{{ID: "ep", Runtime: RuntimeSpec{Kind: "builtin"}}}
	for _, r := range []SyncResponse{
		{},
		{Seq: math.MaxUint64, ParkedMs: -1, HoldMs: 30000, SpreadMs: 100, Stop: stop, Drain: true, Leader: odd},
		{Assign: assign, Endpoints: docs},
	} {
		got, err := EncodeJSON(&r)
		if want := reflected(t, (*sync)(&r)); err != nil || string(got) != want {
			t.Errorf("%v\n%s\n%s", err, got, want)
		}
	}
	for _, r := range []ReportResponse{
		{},
		{BeatMs: 10000, Resync: true, Stop: stop, Leader: odd},
		{Assign: assign, Endpoints: docs, Attempts: []AttemptReply{{}}},
		{Attempts: []AttemptReply{{}, {Job: id, Attempt: 1, Finished: true, Code: CodeStaleAttempt, NextLog: 4, NextChunk: 5}, {Code: Code(odd)}}},
	} {
		got, err := EncodeJSON(&r)
		if want := reflected(t, (*report)(&r)); err != nil || string(got) != want {
			t.Errorf("%v\n%s\n%s", err, got, want)
		}
	}
	nan := math.NaN()
	if _, err := EncodeJSON(&SubmitResponse{EstimatedDuration: &nan}); err == nil {
		t.Error("a number that is no JSON was written")
	}
}

// fill sets every field, so that one that was added later is not forgotten.
func fill(v reflect.Value) {
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString("text")
		case reflect.Int64:
			f.SetInt(7)
		case reflect.Uint8, reflect.Uint32, reflect.Uint64:
			f.SetUint(2)
		case reflect.Slice:
			f.SetBytes([]byte(`{"a":1}`))
		case reflect.Array:
			f.Index(0).SetUint(9)
		default:
			panic("a field of kind " + f.Kind().String())
		}
	}
}

func FuzzAppendCompact(f *testing.F) {
	for _, seed := range []string{`{ "a" : [ 1 , "x \" y" ] }`, "\t\"\\\\\"\n", `"\\\" "`, `[]`, " 1 ", `"unended \"`, `"`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := appendCompact(nil, raw) // must end for any bytes
		var want bytes.Buffer
		if json.Compact(&want, raw) == nil && !bytes.Equal(got, want.Bytes()) {
			t.Errorf("%q: %q, want %q", raw, got, want.Bytes())
		}
	})
}
