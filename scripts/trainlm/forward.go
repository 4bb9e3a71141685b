package main

import "math"

// loss runs one sequence and returns the summed cross entropy and the number of
// its terms; a negative target is none. It leaves the gradient of that sum in
// w.logit for backward. Both slices have w.t elements.
func (w *worker) loss(tokens, targets []int) (float64, int) {
	n, s := w.net, w.net.shape
	for i, id := range tokens {
		copy(w.acts[0].in[i*s.dim:(i+1)*s.dim], n.embedding.w[id*s.dim:])
	}
	for i := range n.blocks {
		out := w.last
		if i+1 < len(n.blocks) {
			out = w.acts[i+1].in
		}
		w.forwardBlock(&n.blocks[i], &w.acts[i], out)
	}
	normalize(w.norm, w.last, n.finalNorm.w, w.scale, w.t, s.dim)
	w.linear(w.logit, w.norm, n.embedding)
	return w.crossEntropy(targets)
}

func (w *worker) forwardBlock(b *block, a *activation, out []float32) {
	n, s := w.net, w.net.shape
	normalize(a.norm1, a.in, b.attnNorm.w, a.scale1, w.t, s.dim)
	w.linear(a.query, a.norm1, b.query)
	w.linear(a.key, a.norm1, b.key)
	w.linear(a.value, a.norm1, b.value)
	n.rotate(a.query, w.t, s.heads, false)
	n.rotate(a.key, w.t, s.kvHeads, false)
	clear(a.attn)
	for h := range s.heads {
		w.forwardHead(a, h)
	}
	copy(a.mid, a.in)
	gemm(a.mid, a.attn, b.attnOut.transposed, w.t, s.dim, s.dim, true)
	normalize(a.norm2, a.mid, b.ffnNorm.w, a.scale2, w.t, s.dim)
	w.linear(a.gate, a.norm2, b.gate)
	w.linear(a.up, a.norm2, b.up)
	for i, g := range a.gate {
		a.inner[i] = g / (1 + exp32(-g)) * a.up[i]
	}
	copy(out, a.mid)
	gemm(out, a.inner, b.down.transposed, w.t, s.dim, s.ffn, true)
}

// forwardHead adds one head's causal attention to a.attn.
func (w *worker) forwardHead(a *activation, h int) {
	s, t := w.net.shape, w.t
	hd, shared := s.head(), h*s.kvHeads/s.heads
	scale := float32(1 / math.Sqrt(float64(hd)))
	takeHead(w.head1, a.query, t, s.dim, h, hd)
	takeHead(w.head2, a.key, t, s.kv(), shared, hd)
	transpose(w.headT, w.head2, t, hd)
	weights := a.weights[h]
	gemm(weights, w.head1, w.headT, t, t, hd, false)
	for i := range t {
		row := weights[i*t:][:t]
		top := float32(-1e30)
		for j := range row[:i+1] {
			row[j] *= scale
			top = max(top, row[j])
		}
		var sum float32
		for j := range row[:i+1] {
			row[j] = exp32(row[j] - top)
			sum += row[j]
		}
		for j := range row[:i+1] {
			row[j] /= sum
		}
		clear(row[i+1:])
	}
	takeHead(w.head2, a.value, t, s.kv(), shared, hd)
	gemm(w.head3, weights, w.head2, t, hd, t, false)
	addHead(a.attn, w.head3, t, s.dim, h, hd)
}

// crossEntropy turns the logits into the gradient of the loss.
func (w *worker) crossEntropy(targets []int) (loss float64, terms int) {
	vocab := w.net.shape.vocab
	for i, target := range targets {
		row := w.logit[i*vocab:][:vocab]
		if target < 0 {
			clear(row)
			continue
		}
		top := float32(-1e30)
		for _, v := range row {
			top = max(top, v)
		}
		var sum float32
		for j, v := range row {
			row[j] = exp32(v - top)
			sum += row[j]
		}
		loss -= math.Log(float64(row[target]/sum) + 1e-30)
		terms++
		for j := range row {
			row[j] /= sum
		}
		row[target]--
	}
	return loss, terms
}
