package engine

import (
	"fmt"
	"math"
)

// layer holds one block's weights; matrices are rows of their input's length.
type layer struct {
	attnNorm, query, key, value, attnOut []float32
	ffnNorm, gate, up, down              []float32
}

// Model is a loaded network with its tokenizer. It is immutable and safe for
// concurrent use; every generation has its own session.
type Model struct {
	Config    Config
	Tokenizer *Tokenizer

	embedding []float32
	layers    []layer
	finalNorm []float32
	output    []float32 // the embedding itself when the file ties them
	cos, sin  []float32 // rotary angles, [position][pair of a head]
}

// Load reads a model from the bytes of a GGUF file. Weights are expanded to
// float32, so a model takes at most four times the size of its file. Any bytes
// are safe; an error is a *Refusal.
func Load(data []byte) (*Model, error) {
	f, err := Parse(data)
	if err != nil {
		return nil, err
	}
	if arch, _, err := f.text("general.architecture"); err != nil || arch != "llama" {
		return nil, refuse(ReasonArchitecture, "the file has the architecture %q", clip(arch))
	}
	m := &Model{}
	if m.Tokenizer, err = f.tokenizer(); err != nil {
		return nil, err
	}
	if m.Config, err = f.config(m.Tokenizer.Size()); err != nil {
		return nil, err
	}
	if err := m.loadTensors(f); err != nil {
		return nil, err
	}
	m.rotary()
	return m, nil
}

func (m *Model) loadTensors(f *File) error {
	c := m.Config
	l := &loader{file: f, used: map[string]bool{}}
	m.embedding = l.tensor("token_embd.weight", c.Dim, c.Vocab)
	m.finalNorm = l.tensor("output_norm.weight", c.Dim)
	m.output = m.embedding
	if _, found := f.tensors["output.weight"]; found {
		m.output = l.tensor("output.weight", c.Dim, c.Vocab)
	}
	for i := 0; i < c.Layers && l.err == nil; i++ {
		block := func(name string, dims ...int) []float32 {
			return l.tensor(fmt.Sprintf("blk.%d.%s.weight", i, name), dims...)
		}
		m.layers = append(m.layers, layer{
			attnNorm: block("attn_norm", c.Dim),
			query:    block("attn_q", c.Dim, c.Dim),
			key:      block("attn_k", c.Dim, c.KV()),
			value:    block("attn_v", c.Dim, c.KV()),
			attnOut:  block("attn_output", c.Dim, c.Dim),
			ffnNorm:  block("ffn_norm", c.Dim),
			gate:     block("ffn_gate", c.Dim, c.FFN),
			up:       block("ffn_up", c.Dim, c.FFN),
			down:     block("ffn_down", c.FFN, c.Dim),
		})
	}
	return l.finish()
}

// loader takes tensors out of a file and keeps the first error.
type loader struct {
	file *File
	used map[string]bool
	err  error
}

// tensor expands one tensor, after its shape was compared.
func (l *loader) tensor(name string, dims ...int) []float32 {
	if l.err != nil {
		return nil
	}
	t, found := l.file.tensors[name]
	if !found {
		l.err = refuse(ReasonTensor, "the tensor %q is missing", name)
		return nil
	}
	// A vector may also be stored as a matrix of one row.
	got := t.Dims
	for len(got) > len(dims) && got[len(got)-1] == 1 {
		got = got[:len(got)-1]
	}
	if fmt.Sprint(got) != fmt.Sprint(dims) {
		l.err = refuse(ReasonShape, "the tensor %q is %v, and the hyperparameters ask for %v", name, t.Dims, dims)
		return nil
	}
	l.used[name] = true
	return t.Float32s()
}

// finish refuses tensors that nobody asked for: biases, experts or frequency
// factors that are ignored would change the text in silence.
func (l *loader) finish() error {
	if l.err != nil {
		return l.err
	}
	unknown := ""
	for name := range l.file.tensors {
		if !l.used[name] && (unknown == "" || name < unknown) {
			unknown = name
		}
	}
	if unknown != "" {
		return refuse(ReasonTensor, "the tensor %q is not part of the llama architecture that the engine knows", clip(unknown))
	}
	return nil
}

// rotary fills the tables of the rotary position encoding.
func (m *Model) rotary() {
	head := m.Config.Head()
	m.cos = make([]float32, m.Config.Context*head/2)
	m.sin = make([]float32, m.Config.Context*head/2)
	for i := range head / 2 {
		step := 1 / math.Pow(m.Config.Base, float64(2*i)/float64(head))
		for pos := range m.Config.Context {
			sin, cos := math.Sincos(float64(pos) * step)
			m.cos[pos*head/2+i], m.sin[pos*head/2+i] = float32(cos), float32(sin)
		}
	}
}
