package main

import (
	"context"
	"io"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"windlass/inference/builtin/engine"
)

// smallPlan trains in seconds.
func smallPlan() plan {
	p := defaultPlan()
	p.shape = shape{dim: 32, layers: 2, heads: 2, kvHeads: 1, ffn: 64, vocab: 320, context: 256}
	p.steps, p.batch, p.sequence, p.stories, p.threads = 30, 2, 64, 200, 2
	return p
}

func mean(v []float64) float64 {
	sum := 0.0
	for _, x := range v {
		sum += x
	}
	return sum / float64(len(v))
}

func TestTrainingLearnsAndItsFileRuns(t *testing.T) {
	made, err := train(smallPlan(), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	first, last := mean(made.losses[:5]), mean(made.losses[25:])
	if !(last < first-0.5) {
		t.Errorf("the loss went from %.3f to %.3f", first, last)
	}
	var texts []string
	for _, kind := range []engine.Type{engine.F32, engine.F16, engine.Q8} {
		data, err := made.encode(kind)
		if err != nil {
			t.Fatal(err)
		}
		m, err := engine.Load(data)
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		var b strings.Builder
		out, err := m.Generate(context.Background(), "Once upon a time", engine.Options{MaxTokens: 20}, func(s string, _ int) { b.WriteString(s) })
		if err != nil || out.PromptTokens+out.Tokens == 0 {
			t.Fatalf("%s: %+v %v", kind, out, err)
		}
		texts = append(texts, b.String())
	}
	if texts[0] != texts[1] {
		t.Logf("F16 differs from F32, as a near tie may: %q, %q", texts[0], texts[1])
	}
}

// TestEngineAgreesWithTrainer feeds the same tokens to both: their losses on a
// text must be the same, which no error in either forward pass would survive.
func TestEngineAgreesWithTrainer(t *testing.T) {
	p := smallPlan()
	p.steps = 5
	made, err := train(p, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	data, err := made.encode(engine.F32)
	if err != nil {
		t.Fatal(err)
	}
	m, err := engine.Load(data)
	if err != nil {
		t.Fatal(err)
	}
	lex := newLexicon()
	c := corpus{lex, m.Tokenizer, p.sequence}
	e := c.next(rand.New(rand.NewSource(5)))
	w := newWorker(made.net, p.sequence)
	want, terms := w.loss(e.tokens, e.targets)
	got := 0.0
	err = m.Score(e.tokens, func(i int, logits []float32) {
		if e.targets[i] < 0 {
			return
		}
		sum := 0.0
		for _, v := range logits {
			sum += math.Exp(float64(v))
		}
		got += math.Log(sum) - float64(logits[e.targets[i]])
	})
	if err != nil || math.Abs(got-want)/float64(terms) > 1e-4 {
		t.Errorf("the engine's loss is %.6f, the trainer's %.6f (%v)", got/float64(terms), want/float64(terms), err)
	}
}

func TestTrainingIsRepeatable(t *testing.T) {
	p := smallPlan()
	p.steps = 3
	var files []string
	for range 2 {
		made, err := train(p, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		data, err := made.encode(engine.Q8)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, string(data))
	}
	if files[0] != files[1] {
		t.Error("the same plan made two models")
	}
}

// TestGradients compares each tensor's gradient with the slope of the loss along
// it, which is the length of the gradient.
func TestGradients(t *testing.T) {
	s := shape{dim: 16, layers: 2, heads: 4, kvHeads: 2, ffn: 24, vocab: 40, context: 16}
	const length = 12
	n := newNetwork(s, 3)
	r := rand.New(rand.NewSource(4))
	for _, p := range n.params { // larger weights than at a start: every path matters
		for i := range p.w {
			p.w[i] += float32(r.NormFloat64() * 0.2)
		}
		p.changed()
	}
	tokens, targets := make([]int, length), make([]int, length)
	for i := range tokens {
		tokens[i], targets[i] = r.Intn(s.vocab), r.Intn(s.vocab)
	}
	targets[4] = -1
	w := newWorker(n, length)
	w.loss(tokens, targets)
	w.backward(tokens)
	for at, p := range n.params {
		grad := append([]float32(nil), w.grads[p]...)
		norm := 0.0
		for _, g := range grad {
			norm += float64(g) * float64(g)
		}
		norm = math.Sqrt(norm)
		saved := append([]float32(nil), p.w...)
		along := func(step float64) float64 {
			for i := range p.w {
				p.w[i] = saved[i] + float32(step*float64(grad[i])/norm)
			}
			p.changed()
			loss, _ := w.loss(tokens, targets)
			return loss
		}
		const step = 1e-2
		slope := (along(step) - along(-step)) / (2 * step)
		copy(p.w, saved)
		p.changed()
		if norm < 1e-3 || math.Abs(slope-norm)/norm > 0.01 {
			t.Errorf("tensor %d (%s): gradient %.5f, slope %.5f", at, p.name, norm, slope)
		}
	}
}

// TestKernel compares the kernel of this build with a plain sum, for sizes that
// leave rows and columns over.
func TestKernel(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	for _, size := range [][3]int{{22, 48, 37}, {1, 1, 1}, {4, 16, 3}, {7, 21, 5}, {3, 40, 9}} {
		m, n, k := size[0], size[1], size[2]
		fill := func(n int) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = r.Float32() - 0.5
			}
			return v
		}
		a, b, c := fill(m*k), fill(k*n), fill(m*n)
		for _, add := range []bool{false, true} {
			got := append([]float32(nil), c...)
			gemm(got, a, b, m, n, k, add)
			for i := range m {
				for j := range n {
					want := 0.0
					if add {
						want = float64(c[i*n+j])
					}
					for p := range k {
						want += float64(a[i*k+p]) * float64(b[p*n+j])
					}
					if math.Abs(want-float64(got[i*n+j])) > 1e-4 {
						t.Fatalf("%v add %t: [%d][%d] is %g, want %g", size, add, i, j, got[i*n+j], want)
					}
				}
			}
		}
	}
}

