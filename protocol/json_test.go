package protocol

import (
	"encoding/json"
	"testing"
)

func TestEncodeJSONKeepsPayloads(t *testing.T) {
	const payload = `{"html":"<a href=\"x\">&","line":"\u2028"}`
	type envelope struct {
		Text string          `json:"text"`
		Raw  json.RawMessage `json:"raw"`
		Env  EnvValue        `json:"env"`
	}
	got, err := EncodeJSON(envelope{"a<b", json.RawMessage(" " + payload + " "), EnvValue{Literal: "c>d"}})
	want := `{"text":"a<b","raw":` + payload + `,"env":"c>d"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v, want %s", got, err, want)
	}
	if _, err := EncodeJSON(make(chan int)); err == nil {
		t.Error("a channel was encoded")
	}
}
