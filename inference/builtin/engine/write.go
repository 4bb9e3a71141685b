package engine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
)

// Writer collects a GGUF version 3 file. Keys and tensors are written in the
// order in which they were added, so the same calls give the same bytes.
type Writer struct {
	keys    uint64
	meta    bytes.Buffer
	tensors uint64
	infos   bytes.Buffer
	data    bytes.Buffer
}

func putU32(b *bytes.Buffer, v uint32) { b.Write(binary.LittleEndian.AppendUint32(nil, v)) }
func putU64(b *bytes.Buffer, v uint64) { b.Write(binary.LittleEndian.AppendUint64(nil, v)) }
func putText(b *bytes.Buffer, s string) {
	putU64(b, uint64(len(s)))
	b.WriteString(s)
}

func (w *Writer) key(name string, kind valueKind) {
	w.keys++
	putText(&w.meta, name)
	putU32(&w.meta, uint32(kind))
}

func (w *Writer) arrayKey(name string, elem valueKind, count int) {
	w.key(name, kindArray)
	putU32(&w.meta, uint32(elem))
	putU64(&w.meta, uint64(count))
}

// Text adds a string key.
func (w *Writer) Text(key, v string) {
	w.key(key, kindString)
	putText(&w.meta, v)
}

// Uint adds a U32 key.
func (w *Writer) Uint(key string, v int) {
	w.key(key, kindUint32)
	putU32(&w.meta, uint32(v))
}

// Float adds an F32 key.
func (w *Writer) Float(key string, v float32) {
	w.key(key, kindFloat32)
	putU32(&w.meta, math.Float32bits(v))
}

// Vocabulary adds the keys of a llama tokenizer; see NewTokenizer for the slices.
func (w *Writer) Vocabulary(pieces []string, scores []float32, types []int32) {
	w.Text("tokenizer.ggml.model", "llama")
	w.arrayKey("tokenizer.ggml.tokens", kindString, len(pieces))
	for _, p := range pieces {
		putText(&w.meta, p)
	}
	w.arrayKey("tokenizer.ggml.scores", kindFloat32, len(scores))
	for _, s := range scores {
		putU32(&w.meta, math.Float32bits(s))
	}
	w.arrayKey("tokenizer.ggml.token_type", kindInt32, len(types))
	for _, t := range types {
		putU32(&w.meta, uint32(t))
	}
}

// Tensor adds a tensor; dims[0] is the length of a row, and a multiple of
// Q8Block for Q8.
func (w *Writer) Tensor(name string, kind Type, values []float32, dims ...int) error {
	w.tensors++
	putText(&w.infos, name)
	putU32(&w.infos, uint32(len(dims)))
	n := 1
	for _, d := range dims {
		n *= d
		putU64(&w.infos, uint64(d))
	}
	if n != len(values) {
		return fmt.Errorf("cannot write tensor %s: %d values for the dimensions %v", name, len(values), dims)
	}
	pad(&w.data)
	putU32(&w.infos, uint32(kind))
	putU64(&w.infos, uint64(w.data.Len()))
	switch kind {
	case F32:
		for _, v := range values {
			putU32(&w.data, math.Float32bits(v))
		}
	case F16:
		for _, v := range values {
			w.data.Write(binary.LittleEndian.AppendUint16(nil, toHalf(v)))
		}
	case Q8:
		if dims[0]%Q8Block != 0 {
			return fmt.Errorf("cannot write tensor %s: rows of %d numbers are no multiple of %d", name, dims[0], Q8Block)
		}
		for start := 0; start < n; start += Q8Block {
			w.data.Write(quantize(values[start : start+Q8Block]))
		}
	default:
		return fmt.Errorf("cannot write tensor %s: type %s", name, kind)
	}
	return nil
}

// WriteTo writes the file.
func (w *Writer) WriteTo(out io.Writer) (int64, error) {
	var b bytes.Buffer
	b.WriteString(fileMagic)
	putU32(&b, maxVersion)
	putU64(&b, w.tensors)
	putU64(&b, w.keys)
	b.Write(w.meta.Bytes())
	b.Write(w.infos.Bytes())
	pad(&b)
	b.Write(w.data.Bytes())
	return b.WriteTo(out)
}

func pad(b *bytes.Buffer) {
	for b.Len()%defaultAlignment != 0 {
		b.WriteByte(0)
	}
}

// quantize makes one Q8_0 block.
func quantize(values []float32) []byte {
	var top float32
	for _, v := range values {
		top = max(top, float32(math.Abs(float64(v))))
	}
	scale := top / 127
	block := binary.LittleEndian.AppendUint16(make([]byte, 0, Q8Bytes), toHalf(scale))
	for _, v := range values {
		q := float32(0)
		if scale > 0 {
			q = v / scale
		}
		block = append(block, byte(int8(math.Round(float64(q)))))
	}
	return block
}

// toHalf narrows to an IEEE 754 half, rounding to the nearest even.
func toHalf(f float32) uint16 {
	bits := math.Float32bits(f)
	sign := uint16(bits >> 16 & 0x8000)
	exp := int(bits>>23&0xff) - 127 + 15
	frac := bits & 0x7fffff
	switch {
	case exp >= 31 && bits&0x7fffffff > 0x7f800000:
		return sign | 0x7e00 // NaN
	case exp >= 31:
		return sign | 0x7c00
	case exp < -10:
		return sign
	case exp <= 0: // subnormal
		frac |= 0x800000
		shift := uint(14 - exp)
		return sign | uint16(roundShift(frac, shift))
	}
	// A carry out of the fraction moves into the exponent, as it should.
	return sign | uint16(roundShift(uint32(exp)<<23|frac, 13))
}

// roundShift divides by a power of two, rounding half to even.
func roundShift(v uint32, shift uint) uint32 {
	r := v >> shift
	half, rest := uint32(1)<<(shift-1), v&(1<<shift-1)
	if rest > half || rest == half && r&1 == 1 {
		r++
	}
	return r
}
