package main

// gemmScalar sets c (or adds to it) to a times b: c is [m][n], a is [m][k], b is
// [k][n]; of every row of c only the columns from first on.
func gemmScalar(c, a, b []float32, m, n, k, first int, add bool) {
	for i := range m {
		row := c[i*n+first : i*n+n]
		if !add {
			clear(row)
		}
		for p := range k {
			v := a[i*k+p]
			if v == 0 {
				continue // half of an attention matrix is zero
			}
			in := b[p*n+first : p*n+n][:len(row)]
			for j := range row {
				row[j] += v * in[j]
			}
		}
	}
}
