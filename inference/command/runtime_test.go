package command_test

import (
	"encoding/json"
	"os"
	"testing"
	"time"

	"windlass/inference"
	"windlass/inference/command"
	"windlass/inference/runtimetest"
	"windlass/protocol"
)

func specOf(t *testing.T, handler string) inference.Spec {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return inference.Spec{
		Endpoint: "ep_test", Revision: 1, Concurrency: 1, Dir: t.TempDir(), StartLimit: time.Minute,
		Runtime: protocol.RuntimeSpec{Kind: command.Kind, Command: []string{exe}},
		// A binary with the race detector otherwise takes a second to exit.
		Env: []string{handlerVariable + "=" + handler, "PATH=" + os.Getenv("PATH"), "GORACE=atexit_sleep_ms=0"},
	}
}

func text(s string) json.RawMessage { return json.RawMessage(`"` + s + `"`) }

func TestConformance(t *testing.T) {
	for _, handler := range []string{"plain", "channel", "silent"} {
		t.Run(handler, func(t *testing.T) {
			runtimetest.Run(t, runtimetest.Config{
				New:    func() inference.Runtime { return command.New() },
				Spec:   func(t *testing.T) inference.Spec { return specOf(t, handler) },
				Broken: func(t *testing.T) inference.Spec { return specOf(t, "exit") },
				Quick:  text("quick"), Long: text("long"), Progress: text("progress"), Chunks: text("chunks"),
				Log: text("log"), Fail: text("fail"), Crash: text("crash"),
				Slots: 3, CancelWarm: true, Processes: true,
			})
		})
	}
}
