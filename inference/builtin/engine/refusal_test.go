package engine_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"windlass/inference/builtin/engine"
)

// tiny describes a small valid model, for a test to damage.
type tiny struct {
	arch, tokenizer    string
	dim, heads, kv     int
	ffn, layers        int
	kind               engine.Type
	skip               string           // tensor to leave out
	extra              string           // tensor to add
	shape              map[string][]int // other dimensions for a tensor
	noBytes            bool
	mutate             func(w *engine.Writer)
	pieces             []string
	scoresLess         int
	contextLength, eos int
}

func newTiny() *tiny {
	return &tiny{arch: "llama", tokenizer: "llama", dim: 32, heads: 2, kv: 1, ffn: 32, layers: 1, kind: engine.F32, contextLength: 16, eos: 2}
}

func vocabulary(extra ...string) ([]string, []float32, []int32) {
	pieces, types := []string{"<unk>", "<s>", "</s>"}, []int32{2, 3, 3}
	for b := range 256 {
		pieces, types = append(pieces, fmt.Sprintf("<0x%02X>", b)), append(types, 6)
	}
	for _, p := range extra {
		pieces, types = append(pieces, p), append(types, 1)
	}
	scores := make([]float32, len(pieces))
	for i := range extra {
		scores[259+i] = -float32(i)
	}
	return pieces, scores, types
}

