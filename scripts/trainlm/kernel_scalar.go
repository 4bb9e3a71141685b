//go:build !(goexperiment.simd && amd64)

package main

const kernel = "scalar"

// gemm sets c (or adds to it) to a times b; see gemmScalar.
func gemm(c, a, b []float32, m, n, k int, add bool) { gemmScalar(c, a, b, m, n, k, 0, add) }
