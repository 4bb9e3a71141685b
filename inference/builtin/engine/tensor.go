package engine

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Type is the number format of a tensor, as ggml numbers them.
type Type uint32

// The types that the engine reads.
const (
	F32 Type = 0
	F16 Type = 1
	Q8  Type = 8 // Q8_0: blocks of 32 signed bytes with one F16 scale
)

const (
	// Q8Block is how many numbers share a scale; rows are a multiple of it.
	Q8Block = 32
	// Q8Bytes is the size of one block: the scale, then the numbers.
	Q8Bytes = 2 + Q8Block
)

// String returns ggml's name, for the types met in practice.
func (t Type) String() string {
	names := map[Type]string{F32: "F32", F16: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", Q8: "Q8_0", 10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 30: "BF16"}
	if name, ok := names[t]; ok {
		return name
	}
	return fmt.Sprintf("number %d", uint32(t))
}

// Tensor is one tensor of a file. Dims[0] is the length of a row.
type Tensor struct {
	Name string
	Dims []int
	Type Type
	data []byte
}

// bytes returns the encoded size of the tensor.
func (t Tensor) bytes(elements uint64) (uint64, error) {
	switch t.Type {
	case F32:
		return elements * 4, nil
	case F16:
		return elements * 2, nil
	case Q8:
		if t.Dims[0]%Q8Block != 0 {
			return 0, refuse(ReasonShape, "tensor %q has rows of %d numbers; Q8_0 needs a multiple of %d", t.Name, t.Dims[0], Q8Block)
		}
		return elements / Q8Block * Q8Bytes, nil
	}
	return 0, refuse(ReasonTensorType, "tensor %q has the type %s", t.Name, t.Type)
}

// Float32s expands the tensor, row by row.
func (t Tensor) Float32s() []float32 {
	n := 1
	for _, d := range t.Dims {
		n *= d
	}
	out := make([]float32, n)
	le := binary.LittleEndian
	switch t.Type {
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(le.Uint32(t.data[4*i:]))
		}
	case F16:
		for i := range out {
			out[i] = fromHalf(le.Uint16(t.data[2*i:]))
		}
	case Q8:
		for b := range n / Q8Block {
			block := t.data[b*Q8Bytes:][:Q8Bytes]
			scale := fromHalf(le.Uint16(block))
			for j, q := range block[2:] {
				out[b*Q8Block+j] = float32(int8(q)) * scale
			}
		}
	}
	return out
}

// fromHalf widens an IEEE 754 half.
func fromHalf(h uint16) float32 {
	sign, exp, frac := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
	switch exp {
	case 0: // zero and subnormal
		v := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // infinity and NaN
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
