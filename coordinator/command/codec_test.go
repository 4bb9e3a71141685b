package command

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// inWordsOfProtobuf is the entry of a batch that was not checked, written by
// protobuf alone.
func inWordsOfProtobuf(t testing.TB, cmds ...*Command) []byte {
	t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(&Batch{ClockMs: clock, Commands: cmds})
	if err != nil {
		t.Fatal(err)
	}
	return sealed(envelopeVersion, body)
}

// agree holds a Decoder against protobuf for one entry, in what it returns and in
// what it refuses.
func agree(t *testing.T, d *Decoder, entry []byte) {
	t.Helper()
	want, wantErr := Unmarshal(entry)
	got, err := d.Decode(entry)
	if fmt.Sprint(err) != fmt.Sprint(wantErr) {
		t.Fatalf("%x: %v, want %v", entry, err, wantErr)
	}
	if err != nil {
		return
	}
	if !proto.Equal(got, want) {
		t.Fatalf("%x:\n got %v\nwant %v", entry, got, want)
	}
	again, err := Marshal(got.GetClockMs(), got.GetCommands())
	if err != nil {
		t.Fatal(err)
	}
	if theirs := inWordsOfProtobufAt(t, want); !bytes.Equal(again, theirs) {
		t.Fatalf("written again:\n got %x\nwant %x", again, theirs)
	}
	for _, c := range got.GetCommands() {
		if n := proto.Size(c); Size(c) != n {
			t.Fatalf("size of %v is %d, want %d", c, Size(c), n)
		}
	}
}

func inWordsOfProtobufAt(t testing.TB, b *Batch) []byte {
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return sealed(envelopeVersion, body)
}

// odd is what the hand-written code meets beside ordinary commands: the limits of
// every number, what is empty, repeated, unknown, of another wire type or no text.
func odd(t testing.TB) map[string][]byte {
	var d []byte
	put := func(m proto.Message) []byte {
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	command := func(field protowire.Number, body []byte) []byte {
		c := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), body)
		return protowire.AppendBytes(protowire.AppendTag(nil, fieldCommands, protowire.BytesType), c)
	}
	submit, lease, finish := samples()["submit"].GetSubmit(), samples()["lease"].GetLease(), samples()["finish"].GetFinish()
	out := map[string][]byte{"nothing": d, "empty submit": command(1, nil)}
	extremes := samples()["submit"].GetSubmit()
	extremes.ExecutionMs, extremes.TtlMs, extremes.MaxAttempts, extremes.QueueLimit = math.MinInt64, math.MaxInt64, math.MaxUint32, 1<<31
	extremes.Tags = append(extremes.Tags, &Tag{}, &Tag{Value: "é"})
	out["extremes"] = command(1, put(extremes))
	bare := &Submit{Job: id(1), Org: "o", Endpoint: "e", Priority: 1, Input: &Payload{}}
	out["empty payload"] = command(1, put(bare))
	out["many commands"] = append(append(command(1, put(submit)), command(2, put(lease))...), command(3, put(finish))...)
	for name, extra := range map[string][]byte{
		"unknown field":       {0xf8, 0x07, 1},
		"unknown bytes":       {0xfa, 0x07, 1, 7},
		"job again":           protowire.AppendBytes([]byte{0x0a}, id(9)),
		"job emptied":         {0x0a, 0},
		"job as number":       {0x08, 1},
		"priority as bytes":   {0x22, 1, 1},
		"wide priority":       {0x20, 0x82, 0x80, 0x80, 0x80, 0x10}, // 2 above the 32 bits that count
		"long varint":         {0x20, 0x82, 0x80, 0x00},
		"overlong varint":     {0x20, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02},
		"true is two":         {0x78, 2},
		"second payload":      {0x2a, 3, 0x0a, 1, 'x'},
		"fixed32":             {0x0d, 1, 2, 3, 4},
		"fixed64 unknown":     {0xf9, 0x07, 1, 2, 3, 4, 5, 6, 7, 8},
		"group":               {0xfb, 0x07, 0xfc, 0x07},
		"end of a group":      {0xfc, 0x07},
		"field zero":          {0x02, 0},
		"field of 32 bits":    {0xfa, 0xff, 0xff, 0xff, 0x7f, 0},
		"no text":             {0x3a, 1, 0xff},
		"tag is no text":      {0x32, 3, 0x0a, 1, 0xff},
		"unknown in a tag":    {0x32, 3, 0xf8, 0x07, 1},
		"cut":                 {0x0a, 16, 1},
		"length beyond 63 bi": {0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	} {
		out["submit: "+name] = command(1, append(put(submit), extra...))
		out["lease: "+name] = command(2, append(put(lease), extra...))
		out["finish: "+name] = command(3, append(put(finish), extra...))
		out["batch: "+name] = append(command(1, put(submit)), extra...)
		inner := append(protowire.AppendBytes([]byte{0x0a}, put(submit)), extra...)
		out["command: "+name] = protowire.AppendBytes([]byte{0x12}, inner)
	}
	two := append(protowire.AppendBytes([]byte{0x0a}, put(submit)), protowire.AppendBytes([]byte{0x12}, put(lease))...)
	out["two operations"] = protowire.AppendBytes([]byte{0x12}, two)
	twice := append(protowire.AppendBytes([]byte{0x0a}, put(submit)), protowire.AppendBytes([]byte{0x0a}, put(bare))...)
	out["one operation twice"] = protowire.AppendBytes([]byte{0x12}, twice)
	return out
}

