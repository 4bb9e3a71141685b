package main

import (
	"crypto/sha256"
	"fmt"
	"strings"
)

// card describes a model for those who use it.
func (t *trained) card(name, dtype string, file []byte, q quality) string {
	s := t.plan.shape
	last := t.losses[len(t.losses)-1]
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n", name)
	fmt.Fprintf(&b, "A demonstration model: it tells short stories and knows nothing else.\n\n")
	fmt.Fprintf(&b, "- Architecture: llama, %d weights: dim %d, %d layers, %d heads (%d of keys and values), feed-forward %d, context %d, vocabulary %d, tied embedding.\n",
		t.net.size(), s.dim, s.layers, s.heads, s.kvHeads, s.ffn, s.context, s.vocab)
	fmt.Fprintf(&b, "- File: GGUF 3, %s, %d bytes, sha256 `%x`.\n", dtype, len(file), sha256.Sum256(file))
	fmt.Fprintf(&b, "- Data: stories that `scripts/trainlm` generates; no text or weights from elsewhere.\n")
	fmt.Fprintf(&b, "- Training: %d steps, %d tokens, %s kernel, %d threads, seed %d, %.0f s; last loss %.4f, held-out perplexity %.3f.\n",
		t.plan.steps, t.tokens, kernel, t.plan.threads, t.plan.seed, t.elapsed.Seconds(), last, t.perplexity)
	fmt.Fprintf(&b, "\n## Quality\n\n%s", q)
	return b.String()
}
