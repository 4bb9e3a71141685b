package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
)

func TestErrorBody(t *testing.T) {
	t.Parallel()
	b, err := json.Marshal(Invalid("input.pages", -5, "Must be a positive integer"))
	want := `{"error":"VALIDATION_ERROR","message":"Invalid input parameters","details":{"field":"input.pages","reason":"Must be a positive integer","value":-5}}`
	if err != nil || string(b) != want {
		t.Errorf("got %s (%v), want %s", b, err, want)
	}
}

func TestCodeOf(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("cannot submit: %w", NewError(CodeQueueFull, "full"))
	if CodeOf(err) != CodeQueueFull || CodeOf(errors.New("x")) != "" {
		t.Errorf("CodeOf found %q", CodeOf(err))
	}
	if CodeQueueFull.HTTPStatus() != 429 || CodeOutputNotReady.HTTPStatus() != 409 || Code("NEW").HTTPStatus() != 500 {
		t.Error("a code maps to another status")
	}
}

func TestEnvValues(t *testing.T) {
	t.Parallel()
	var env map[string]EnvValue
	if err := json.Unmarshal([]byte(`{"A":"x","B":{"fromFile":"/f"},"C":{"fromEnv":"E"},"D":5}`), &env); err != nil {
		t.Fatal(err)
	}
	want := map[string]EnvValue{"A": {Literal: "x"}, "B": {FromFile: "/f"}, "C": {FromEnv: "E"}, "D": {Literal: "5"}}
	for k, v := range want {
		if env[k] != v {
			t.Errorf("%s is %+v, want %+v", k, env[k], v)
		}
	}
}

func TestPolicyBounds(t *testing.T) {
	t.Parallel()
	for ms, ok := range map[int64]bool{-1: false, 0: false, 999: false, 1000: true, 604_800_000: true, 604_800_001: false} {
		if err := CheckPolicyTime("policy.ttl", ms); (err == nil) != ok {
			t.Errorf("%d: %v", ms, err)
		}
	}
}