func TestDecoderAgreesWithProtobuf(t *testing.T) {
	d := new(Decoder)
	var all []*Command
	for _, c := range samples() {
		agree(t, d, inWordsOfProtobuf(t, c))
		all = append(all, c)
	}
	agree(t, d, inWordsOfProtobuf(t, all...))
	for name, body := range odd(t) {
		t.Run(name, func(t *testing.T) { agree(t, d, sealed(envelopeVersion, body)) })
	}
}

// TestOrdinaryCommandsAreReadByHand: what every job sends must not go the slow way.
func TestOrdinaryCommandsAreReadByHand(t *testing.T) {
	submit, lease, finish := samples()["submit"], samples()["lease"], samples()["finish"]
	finish.GetFinish().Files = nil // few jobs have any
	for name, c := range map[string]*Command{"submit": submit, "lease": lease, "finish": finish} {
		if _, hot := hotSize(c); !hot {
			t.Errorf("%s is written by protobuf", name)
		}
		body, err := proto.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		d := new(Decoder)
		d.reset()
		if f, _, ok := cut(body); !ok || d.hot(f) == nil {
			t.Errorf("%s is read by protobuf", name)
		}
	}
}

func TestMessagesWithUnknownFieldsAreWrittenByProtobuf(t *testing.T) {
	for name, c := range samples() {
		m := c.ProtoReflect()
		op := m.WhichOneof(m.Descriptor().Oneofs().ByName("op"))
		m.Get(op).Message().SetUnknown(protoreflect.RawFields{0xf8, 0x07, 1})
		got, err := Marshal(clock, []*Command{c})
		if err != nil {
			t.Fatal(err)
		}
		if want := inWordsOfProtobuf(t, c); !bytes.Equal(got, want) {
			t.Errorf("%s:\n got %x\nwant %x", name, got, want)
		}
	}
}

