package engine

import (
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

const (
	fileMagic  = "GGUF"
	minVersion = 2 // version 1 counts in 32 bits and left use in 2023
	maxVersion = 3
	// maxEntries bounds metadata keys and tensors each; the largest llama files have below 2,000.
	maxEntries = 1 << 16
	// maxName bounds keys and tensor names; the format says 64 bytes for tensors.
	maxName = 1 << 10
	// maxDims is the format's own bound.
	maxDims = 4
	// defaultAlignment and maxAlignment: the format's default, and no page size is larger.
	defaultAlignment = 32
	maxAlignment     = 1 << 20
	// maxElements keeps every product of dimensions far from overflow.
	maxElements = 1 << 40
)

// File is a parsed GGUF file. It keeps slices of the bytes that it was parsed
// from; they must not change. Its own memory is bounded by their length.
type File struct {
	meta    map[string]value
	tensors map[string]Tensor
}

// Parse reads the header of a GGUF file (ggml's docs/gguf.md) and checks that
// every tensor lies inside it and none overlaps another. Any bytes are safe. An
// error is a *Refusal.
func Parse(data []byte) (*File, error) {
	r := &reader{data: data}
	tensors, keys, err := r.preamble()
	if err != nil {
		return nil, err
	}
	f := &File{meta: map[string]value{}, tensors: map[string]Tensor{}}
	for range keys {
		key := r.name()
		v := r.value(valueKind(r.u32()))
		if _, dup := f.meta[key]; dup {
			r.fail(refuse(ReasonFormat, "the key %q occurs twice", key))
		}
		if r.err != nil {
			return nil, r.err
		}
		f.meta[key] = v
	}
	infos, err := r.infos(tensors)
	if err != nil {
		return nil, err
	}
	alignment, err := f.count("general.alignment", defaultAlignment, maxAlignment)
	if err != nil {
		return nil, err
	}
	base := (r.pos + alignment - 1) / alignment * alignment
	return f, f.place(infos, data, base)
}

// preamble reads magic, version and the two counts.
func (r *reader) preamble() (tensors, keys uint64, err error) {
	if magic := r.take(4); magic == nil || string(magic) != fileMagic {
		return 0, 0, refuse(ReasonFormat, "the file does not begin with GGUF")
	}
	version := r.u32()
	if r.err == nil && (version < minVersion || version > maxVersion) {
		if v := version>>24 | version<<24; v >= minVersion && v <= maxVersion {
			return 0, 0, refuse(ReasonFormat, "the file is big-endian")
		}
		return 0, 0, refuse(ReasonFormat, "the file has GGUF version %d", version)
	}
	tensors, keys = r.u64(), r.u64()
	if r.err == nil && (tensors > maxEntries || keys > maxEntries) {
		return 0, 0, refuse(ReasonLimit, "the file announces %d tensors and %d keys; the most is %d of each", tensors, keys, maxEntries)
	}
	return tensors, keys, r.err
}

// info is one tensor as the header describes it.
type info struct {
	tensor Tensor
	offset uint64 // from the begin of the data section
	size   uint64
}

func (r *reader) infos(count uint64) ([]info, error) {
	var infos []info
	for range count {
		in := info{tensor: Tensor{Name: r.name()}}
		dims := r.u32()
		if r.err == nil && (dims == 0 || dims > maxDims) {
			return nil, refuse(ReasonFormat, "tensor %q has %d dimensions", in.tensor.Name, dims)
		}
		elements := uint64(1)
		for range dims {
			d := r.u64()
			if r.err == nil && (d == 0 || d > maxElements/elements) {
				return nil, refuse(ReasonLimit, "tensor %q has a dimension of %d", in.tensor.Name, d)
			}
			if r.err != nil {
				return nil, r.err
			}
			elements *= d
			in.tensor.Dims = append(in.tensor.Dims, int(d))
		}
		in.tensor.Type, in.offset = Type(r.u32()), r.u64()
		if r.err != nil {
			return nil, r.err
		}
		var err error
		if in.size, err = in.tensor.bytes(elements); err != nil {
			return nil, err
		}
		infos = append(infos, in)
	}
	return infos, r.err
}

// place gives every tensor its bytes. Overlap is refused because it would let a
// small file ask for any amount of memory when its tensors are expanded.
func (f *File) place(infos []info, data []byte, base int) error {
	if base > len(data) && len(infos) > 0 {
		return refuse(ReasonTruncated, "the file ends at byte %d, before its tensors", len(data))
	}
	slices.SortFunc(infos, func(a, b info) int { return cmp.Compare(a.offset, b.offset) })
	end := uint64(0)
	for _, in := range infos {
		name := in.tensor.Name
		if in.offset < end {
			return refuse(ReasonFormat, "tensor %q overlaps another", name)
		}
		room := uint64(len(data) - base)
		if in.offset > room || in.size > room-in.offset {
			return refuse(ReasonTruncated, "tensor %q needs bytes %d to %d of the data section, and the file has %d", name, in.offset, in.offset+in.size, room)
		}
		if _, dup := f.tensors[name]; dup {
			return refuse(ReasonFormat, "tensor %q occurs twice", name)
		}
		end = in.offset + in.size
		in.tensor.data = data[base+int(in.offset) : base+int(end)]
		f.tensors[name] = in.tensor
	}
	return nil
}

// reader walks the header; after the first error everything reads as zero.
type reader struct {
	data []byte
	pos  int
	err  error
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// take returns the next n bytes, nil after an error.
func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.data)-r.pos) {
		r.fail(refuse(ReasonTruncated, "the file ends at byte %d, inside its header", len(r.data)))
	}
	if r.err != nil {
		return nil
	}
	b := r.data[r.pos : r.pos+int(n)]
	r.pos += int(n)
	return b
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) name() string {
	n := r.u64()
	if n > maxName {
		r.fail(refuse(ReasonLimit, "the header has a name of %d bytes", n))
	}
	return string(r.take(n))
}

// value skips over one value and keeps where it lies, so that a header costs no
// memory beyond its own bytes.
func (r *reader) value(kind valueKind) value {
	v := value{kind: kind}
	start := r.pos
	switch size := kind.size(); {
	case size > 0:
		r.take(size)
	case kind == kindString:
		r.take(r.u64())
	case kind == kindArray:
		v.elem, v.count = valueKind(r.u32()), r.u64()
		start = r.pos
		r.elements(v.elem, v.count)
	default:
		r.fail(refuse(ReasonFormat, "the header has a value of the unknown type %d", kind))
	}
	if r.err == nil {
		v.raw = r.data[start:r.pos]
	}
	return v
}

func (r *reader) elements(elem valueKind, count uint64) {
	size := elem.size()
	switch {
	case size > 0 && count > math.MaxUint64/size:
		r.fail(refuse(ReasonLimit, "the header has an array of %d elements", count))
	case size > 0:
		r.take(count * size)
	case elem == kindString:
		for i := uint64(0); i < count && r.err == nil; i++ {
			r.take(r.u64())
		}
	default: // nested arrays would make the depth of a file its author's choice
		r.fail(refuse(ReasonFormat, "the header has an array of the type %d", elem))
	}
}

// Tensor returns a tensor by its name.
func (f *File) Tensor(name string) (Tensor, bool) {
	t, found := f.tensors[name]
	return t, found
}