func TestExp32(t *testing.T) {
	for x := -80.0; x <= 80; x += 0.37 {
		if got, want := float64(exp32(float32(x))), math.Exp(float64(float32(x))); math.Abs(got-want)/want > 1e-5 {
			t.Errorf("exp(%g) is %g, want %g", x, got, want)
		}
	}
	if exp32(-1000) != 0 || math.IsInf(float64(exp32(1000)), 0) {
		t.Error("the ends are not bounded")
	}
}

func TestStoriesReuseTheirFacts(t *testing.T) {
	r, lex := rand.New(rand.NewSource(2)), newLexicon()
	for range 200 {
		s := lex.story(r)
		if !strings.HasSuffix(s, ".") || len(s) < 200 || strings.Contains(s, "  ") {
			t.Errorf("story %q", s)
		}
	}
}

// TestExpandKeepsTheText writes the embedded model as F32; the engine computes in
// F32 anyway, so every token must stay.
func TestExpandKeepsTheText(t *testing.T) {
	const embedded = "../../inference/builtin/model/tiny-story.gguf"
	wide := filepath.Join(t.TempDir(), "f32.gguf")
	if err := run([]string{"-expand", embedded, "-out", wide}, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	tell := func(path string) string {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		m, err := engine.Load(data)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		if _, err := m.Generate(context.Background(), "Ada was a kind owl.", engine.Options{MaxTokens: 60}, func(s string, _ int) { b.WriteString(s) }); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if a, b := tell(embedded), tell(wide); a != b || a == "" {
		t.Errorf("%q became %q", a, b)
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-steps", "0"}, {"-threads", "0"}, {"-dtype", "q4", "-steps", "1"}, {"-eval", "/nowhere"}, {"-expand", "/nowhere"}, {"-nonsense"}} {
		if run(args, io.Discard, io.Discard) == nil {
			t.Errorf("%v is accepted", args)
		}
	}
}
