package engine

import "math"

// The functions below are almost all of the time of a generation. A session
// belongs to one goroutine, so they are not instrumented for the race detector,
// which makes them thirty times slower.
//
// Products are converted to float32 before they are added: the language then
// forbids fused multiply-add, and a prompt has the same text on every processor.

// dot returns the inner product. Eight sums keep the processor's adders busy.
//
//go:norace
func dot(a, b []float32) float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	b = b[:len(a)]
	i := 0
	for ; i+8 <= len(a); i += 8 {
		x, y := a[i:i+8:i+8], b[i:i+8:i+8]
		s0 += float32(x[0] * y[0])
		s1 += float32(x[1] * y[1])
		s2 += float32(x[2] * y[2])
		s3 += float32(x[3] * y[3])
		s4 += float32(x[4] * y[4])
		s5 += float32(x[5] * y[5])
		s6 += float32(x[6] * y[6])
		s7 += float32(x[7] * y[7])
	}
	for ; i < len(a); i++ {
		s0 += float32(a[i] * b[i])
	}
	return s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7
}

// multiply sets out to matrix times x; the matrix has len(out) rows.
//
//go:norace
func multiply(out, matrix, x []float32) {
	for i := range out {
		out[i] = dot(x, matrix[i*len(x):][:len(x)])
	}
}

// multiplyAdd adds matrix times x to out.
//
//go:norace
func multiplyAdd(out, matrix, x []float32) {
	for i := range out {
		out[i] += dot(x, matrix[i*len(x):][:len(x)])
	}
}

// normalize sets out to x divided by its root mean square, times the weights.
//
//go:norace
func normalize(out, x, weights []float32, epsilon float32) {
	k := float32(1 / math.Sqrt(float64(dot(x, x)/float32(len(x))+epsilon)))
	for i, v := range x {
		out[i] = v * k * weights[i]
	}
}

// softmax turns scores into weights that add up to one.
//
//go:norace
func softmax(scores []float32) {
	top := scores[0]
	for _, v := range scores {
		top = max(top, v)
	}
	var sum float32
	for i, v := range scores {
		scores[i] = float32(math.Exp(float64(v - top)))
		sum += scores[i]
	}
	for i := range scores {
		scores[i] /= sum
	}
}
