package queue

const (
	// chunkSlots is how many entries are allocated at once (64 KiB).
	chunkSlots = 1024
	// keptSlots is how many slots an empty queue keeps for reuse (4 MiB).
	keptSlots = 64 << 10
	// absent is the position of an entry that is not in a heap.
	absent = ^uint32(0)
)

// The heaps that an entry can be in.
const (
	posDelayed = iota
	posExpiry
	heaps
)

// entry holds no pointer, so the collector does not look into a million of them.
type entry struct {
	Item
	pos [heaps]uint32 // index in each heap, or absent
}

// slab hands out entries by number; numbers fit the lists in half a pointer.
type slab struct {
	chunks []*[chunkSlots]entry
	free   []uint32
	used   uint32 // slots ever handed out
}

func (s *slab) at(slot uint32) *entry { return &s.chunks[slot/chunkSlots][slot%chunkSlots] }

func (s *slab) size() int { return int(s.used) }

func (s *slab) take() uint32 {
	var slot uint32
	if n := len(s.free); n > 0 {
		slot, s.free = s.free[n-1], s.free[:n-1]
	} else {
		slot = s.used
		s.used++
		if int(slot/chunkSlots) == len(s.chunks) {
			s.chunks = append(s.chunks, new([chunkSlots]entry))
		}
	}
	s.at(slot).pos = [heaps]uint32{absent, absent}
	return slot
}

func (s *slab) give(slot uint32) { s.free = append(s.free, slot) }
