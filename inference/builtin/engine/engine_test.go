package engine_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"windlass/inference/builtin/engine"
)

const modelPath = "../model/tiny-story.gguf"

func readModel(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(modelPath)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func loadModel(t testing.TB) *engine.Model {
	t.Helper()
	m, err := engine.Load(readModel(t))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func generate(t testing.TB, m *engine.Model, prompt string, o engine.Options) (string, engine.Outcome) {
	t.Helper()
	var b strings.Builder
	out, err := m.Generate(context.Background(), prompt, o, func(text string, _ int) { b.WriteString(text) })
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), out
}

// golden is one line of testdata/golden.json.
type golden struct {
	Prompt string `json:"prompt"`
	Tokens int    `json:"tokens"`
	Text   string `json:"text"`
}

const goldenPath = "testdata/golden.json"

// TestGolden fixes the greedy text of the embedded model. With GOLDEN=write in
// the environment it writes the file instead of comparing.
func TestGolden(t *testing.T) {
	m := loadModel(t)
	data, err := os.ReadFile(goldenPath)
	if err != nil {
		t.Fatal(err)
	}
	var want []golden
	if err := json.Unmarshal(data, &want); err != nil {
		t.Fatal(err)
	}
	write := os.Getenv("GOLDEN") == "write"
	for i, g := range want {
		text, out := generate(t, m, g.Prompt, engine.Options{MaxTokens: 120})
		if write {
			want[i].Text, want[i].Tokens = text, out.Tokens
		} else if text != g.Text || out.Tokens != g.Tokens {
			t.Errorf("prompt %q:\n got %d tokens %q\nwant %d tokens %q", g.Prompt, out.Tokens, text, g.Tokens, g.Text)
		}
	}
	if write {
		data, _ = json.MarshalIndent(want, "", "  ")
		if err := os.WriteFile(goldenPath, append(data, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSameSeedSameText(t *testing.T) {
	m := loadModel(t)
	prompt := "Once upon a time, a brave fox named Priya lived by the river."
	for _, o := range []engine.Options{
		{MaxTokens: 60},
		{MaxTokens: 60, Temperature: 0.8, TopK: 40, Seed: 7},
		{MaxTokens: 60, Temperature: 1.2, TopP: 0.9, Seed: 7},
		{MaxTokens: 60, Temperature: 1, Seed: 7},
	} {
		first, _ := generate(t, m, prompt, o)
		second, _ := generate(t, m, prompt, o)
		if first != second {
			t.Errorf("%+v: %q, then %q", o, first, second)
		}
		o.Seed++
		other, _ := generate(t, m, prompt, o)
		if (other == first) != (o.Temperature == 0) {
			t.Errorf("%+v: another seed gives the same text: %t", o, other == first)
		}
	}
}

func TestGenerateEnds(t *testing.T) {
	m := loadModel(t)
	prompt := "Lily was a small cat who lived on a hill."
	text, out := generate(t, m, prompt, engine.Options{MaxTokens: 200})
	if out.Finish != engine.FinishStop || out.Tokens == 0 || text == "" {
		t.Errorf("the story did not end by itself: %+v %q", out, text)
	}
	_, out = generate(t, m, prompt, engine.Options{MaxTokens: 5})
	if out.Finish != engine.FinishLength || out.Tokens != 5 {
		t.Errorf("5 tokens: %+v", out)
	}
	_, out = generate(t, m, prompt, engine.Options{})
	if out.Finish != engine.FinishLength || out.Tokens != 0 {
		t.Errorf("0 tokens: %+v", out)
	}
	// High temperature seldom ends a story: the context does.
	_, out = generate(t, m, prompt, engine.Options{MaxTokens: 1 << 30, Temperature: 50})
	if out.PromptTokens+out.Tokens > m.Config.Context+1 {
		t.Errorf("more than the context: %+v", out)
	}
}

func TestGenerateCancelled(t *testing.T) {
	m := loadModel(t)
	why := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	seen := 0
	out, err := m.Generate(ctx, "Once upon a time", engine.Options{MaxTokens: 100}, func(string, int) {
		if seen++; seen == 3 {
			cancel(why)
		}
	})
	if !errors.Is(err, why) || out.Tokens != 3 {
		t.Errorf("got %+v, %v; want 3 tokens and the cause", out, err)
	}
}

func TestPromptLongerThanContext(t *testing.T) {
	m := loadModel(t)
	for _, prompt := range []string{strings.Repeat("qzx ", 200), strings.Repeat("a long story ", 1<<20)} {
		_, err := m.Generate(context.Background(), prompt, engine.Options{MaxTokens: 1}, func(string, int) {})
		var r *engine.Refusal
		if !errors.As(err, &r) || r.Reason != engine.ReasonContext {
			t.Errorf("%d bytes: got %v, want a context refusal", len(prompt), err)
		}
	}
}

// TestStreamIsValidUTF8 makes byte noise: every piece must still be valid text.
func TestStreamIsValidUTF8(t *testing.T) {
	m := loadModel(t)
	tokens := 0
	for seed := range uint64(5) {
		_, err := m.Generate(context.Background(), "日本語 café", engine.Options{MaxTokens: 150, Temperature: 100, Seed: seed}, func(text string, n int) {
			tokens += n
			if !utf8.ValidString(text) {
				t.Errorf("piece %q is not UTF-8", text)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if tokens == 0 {
		t.Error("nothing was generated")
	}
}

func BenchmarkGenerate(b *testing.B) {
	m := loadModel(b)
	tokens := 0
	for b.Loop() {
		_, out := generate(b, m, "Once upon a time, there was a brave robot named Zed.", engine.Options{MaxTokens: 120, Temperature: 0.6, TopK: 40, Seed: uint64(tokens)})
		tokens += out.Tokens
	}
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tokens/s")
}

func BenchmarkLoad(b *testing.B) {
	data := readModel(b)
	for b.Loop() {
		if _, err := engine.Load(data); err != nil {
			b.Fatal(err)
		}
	}
}
