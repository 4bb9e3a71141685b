package engine_test

import (
	"bytes"
	"math"
	"testing"

	"windlass/inference/builtin/engine"
)

// TestTensorTypesRoundTrip writes numbers in every type and reads them back
// within the precision of the type.
func TestTensorTypesRoundTrip(t *testing.T) {
	values := []float32{0, 1, -1, 0.5, 65504, -65504, 6.1e-5, -5.96e-8, 1e-9, 3.14159, 1e5, float32(math.Inf(-1))}
	for len(values) < 64 {
		values = append(values, float32(len(values))/7)
	}
	write := func(kind engine.Type, v []float32) []float32 {
		var w engine.Writer
		if err := w.Tensor("t", kind, v, 32, len(v)/32); err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if _, err := w.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		f, err := engine.Parse(b.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		tensor, _ := f.Tensor("t")
		return tensor.Float32s()
	}
	for i, v := range write(engine.F32, values) {
		if v != values[i] {
			t.Errorf("F32: %g came back as %g", values[i], v)
		}
	}
	for i, v := range write(engine.F16, values) {
		want := float64(values[i])
		if math.Abs(want) > 65520 { // halves end there
			want = math.Inf(int(math.Copysign(1, want)))
		}
		if float64(v) != want && math.Abs(float64(v)-want) > max(math.Abs(want)/2048, 3e-8) {
			t.Errorf("F16: %g came back as %g", values[i], v)
		}
	}
	small := values[32:]
	for i, v := range write(engine.Q8, small) {
		if math.Abs(float64(v-small[i])) > 63.0/7/127 {
			t.Errorf("Q8_0: %g came back as %g", small[i], v)
		}
	}
}

// TestHalvesAreExact writes every half that F16 can hold.
func TestHalvesAreExact(t *testing.T) {
	var values []float32
	for exp := -14; exp <= 15; exp++ {
		for frac := range 16 {
			values = append(values, float32(math.Ldexp(1+float64(frac*64)/1024, exp)), float32(-math.Ldexp(float64(frac), -24)))
		}
	}
	var w engine.Writer
	if err := w.Tensor("t", engine.F16, values, len(values)); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := w.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	f, err := engine.Parse(b.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	tensor, _ := f.Tensor("t")
	for i, v := range tensor.Float32s() {
		if v != values[i] {
			t.Errorf("%g came back as %g", values[i], v)
		}
	}
}