// TestDecoderForgets: what one entry set is not in the next, and what a row keeps of
// the first stays as it was.
func TestDecoderForgets(t *testing.T) {
	d := new(Decoder)
	entry := inWordsOfProtobuf(t, samples()["submit"], samples()["finish"])
	batch, err := d.Decode(entry)
	if err != nil {
		t.Fatal(err)
	}
	s, f := batch.GetCommands()[0].GetSubmit(), batch.GetCommands()[1].GetFinish()
	input, output, partial, message := s.GetInput().GetInline(), f.GetOutput().GetInline(), f.GetPartial(), f.GetErrorMessage()
	clear(entry)
	bare := &Command{Op: &Command_Submit{Submit: &Submit{Job: id(7), Org: "o", Endpoint: "e", Priority: 1}}}
	short := &Command{Op: &Command_Finish{Finish: &Finish{Job: id(7), Agent: id(2), Incarnation: id(3), Outcome: "completed"}}}
	batch, err = d.Decode(inWordsOfProtobuf(t, bare, short))
	if err != nil {
		t.Fatal(err)
	}
	if c := batch.GetCommands(); !proto.Equal(c[0], bare) || !proto.Equal(c[1], short) {
		t.Errorf("read %v", batch)
	}
	if string(input) != `{"a":1}` || string(output) != `{"b":2}` || string(partial) != `[1]` || message != "it broke" {
		t.Errorf("the first entry's payloads became %q, %q, %q, %q", input, output, partial, message)
	}
}

func TestDecoderBoundsItsWords(t *testing.T) {
	d := new(Decoder)
	for i := range 3 * maxWords {
		c := &Command{Op: &Command_Submit{Submit: &Submit{Job: id(1), Org: "o", Endpoint: fmt.Sprint("ep_", i), Priority: 1}}}
		batch, err := d.Decode(inWordsOfProtobuf(t, c))
		if err != nil || !proto.Equal(batch.GetCommands()[0], c) {
			t.Fatal(batch, err)
		}
		if len(d.words) > maxWords {
			t.Fatalf("%d words are kept", len(d.words))
		}
	}
}

func TestDecodeAllocations(t *testing.T) {
	var cmds []*Command
	for range 10 {
		s, l, f := samples()["submit"], samples()["lease"], samples()["finish"]
		s.GetSubmit().Tags, s.GetSubmit().CallbackUrl, s.GetSubmit().IdempotencyKey = nil, "", ""
		f.Op = &Command_Finish{Finish: &Finish{
			Job: id(1), Attempt: 1, Agent: id(2), Incarnation: id(3), Outcome: "completed", Output: inline(`{"ok":true}`), Facts: []byte("{}"),
		}}
		cmds = append(cmds, s, l, f)
	}
	d, entry := new(Decoder), inWordsOfProtobuf(t, cmds...)
	allocs := testing.AllocsPerRun(100, func() {
		if _, err := d.Decode(entry); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 20 { // the input and the output of each job
		t.Errorf("ten jobs allocate %v times, want 20", allocs)
	}
}

// FuzzOwnCodec: any body is read, refused and written again as protobuf does it.
func FuzzOwnCodec(f *testing.F) {
	for _, c := range samples() {
		f.Add(inWordsOfProtobuf(f, c)[headerSize:])
	}
	for _, body := range odd(f) {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		d := new(Decoder)
		for range 2 { // the second time in used memory
			agree(t, d, sealed(envelopeVersion, body))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	s, l, f := samples()["submit"], samples()["lease"], samples()["finish"]
	s.GetSubmit().Input = inline(`{"a":"` + string(bytes.Repeat([]byte{'x'}, 1000)) + `"}`)
	entry := inWordsOfProtobuf(b, s, l, f)
	d := new(Decoder)
	for name, decode := range map[string]func([]byte) (*Batch, error){"own": d.Decode, "protobuf": Unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := decode(entry); err != nil && !errors.Is(err, ErrCorrupt) {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncode(b *testing.B) {
	s, l, f := samples()["submit"], samples()["lease"], samples()["finish"]
	s.GetSubmit().Input = inline(`{"a":"` + string(bytes.Repeat([]byte{'x'}, 1000)) + `"}`)
	cmds := []*Command{s, l, f}
	b.Run("own", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := Marshal(clock, cmds); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("protobuf", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := (proto.MarshalOptions{Deterministic: true}).Marshal(&Batch{ClockMs: clock, Commands: cmds}); err != nil {
				b.Fatal(err)
			}
		}
	})
}
