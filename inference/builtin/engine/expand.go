package engine

import (
	"bytes"
	"maps"
	"slices"
)

// Expand returns the same model with all tensors as F32. Metadata is kept, but
// for general.file_type. An error is a *Refusal.
func Expand(data []byte) ([]byte, error) {
	f, err := Parse(data)
	if err != nil {
		return nil, err
	}
	var w Writer
	for _, key := range slices.Sorted(maps.Keys(f.meta)) {
		v := f.meta[key]
		switch {
		case key == "general.file_type" || key == "general.alignment":
			continue
		case v.kind == kindArray:
			w.arrayKey(key, v.elem, int(v.count))
		default:
			w.key(key, v.kind)
		}
		w.meta.Write(v.raw)
	}
	w.Uint("general.file_type", 0)
	for _, name := range slices.Sorted(maps.Keys(f.tensors)) {
		t := f.tensors[name]
		if err := w.Tensor(t.Name, F32, t.Float32s(), t.Dims...); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	_, err = w.WriteTo(&out)
	return out.Bytes(), err
}
