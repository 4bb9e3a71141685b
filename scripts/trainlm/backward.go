package main

import "math"

// backward adds the gradient of the last loss to w.grads. tokens are those of
// that loss.
func (w *worker) backward(tokens []int) {
	n, s := w.net, w.net.shape
	w.linearBack(w.dnorm, w.logit, w.norm, n.embedding, false)
	clear(w.dx)
	normalizeBack(w.dx, w.dnorm, w.last, n.finalNorm.w, w.grads[n.finalNorm], w.scale, w.t, s.dim)
	for i := len(n.blocks) - 1; i >= 0; i-- {
		w.backwardBlock(&n.blocks[i], &w.acts[i])
	}
	grad := w.grads[n.embedding]
	for i, id := range tokens {
		row, d := grad[id*s.dim:][:s.dim], w.dx[i*s.dim:][:s.dim]
		for j := range row {
			row[j] += d[j]
		}
	}
}

// backwardBlock takes w.dx from the block's output to its input.
func (w *worker) backwardBlock(b *block, a *activation) {
	n, s := w.net, w.net.shape
	w.linearBack(w.dinner, w.dx, a.inner, b.down, false)
	for i, g := range a.gate {
		sigmoid := 1 / (1 + exp32(-g))
		w.dup[i] = w.dinner[i] * g * sigmoid
		w.dgate[i] = w.dinner[i] * a.up[i] * sigmoid * (1 + g*(1-sigmoid))
	}
	w.linearBack(w.dnorm, w.dgate, a.norm2, b.gate, false)
	w.linearBack(w.dnorm, w.dup, a.norm2, b.up, true)
	normalizeBack(w.dx, w.dnorm, a.mid, b.ffnNorm.w, w.grads[b.ffnNorm], a.scale2, w.t, s.dim)

	w.linearBack(w.dattn, w.dx, a.attn, b.attnOut, false)
	clear(w.dquery)
	clear(w.dkey)
	clear(w.dvalue)
	for h := range s.heads {
		w.backwardHead(a, h)
	}
	n.rotate(w.dquery, w.t, s.heads, true)
	n.rotate(w.dkey, w.t, s.kvHeads, true)
	w.linearBack(w.dnorm, w.dquery, a.norm1, b.query, false)
	w.linearBack(w.dnorm, w.dkey, a.norm1, b.key, true)
	w.linearBack(w.dnorm, w.dvalue, a.norm1, b.value, true)
	normalizeBack(w.dx, w.dnorm, a.in, b.attnNorm.w, w.grads[b.attnNorm], a.scale1, w.t, s.dim)
}

// backwardHead adds one head's share to dquery, dkey and dvalue.
func (w *worker) backwardHead(a *activation, h int) {
	s, t := w.net.shape, w.t
	hd, shared := s.head(), h*s.kvHeads/s.heads
	scale := float32(1 / math.Sqrt(float64(hd)))
	weights, dout, dweights := a.weights[h], w.head3, w.square1
	takeHead(dout, w.dattn, t, s.dim, h, hd)
	takeHead(w.head2, a.value, t, s.kv(), shared, hd)
	transpose(w.headT, w.head2, t, hd)
	gemm(dweights, dout, w.headT, t, t, hd, false)

	transpose(w.square2, weights, t, t)
	gemm(w.head1, w.square2, dout, t, hd, t, false)
	addHead(w.dvalue, w.head1, t, s.kv(), shared, hd)

	for i := range t {
		p, d := weights[i*t:][:t], dweights[i*t:][:t]
		var sum float32
		for j := range p[:i+1] {
			sum += p[j] * d[j]
		}
		for j := range p[:i+1] {
			d[j] = p[j] * (d[j] - sum) * scale
		}
		clear(d[i+1:])
	}
	takeHead(w.head2, a.key, t, s.kv(), shared, hd)
	gemm(w.head1, dweights, w.head2, t, hd, t, false)
	addHead(w.dquery, w.head1, t, s.dim, h, hd)

	transpose(w.square2, dweights, t, t)
	takeHead(w.head2, a.query, t, s.dim, h, hd)
	gemm(w.head1, w.square2, w.head2, t, hd, t, false)
	addHead(w.dkey, w.head1, t, s.kv(), shared, hd)
}
