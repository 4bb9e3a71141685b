package engine

import (
	"encoding/binary"
	"math"
)

// valueKind is the type number of a metadata value.
type valueKind uint32

const (
	kindUint8 valueKind = iota
	kindInt8
	kindUint16
	kindInt16
	kindUint32
	kindInt32
	kindFloat32
	kindBool
	kindString
	kindArray
	kindUint64
	kindInt64
	kindFloat64
)

// size returns the bytes of a fixed size kind, and 0 for any other.
func (k valueKind) size() uint64 {
	switch k {
	case kindUint8, kindInt8, kindBool:
		return 1
	case kindUint16, kindInt16:
		return 2
	case kindUint32, kindInt32, kindFloat32:
		return 4
	case kindUint64, kindInt64, kindFloat64:
		return 8
	}
	return 0
}

// value is one metadata value, still encoded.
type value struct {
	kind  valueKind
	elem  valueKind // of an array
	count uint64    // of an array
	raw   []byte
}

// integer decodes a whole number; ok is false for any other kind and for one
// that int64 cannot hold.
func integer(kind valueKind, raw []byte) (n int64, ok bool) {
	le := binary.LittleEndian
	switch kind {
	case kindUint8:
		return int64(raw[0]), true
	case kindInt8:
		return int64(int8(raw[0])), true
	case kindUint16:
		return int64(le.Uint16(raw)), true
	case kindInt16:
		return int64(int16(le.Uint16(raw))), true
	case kindUint32:
		return int64(le.Uint32(raw)), true
	case kindInt32:
		return int64(int32(le.Uint32(raw))), true
	case kindUint64, kindInt64:
		u := le.Uint64(raw)
		return int64(u), kind == kindInt64 || u <= math.MaxInt64
	}
	return 0, false
}

// text returns a string; found is false when the key is absent.
func (f *File) text(key string) (s string, found bool, err error) {
	v, found := f.meta[key]
	if !found {
		return "", false, nil
	}
	if v.kind != kindString {
		return "", true, refuse(ReasonFormat, "the key %q is no string", key)
	}
	return string(v.raw[8:]), true, nil
}

// count returns a whole number from 1 to limit, def when the key is absent; a
// def of 0 makes the key required.
func (f *File) count(key string, def, limit int) (int, error) {
	v, found := f.meta[key]
	if !found {
		if def == 0 {
			return 0, refuse(ReasonArchitecture, "the key %q is missing", key)
		}
		return def, nil
	}
	n, ok := integer(v.kind, v.raw)
	if !ok || n < 1 || n > int64(limit) {
		return 0, refuse(ReasonLimit, "the key %q must be a whole number from 1 to %d", key, limit)
	}
	return int(n), nil
}

// index returns a token id below vocab, def when the key is absent.
func (f *File) index(key string, def, vocab int) (int, error) {
	n := int64(def)
	if v, found := f.meta[key]; found {
		var ok bool
		if n, ok = integer(v.kind, v.raw); !ok {
			return 0, refuse(ReasonFormat, "the key %q is no whole number", key)
		}
	}
	if n < 0 || n >= int64(vocab) {
		return 0, refuse(ReasonTokenizer, "the key %q names the token %d of %d", key, n, vocab)
	}
	return int(n), nil
}

// number returns a positive, finite number, def when the key is absent.
func (f *File) number(key string, def float64) (float64, error) {
	v, found := f.meta[key]
	if !found {
		return def, nil
	}
	var n float64
	switch v.kind {
	case kindFloat32:
		n = float64(math.Float32frombits(binary.LittleEndian.Uint32(v.raw)))
	case kindFloat64:
		n = math.Float64frombits(binary.LittleEndian.Uint64(v.raw))
	}
	if !(n > 0) || math.IsInf(n, 0) {
		return 0, refuse(ReasonFormat, "the key %q must be a positive number", key)
	}
	return n, nil
}

// flag returns a boolean, def when the key is absent.
func (f *File) flag(key string, def bool) (bool, error) {
	v, found := f.meta[key]
	if !found {
		return def, nil
	}
	if v.kind != kindBool {
		return false, refuse(ReasonFormat, "the key %q is no boolean", key)
	}
	return v.raw[0] != 0, nil
}

// array returns a required array of the element kind, not longer than limit.
func (f *File) array(key string, elem valueKind, limit int) (value, error) {
	v, found := f.meta[key]
	switch {
	case !found:
		return value{}, refuse(ReasonTokenizer, "the key %q is missing", key)
	case v.kind != kindArray || v.elem != elem:
		return value{}, refuse(ReasonTokenizer, "the key %q has the wrong type", key)
	case v.count > uint64(limit):
		return value{}, refuse(ReasonLimit, "the key %q has %d elements; the most is %d", key, v.count, limit)
	}
	return v, nil
}

// strings decodes an array of strings; Parse has checked every length.
func (v value) strings() []string {
	out := make([]string, 0, v.count)
	for rest := v.raw; len(rest) > 0; {
		n := binary.LittleEndian.Uint64(rest)
		out = append(out, string(rest[8:8+n]))
		rest = rest[8+n:]
	}
	return out
}

// float32s decodes an array of F32 numbers.
func (v value) float32s() []float32 {
	out := make([]float32, v.count)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(v.raw[4*i:]))
	}
	return out
}

// int32s decodes an array of I32 numbers.
func (v value) int32s() []int32 {
	out := make([]int32, v.count)
	for i := range out {
		out[i] = int32(binary.LittleEndian.Uint32(v.raw[4*i:]))
	}
	return out
}
