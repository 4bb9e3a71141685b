package main

import "math"

// normalize sets each row of y to that of x divided by its root mean square,
// times g; scale keeps the divisors for normalizeBack.
func normalize(y, x, g, scale []float32, rows, dim int) {
	for i := range rows {
		in, out := x[i*dim:][:dim], y[i*dim:][:dim]
		var sum float32
		for _, v := range in {
			sum += v * v
		}
		k := float32(1 / math.Sqrt(float64(sum)/float64(dim)+epsilon))
		scale[i] = k
		for j, v := range in {
			out[j] = v * k * g[j]
		}
	}
}

// normalizeBack adds to dx and to dg.
func normalizeBack(dx, dy, x, g, dg, scale []float32, rows, dim int) {
	for i := range rows {
		in, d, out, k := x[i*dim:][:dim], dy[i*dim:][:dim], dx[i*dim:][:dim], scale[i]
		var sum float32
		for j := range in {
			sum += d[j] * g[j] * in[j]
			dg[j] += d[j] * in[j] * k
		}
		sum *= k * k * k / float32(dim)
		for j := range in {
			out[j] += d[j]*g[j]*k - in[j]*sum
		}
	}
}

// rotate applies the rotary encoding to adjacent pairs, or takes it back.
func (n *network) rotate(x []float32, rows, heads int, back bool) {
	hd := n.shape.head()
	for i := range rows {
		for h := range heads {
			v := x[(i*heads+h)*hd:][:hd]
			for j := range hd / 2 {
				c, s := n.cos[i*hd/2+j], n.sin[i*hd/2+j]
				if back {
					s = -s
				}
				a, b := v[2*j], v[2*j+1]
				v[2*j], v[2*j+1] = a*c-b*s, a*s+b*c
			}
		}
	}
}

// takeHead copies one head's columns out of rows of stride numbers.
func takeHead(dst, src []float32, rows, stride, h, hd int) {
	for i := range rows {
		copy(dst[i*hd:][:hd], src[i*stride+h*hd:])
	}
}

// addHead adds one head's columns to rows of stride numbers.
func addHead(dst, src []float32, rows, stride, h, hd int) {
	for i := range rows {
		out, in := dst[i*stride+h*hd:][:hd], src[i*hd:][:hd]
		for j := range out {
			out[j] += in[j]
		}
	}
}

// transpose writes src, of rows and cols, to dst with the two exchanged.
func transpose(dst, src []float32, rows, cols int) {
	for i := range rows {
		for j := range cols {
			dst[j*rows+i] = src[i*cols+j]
		}
	}
}

// exp32 is e to the x, to float32's precision: math.Exp works in float64 and
// would take a third of the training time.
func exp32(x float32) float32 {
	if x < -87 {
		return 0
	}
	x = min(x, 88)
	t := x * 1.44269504
	n := int32(t+128.5) - 128
	r := (t - float32(n)) * 0.69314718
	p := 1 + r*(1+r*(0.5+r*(0.16666667+r*(0.041666668+r*(0.008333334+r*0.0013888889)))))
	return math.Float32frombits(math.Float32bits(p) + uint32(n)<<23)
}
