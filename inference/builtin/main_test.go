package builtin_test

import (
	"encoding/json"
	"os"
	"testing"

	"windlass/inference"
	"windlass/inference/builtin"
	"windlass/inference/runtimetest"
	"windlass/protocol"
)

// TestMain makes this test binary its own child, as the windlass binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == builtin.Subcommand {
		out, err := builtin.OpenChannel(os.Getenv)
		if err != nil {
			os.Exit(1)
		}
		os.Exit(builtin.Main(os.Args[2:], os.Stdin, out, os.Stderr))
	}
	os.Exit(m.Run())
}

func childSpec(t *testing.T, handler, model string) inference.Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return inference.Spec{
		Endpoint: "ep_test", Revision: 1, Dir: t.TempDir(), Executable: self, Concurrency: 1,
		Runtime: protocol.RuntimeSpec{Kind: builtin.Kind, Handler: handler, Model: model},
	}
}

func conform(t *testing.T, handler string, c runtimetest.Config) {
	c.New = func() inference.Runtime { return builtin.New() }
	c.Spec = func(t *testing.T) inference.Spec { return childSpec(t, handler, "") }
	c.CancelWarm, c.Processes = true, true
	runtimetest.Run(t, c)
}

func TestConformanceEcho(t *testing.T) {
	conform(t, builtin.HandlerEcho, runtimetest.Config{
		Quick:    json.RawMessage(`{"a":[1,2.50,"<&>"]}`),
		Long:     json.RawMessage(`{"sleep":3600}`),
		Progress: json.RawMessage(`{"sleep":0.35}`),
		Fail:     json.RawMessage(`{"fail":{"code":"CUSTOM_CODE","message":"no","retryable":true}}`),
		Slots:    4,
		Broken:   func(t *testing.T) inference.Spec { return childSpec(t, "paint", "") },
	})
}

func TestConformanceStory(t *testing.T) {
	conform(t, builtin.HandlerStory, runtimetest.Config{
		Quick:    json.RawMessage(`{"prompt":"Mia was a shy fox.","maxTokens":8}`),
		Long:     json.RawMessage(`{"prompt":"Mia was a shy fox.","count":100,"temperature":1}`),
		Progress: json.RawMessage(`{"prompt":"Mia was a shy fox.","count":3,"maxTokens":20}`),
		Chunks:   json.RawMessage(`{"prompt":"Mia was a shy fox.","maxTokens":20}`),
		Slots:    2,
		Broken:   func(t *testing.T) inference.Spec { return childSpec(t, builtin.HandlerStory, "/nowhere/model.gguf") },
	})
}

func TestConformanceDocument(t *testing.T) {
	conform(t, builtin.HandlerDocument, runtimetest.Config{
		Quick:  json.RawMessage(`{"prompt":"A plan","sections":["one"]}`),
		Long:   json.RawMessage(`{"prompt":"A plan","pages":100}`),
		Chunks: json.RawMessage(`{"prompt":"A plan","sections":["one"]}`),
	})
}