func (c *tiny) bytes(t testing.TB) []byte {
	t.Helper()
	var w engine.Writer
	if c.arch != "" {
		w.Text("general.architecture", c.arch)
	}
	w.Uint("llama.context_length", c.contextLength)
	w.Uint("llama.embedding_length", c.dim)
	w.Uint("llama.block_count", c.layers)
	w.Uint("llama.feed_forward_length", c.ffn)
	w.Uint("llama.attention.head_count", c.heads)
	w.Uint("llama.attention.head_count_kv", c.kv)
	w.Uint("tokenizer.ggml.eos_token_id", c.eos)
	if c.mutate != nil {
		c.mutate(&w)
	}
	pieces, scores, types := vocabulary("\u2581", "a", "b", "ab", "\u2581ab")
	if c.noBytes {
		pieces, scores, types = pieces[:100], scores[:100], types[:100]
	}
	w.Vocabulary(pieces, scores[:len(scores)-c.scoresLess], types)
	add := func(name string, dims ...int) {
		if name == c.skip {
			return
		}
		if d := c.shape[name]; d != nil {
			dims = d
		}
		n, kind := 1, c.kind
		for _, d := range dims {
			n *= d
		}
		if len(dims) == 1 {
			kind = engine.F32
		}
		values := make([]float32, n)
		for i := range values {
			values[i] = float32(math.Sin(float64(i * len(name))))
		}
		if err := w.Tensor(name, kind, values, dims...); err != nil {
			t.Fatal(err)
		}
	}
	kvd := 1
	if c.heads > 0 {
		kvd = c.dim / c.heads * c.kv
	}
	add("token_embd.weight", c.dim, len(pieces))
	add("output_norm.weight", c.dim)
	for i := range c.layers {
		b := fmt.Sprintf("blk.%d.", i)
		add(b+"attn_norm.weight", c.dim)
		add(b+"attn_q.weight", c.dim, c.dim)
		add(b+"attn_k.weight", c.dim, kvd)
		add(b+"attn_v.weight", c.dim, kvd)
		add(b+"attn_output.weight", c.dim, c.dim)
		add(b+"ffn_norm.weight", c.dim)
		add(b+"ffn_gate.weight", c.dim, c.ffn)
		add(b+"ffn_up.weight", c.dim, c.ffn)
		add(b+"ffn_down.weight", c.ffn, c.dim)
	}
	if c.extra != "" {
		add(c.extra, c.dim)
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTinyModelsOfEveryTypeRun(t *testing.T) {
	for _, kind := range []engine.Type{engine.F32, engine.F16, engine.Q8} {
		c := newTiny()
		c.kind = kind
		m, err := engine.Load(c.bytes(t))
		if err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if _, err := m.Generate(context.Background(), "ab", engine.Options{MaxTokens: 8}, func(string, int) {}); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name    string
		reason  engine.Reason
		mention string
		change  func(c *tiny)
	}{
		{"architecture", engine.ReasonArchitecture, `"qwen2"`, func(c *tiny) { c.arch = "qwen2" }},
		{"no architecture", engine.ReasonArchitecture, `""`, func(c *tiny) { c.arch = "" }},
		{"missing tensor", engine.ReasonTensor, "blk.0.ffn_up.weight", func(c *tiny) { c.skip = "blk.0.ffn_up.weight" }},
		{"missing embedding", engine.ReasonTensor, "token_embd.weight", func(c *tiny) { c.skip = "token_embd.weight" }},
		{"ignored tensor", engine.ReasonTensor, "blk.0.attn_q.bias", func(c *tiny) { c.extra = "blk.0.attn_q.bias" }},
		{"wrong shape", engine.ReasonShape, "blk.0.attn_k.weight", func(c *tiny) { c.shape = map[string][]int{"blk.0.attn_k.weight": {32, 32}} }},
		{"transposed", engine.ReasonShape, "ffn_gate", func(c *tiny) { c.ffn = 64; c.shape = map[string][]int{"blk.0.ffn_gate.weight": {64, 32}} }},
		{"heads", engine.ReasonShape, "heads", func(c *tiny) { c.heads = 3 }},
		{"shared heads", engine.ReasonShape, "keys", func(c *tiny) { c.heads, c.kv = 4, 3 }},
		{"huge layers", engine.ReasonLimit, "block_count", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Uint("general.alignment", 32) }
			c.layers = 1025
			c.dim, c.ffn, c.heads = 2, 1, 1
		}},
		{"no context", engine.ReasonLimit, "context_length", func(c *tiny) { c.contextLength = 0 }},
		{"rope dimensions", engine.ReasonArchitecture, "rope.dimension_count", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Uint("llama.rope.dimension_count", 8) }
		}},
		{"rope scaling", engine.ReasonArchitecture, "scaled", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Text("llama.rope.scaling.type", "yarn") }
		}},
		{"epsilon", engine.ReasonFormat, "epsilon", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Float("llama.attention.layer_norm_rms_epsilon", float32(math.NaN())) }
		}},
		{"wrong value type", engine.ReasonFormat, "rope.scaling.type", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Uint("llama.rope.scaling.type", 1) }
		}},
		{"key twice", engine.ReasonFormat, "twice", func(c *tiny) {
			c.mutate = func(w *engine.Writer) { w.Uint("llama.block_count", 1) }
		}},
		{"vocabulary without bytes", engine.ReasonTokenizer, "no token for the byte", func(c *tiny) { c.noBytes = true }},
		{"scores", engine.ReasonTokenizer, "scores", func(c *tiny) { c.scoresLess = 1 }},
		{"end token", engine.ReasonTokenizer, "eos_token_id", func(c *tiny) { c.eos = 100000 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tm := newTiny()
			c.change(tm)
			_, err := engine.Load(tm.bytes(t))
			wantRefusal(t, err, c.reason, c.mention)
		})
	}
}

func wantRefusal(t *testing.T, err error, reason engine.Reason, mention string) {
	t.Helper()
	var r *engine.Refusal
	if !errors.As(err, &r) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if r.Reason != reason || !strings.Contains(r.Problem, mention) {
		t.Errorf("got %s %q, want %s mentioning %q", r.Reason, r.Problem, reason, mention)
	}
	if !strings.Contains(err.Error(), "F32, F16 or Q8_0") {
		t.Errorf("%q does not say what is supported", err)
	}
}

