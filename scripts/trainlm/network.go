package main

import (
	"math"
	"math/rand"
)

// shape is the shape of the network; see engine.Config. Row lengths that are
// multiples of 32 can be written as Q8_0.
type shape struct{ dim, layers, heads, kvHeads, ffn, vocab, context int }

func (s shape) head() int { return s.dim / s.heads }
func (s shape) kv() int   { return s.kvHeads * s.head() }

const (
	epsilon  = 1e-5  // of the root mean square
	ropeBase = 10000 // of the rotary angles
	// initScale is the deviation of the weights at the start; the outputs of a
	// block start smaller, so that the residual stream keeps its size with depth.
	initScale = 0.04
)

// param is one weight tensor with the state of its optimizer. Matrices keep a
// transposed copy, which is what the forward kernel reads.
type param struct {
	name           string
	rows, cols     int
	w, transposed  []float32
	grad           []float32
	moment, square []float32 // AdamW's running averages
}

func (p *param) vector() bool { return p.transposed == nil }

// newParam draws a matrix from a normal distribution; deviation 0 makes a vector
// of ones.
func newParam(r *rand.Rand, name string, rows, cols int, deviation float64) *param {
	n := rows * cols
	p := &param{name: name, rows: rows, cols: cols, w: make([]float32, n), grad: make([]float32, n), moment: make([]float32, n), square: make([]float32, n)}
	for i := range p.w {
		p.w[i] = 1
		if deviation != 0 {
			p.w[i] = float32(r.NormFloat64() * deviation)
		}
	}
	if deviation != 0 {
		p.transposed = make([]float32, n)
		p.changed()
	}
	return p
}

// changed renews what is derived from w.
func (p *param) changed() {
	if p.transposed != nil {
		transpose(p.transposed, p.w, p.rows, p.cols)
	}
}

type block struct {
	attnNorm, query, key, value, attnOut *param
	ffnNorm, gate, up, down              *param
}

// network is a llama network with tied embedding, ready to be trained.
type network struct {
	shape     shape
	embedding *param
	blocks    []block
	finalNorm *param
	params    []*param  // all of them
	cos, sin  []float32 // rotary angles, [position][pair]
}

func newNetwork(s shape, seed int64) *network {
	r := rand.New(rand.NewSource(seed))
	n := &network{shape: s}
	out := 0.02 / math.Sqrt(2*float64(s.layers)) * 2
	n.embedding = newParam(r, "token_embd", s.vocab, s.dim, initScale)
	for range s.layers {
		b := block{
			attnNorm: newParam(r, "attn_norm", 1, s.dim, 0),
			query:    newParam(r, "attn_q", s.dim, s.dim, initScale),
			key:      newParam(r, "attn_k", s.kv(), s.dim, initScale),
			value:    newParam(r, "attn_v", s.kv(), s.dim, initScale),
			attnOut:  newParam(r, "attn_output", s.dim, s.dim, out),
			ffnNorm:  newParam(r, "ffn_norm", 1, s.dim, 0),
			gate:     newParam(r, "ffn_gate", s.ffn, s.dim, initScale),
			up:       newParam(r, "ffn_up", s.ffn, s.dim, initScale),
			down:     newParam(r, "ffn_down", s.dim, s.ffn, out),
		}
		n.blocks = append(n.blocks, b)
		n.params = append(n.params, b.params()...)
	}
	n.finalNorm = newParam(r, "output_norm", 1, s.dim, 0)
	n.params = append(n.params, n.finalNorm, n.embedding)
	n.angles()
	return n
}

// params lists the block's tensors in the order of a model file.
func (b block) params() []*param {
	return []*param{b.attnNorm, b.query, b.key, b.value, b.attnOut, b.ffnNorm, b.gate, b.up, b.down}
}

func (n *network) angles() {
	half := n.shape.head() / 2
	n.cos, n.sin = make([]float32, n.shape.context*half), make([]float32, n.shape.context*half)
	for t := range n.shape.context {
		for i := range half {
			angle := float64(t) / math.Pow(ropeBase, float64(2*i)/float64(n.shape.head()))
			n.cos[t*half+i], n.sin[t*half+i] = float32(math.Cos(angle)), float32(math.Sin(angle))
		}
	}
}

// size is the number of weights.
func (n *network) size() int {
	size := 0
	for _, p := range n.params {
		size += len(p.w)
	}
	return size
}
