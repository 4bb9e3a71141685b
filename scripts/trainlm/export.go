package main

import (
	"bytes"
	"fmt"
	"os"

	"windlass/inference/builtin/engine"
)

// ggml's general.file_type for each tensor type.
func fileType(kind engine.Type) int {
	switch kind {
	case engine.F16:
		return 1
	case engine.Q8:
		return 7
	}
	return 0
}

// parseType reads the -dtype flag.
func parseType(name string) (engine.Type, error) {
	switch name {
	case "f32":
		return engine.F32, nil
	case "f16":
		return engine.F16, nil
	case "q8_0":
		return engine.Q8, nil
	}
	return 0, fmt.Errorf("unknown -dtype %q: use f32, f16 or q8_0", name)
}

// encode makes the bytes of a model file. Vectors stay F32, as llama.cpp expects.
func (t *trained) encode(kind engine.Type) ([]byte, error) {
	s := t.plan.shape
	var w engine.Writer
	w.Text("general.architecture", "llama")
	w.Text("general.name", "tiny-stories")
	w.Uint("general.alignment", 32)
	w.Uint("general.file_type", fileType(kind))
	w.Uint("llama.context_length", s.context)
	w.Uint("llama.embedding_length", s.dim)
	w.Uint("llama.block_count", s.layers)
	w.Uint("llama.feed_forward_length", s.ffn)
	w.Uint("llama.attention.head_count", s.heads)
	w.Uint("llama.attention.head_count_kv", s.kvHeads)
	w.Uint("llama.rope.dimension_count", s.head())
	w.Uint("llama.vocab_size", s.vocab)
	w.Float("llama.attention.layer_norm_rms_epsilon", epsilon)
	w.Float("llama.rope.freq_base", ropeBase)
	w.Vocabulary(t.vocab.pieces, t.vocab.scores, t.vocab.types)
	w.Uint("tokenizer.ggml.bos_token_id", 1)
	w.Uint("tokenizer.ggml.eos_token_id", 2)
	w.Uint("tokenizer.ggml.unknown_token_id", 0)
	add := func(prefix string, p *param) error {
		if p.vector() {
			return w.Tensor(prefix+p.name+".weight", engine.F32, p.w, p.cols)
		}
		return w.Tensor(prefix+p.name+".weight", kind, p.w, p.cols, p.rows)
	}
	if err := add("", t.net.embedding); err != nil {
		return nil, err
	}
	if err := add("", t.net.finalNorm); err != nil {
		return nil, err
	}
	for i, b := range t.net.blocks {
		for _, p := range b.params() {
			if err := add(fmt.Sprintf("blk.%d.", i), p); err != nil {
				return nil, err
			}
		}
	}
	var b bytes.Buffer
	_, err := w.WriteTo(&b)
	return b.Bytes(), err
}

// expand rewrites a model file with F32 tensors, for a comparison with llama.cpp
// that its quantised arithmetic does not blur (DESIGN.md).
func expand(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("cannot expand model: %w", err)
	}
	out, err := engine.Expand(data)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, out, 0o644); err != nil {
		return fmt.Errorf("cannot expand model: %w", err)
	}
	return nil
}
