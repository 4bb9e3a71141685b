package protocol

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestEventRoundTrip(t *testing.T) {
	t.Parallel()
	events := []Event{
		{ID: "12.1.3", Type: EventStatus, Data: []byte(`{"a":1}`)},
		{Type: EventLog, Data: []byte("two\nlines")},
		{Data: []byte("")},
	}
	var b []byte
	for i, e := range events {
		if i == 1 {
			b = AppendComment(b, "alive")
		}
		b = AppendEvent(b, e)
	}
	r := NewEventReader(bytes.NewReader(b))
	for _, want := range events {
		got, err := r.Next()
		if err != nil || got.ID != want.ID || got.Type != want.Type || !bytes.Equal(got.Data, want.Data) {
			t.Errorf("got %+v, %v; want %+v", got, err, want)
		}
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the last event: %v, want EOF", err)
	}
}

func TestEventCannotBeInjected(t *testing.T) {
	t.Parallel()
	b := AppendEvent(nil, Event{ID: "1\ndata: evil", Type: "x\r\ndata: evil", Data: []byte("a\n\nevent: evil")})
	r := NewEventReader(bytes.NewReader(b))
	e, err := r.Next()
	if err != nil || string(e.Data) != "a\n\nevent: evil" {
		t.Errorf("got %+v, %v", e, err)
	}
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Errorf("a second event came out: %v", err)
	}
}

func TestEventBrokenOff(t *testing.T) {
	t.Parallel()
	r := NewEventReader(strings.NewReader("id: 1\ndata: half"))
	if e, err := r.Next(); err == nil {
		t.Errorf("got %+v, want an error", e)
	}
}

func FuzzEventReader(f *testing.F) {
	f.Add([]byte("id: 1\nevent: status\ndata: {}\n\n: c\n\n"))
	f.Add([]byte("data\n\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r := NewEventReader(bytes.NewReader(b))
		for {
			e, err := r.Next()
			if err != nil {
				return
			}
			again, err := NewEventReader(bytes.NewReader(AppendEvent(nil, e))).Next()
			if err != nil || !bytes.Equal(bytes.ReplaceAll(e.Data, []byte{'\r'}, nil), again.Data) {
				t.Fatalf("%q came back as %q (%v)", e.Data, again.Data, err)
			}
		}
	})
}
