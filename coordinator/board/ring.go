package board

// Item is one numbered element of a ring.
type Item[T any] struct {
	N     uint64 // number within the attempt, from 0
	Seq   uint64 // sequence number of the soft state that it arrived with
	Value T
}

// ring keeps the newest elements of a numbered list within a count and a
// number of bytes. Not safe for concurrent use: the entry's lock guards it.
type ring[T any] struct {
	items []Item[T]
	head  int    // index of the oldest element in items
	next  uint64 // number of the next element
	bytes int
	size  func(T) int
	count int // most elements kept; 0: bytes alone decide
}

func (r *ring[T]) len() int { return len(r.items) - r.head }

// push appends one element and drops the oldest beyond count and limit bytes,
// but never the one just pushed. It returns by how much the bytes changed.
func (r *ring[T]) push(v T, seq uint64, limit int) int {
	before := r.bytes
	r.items = append(r.items, Item[T]{N: r.next, Seq: seq, Value: v})
	r.next++
	r.bytes += r.size(v)
	for r.len() > 1 && (r.bytes > limit || (r.count > 0 && r.len() > r.count)) {
		r.bytes -= r.size(r.items[r.head].Value)
		r.items[r.head] = Item[T]{}
		r.head++
	}
	if r.head > len(r.items)/2 {
		n := copy(r.items, r.items[r.head:])
		clear(r.items[n:])
		r.items, r.head = r.items[:n], 0
	}
	return r.bytes - before
}

// from returns copies of the kept elements with a number of at least n.
func (r *ring[T]) from(n uint64) []Item[T] {
	kept := r.items[r.head:]
	if len(kept) == 0 || n >= r.next {
		return nil
	}
	skip := 0
	if first := kept[0].N; n > first {
		skip = int(n - first)
	}
	return append([]Item[T](nil), kept[skip:]...)
}

// after returns the number of the first kept element that arrived later than
// sequence number seq; next when there is none.
func (r *ring[T]) after(seq uint64) uint64 {
	for _, it := range r.items[r.head:] {
		if it.Seq > seq {
			return it.N
		}
	}
	return r.next
}