func TestRefusalsOfDamagedHeaders(t *testing.T) {
	good := newTiny().bytes(t)
	edit := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		return b
	}
	at := func(name string) int { // the dimension count of a tensor, after its name
		return bytes.Index(good, []byte(name)) + len(name)
	}
	le := binary.LittleEndian
	q := at("blk.0.attn_q.weight")
	for _, c := range []struct {
		name   string
		reason engine.Reason
		data   []byte
	}{
		{"empty", engine.ReasonFormat, nil},
		{"magic", engine.ReasonFormat, edit(func(b []byte) { b[0] = 'X' })},
		{"version 1", engine.ReasonFormat, edit(func(b []byte) { b[4] = 1 })},
		{"version 4", engine.ReasonFormat, edit(func(b []byte) { b[4] = 4 })},
		{"big-endian", engine.ReasonFormat, edit(func(b []byte) { copy(b[4:], []byte{0, 0, 0, 3}) })},
		{"tensor count", engine.ReasonLimit, edit(func(b []byte) { le.PutUint64(b[8:], 1<<62) })},
		{"key count", engine.ReasonLimit, edit(func(b []byte) { le.PutUint64(b[16:], 1<<62) })},
		{"name length", engine.ReasonLimit, edit(func(b []byte) { le.PutUint64(b[24:], math.MaxUint64) })},
		{"dimensions", engine.ReasonFormat, edit(func(b []byte) { le.PutUint32(b[q:], 5) })},
		{"no dimension", engine.ReasonFormat, edit(func(b []byte) { le.PutUint32(b[q:], 0) })},
		{"overflow", engine.ReasonLimit, edit(func(b []byte) { le.PutUint64(b[q+4:], 1<<63); le.PutUint64(b[q+12:], 2) })},
		{"zero dimension", engine.ReasonLimit, edit(func(b []byte) { le.PutUint64(b[q+4:], 0) })},
		{"too large", engine.ReasonTruncated, edit(func(b []byte) { le.PutUint64(b[q+4:], 1<<30) })},
		{"type", engine.ReasonTensorType, edit(func(b []byte) { le.PutUint32(b[q+20:], 12) })},
		{"q8 rows", engine.ReasonShape, edit(func(b []byte) { le.PutUint64(b[q+4:], 31); le.PutUint32(b[q+20:], 8) })},
		{"offset", engine.ReasonTruncated, edit(func(b []byte) { le.PutUint64(b[q+24:], math.MaxUint64) })},
		{"overlap", engine.ReasonFormat, edit(func(b []byte) { le.PutUint64(b[q+24:], 0) })},
		{"half a header", engine.ReasonTruncated, good[:200]},
		{"no data", engine.ReasonTruncated, good[:q]},
		{"last byte", engine.ReasonTruncated, good[:len(good)-1]},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := engine.Load(c.data)
			wantRefusal(t, err, c.reason, "")
		})
	}
}

// TestEveryTruncationIsRefused cuts the real file everywhere in its header.
func TestEveryTruncationIsRefused(t *testing.T) {
	data := readModel(t)
	for n := range 22_000 {
		if _, err := engine.Load(data[:n]); err == nil {
			t.Fatalf("the first %d bytes load", n)
		}
	}
}

func FuzzGGUF(f *testing.F) {
	tm := newTiny()
	tm.kind = engine.Q8
	small := tm.bytes(f)
	f.Add(small)
	for _, n := range []int{0, 4, 24, 100, 1000, 8000, len(small) - 1} {
		f.Add(small[:n])
	}
	header := readModel(f)[:24_000]
	for _, n := range []int{24, 60, 500, 12_000, 24_000} {
		f.Add(header[:n])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if wide, err := engine.Expand(data); err == nil {
			if _, err := engine.Parse(wide); err != nil {
				t.Fatalf("the expanded file is refused: %v", err)
			}
		}
		m, err := engine.Load(data)
		if err != nil {
			var r *engine.Refusal
			if !errors.As(err, &r) {
				t.Fatalf("%v is no refusal", err)
			}
			return
		}
		out, err := m.Generate(context.Background(), "ab", engine.Options{MaxTokens: 2, Temperature: 1, TopK: 3}, func(string, int) {})
		if err == nil && out.Tokens > 2 {
			t.Fatalf("%d tokens", out.Tokens)
		}
	})
}
