package main

// activation keeps what the backward pass needs of one block.
type activation struct {
	in, norm1, query, key, value, attn []float32 // [t][...]
	mid, norm2, gate, up, inner        []float32
	scale1, scale2                     []float32   // of the two norms, [t]
	weights                            [][]float32 // attention of each head, [t][t]
}

// worker runs sequences of t tokens forward and backward. It has its own
// gradients, and belongs to one goroutine.
type worker struct {
	net   *network
	t     int
	acts  []activation
	last  []float32 // output of the last block
	norm  []float32
	scale []float32
	logit []float32 // after forward: the gradient of the loss

	dx, dnorm, dquery, dkey, dvalue, dattn, dgate, dup, dinner []float32
	flip                                                       []float32 // transposed gradients
	square1, square2                                           []float32 // [t][t]
	head1, head2, head3, headT                                 []float32 // [t][head]
	grads                                                      map[*param][]float32
}

func newWorker(n *network, t int) *worker {
	s := n.shape
	f := func(n int) []float32 { return make([]float32, n) }
	w := &worker{net: n, t: t, grads: map[*param][]float32{}}
	for range s.layers {
		a := activation{
			in: f(t * s.dim), norm1: f(t * s.dim), query: f(t * s.dim), key: f(t * s.kv()), value: f(t * s.kv()), attn: f(t * s.dim),
			mid: f(t * s.dim), norm2: f(t * s.dim), gate: f(t * s.ffn), up: f(t * s.ffn), inner: f(t * s.ffn), scale1: f(t), scale2: f(t),
		}
		for range s.heads {
			a.weights = append(a.weights, f(t*t))
		}
		w.acts = append(w.acts, a)
	}
	w.last, w.norm, w.scale, w.logit = f(t*s.dim), f(t*s.dim), f(t), f(t*s.vocab)
	w.dx, w.dnorm, w.dquery, w.dattn = f(t*s.dim), f(t*s.dim), f(t*s.dim), f(t*s.dim)
	w.dkey, w.dvalue = f(t*s.kv()), f(t*s.kv())
	w.dgate, w.dup, w.dinner = f(t*s.ffn), f(t*s.ffn), f(t*s.ffn)
	w.flip = f(max(s.vocab, s.ffn, s.dim) * t)
	w.square1, w.square2 = f(t*t), f(t*t)
	w.head1, w.head2, w.head3, w.headT = f(t*s.head()), f(t*s.head()), f(t*s.head()), f(t*s.head())
	for _, p := range n.params {
		w.grads[p] = f(len(p.w))
	}
	return w
}

// linear sets y to x times the matrix.
func (w *worker) linear(y, x []float32, p *param) {
	gemm(y, x, p.transposed, w.t, p.rows, p.cols, false)
}

// linearBack sets dx to (or adds) dy through the matrix, and adds to the
// matrix's gradient.
func (w *worker) linearBack(dx, dy, x []float32, p *param, add bool) {
	gemm(dx, dy, p.w, w.t, p.cols, p.rows, add)
	transpose(w.flip, dy, w.t, p.rows)
	gemm(w.grads[p], w.flip, x, p.rows, p.cols, w.t, true)
}
