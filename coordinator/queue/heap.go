package queue

// heap is a binary heap of slots by time that knows where each slot is, so
// that a job that leaves early leaves nothing behind.
type heap struct {
	slab  *slab
	which int
	items []timed
}

type timed struct {
	at   int64
	slot uint32
}

func (h *heap) top() (int64, uint32, bool) {
	if len(h.items) == 0 {
		return 0, 0, false
	}
	return h.items[0].at, h.items[0].slot, true
}

func (h *heap) push(at int64, slot uint32) {
	h.items = append(h.items, timed{at, slot})
	h.up(len(h.items) - 1)
}

func (h *heap) remove(slot uint32) bool {
	i := h.slab.at(slot).pos[h.which]
	if i == absent {
		return false
	}
	h.slab.at(slot).pos[h.which] = absent
	last := len(h.items) - 1
	moved := h.items[last]
	h.items = h.items[:last]
	if int(i) < last {
		h.items[i] = moved
		h.up(h.down(int(i)))
	}
	return true
}

func (h *heap) less(a, b timed) bool {
	if a.at != b.at {
		return a.at < b.at
	}
	return h.slab.at(a.slot).Seq < h.slab.at(b.slot).Seq
}

func (h *heap) set(i int, t timed) {
	h.items[i] = t
	h.slab.at(t.slot).pos[h.which] = uint32(i)
}

func (h *heap) up(i int) {
	t := h.items[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !h.less(t, h.items[parent]) {
			break
		}
		h.set(i, h.items[parent])
		i = parent
	}
	h.set(i, t)
}

func (h *heap) down(i int) int {
	t := h.items[i]
	for {
		child := 2*i + 1
		if child >= len(h.items) {
			break
		}
		if child+1 < len(h.items) && h.less(h.items[child+1], h.items[child]) {
			child++
		}
		if !h.less(h.items[child], t) {
			break
		}
		h.set(i, h.items[child])
		i = child
	}
	h.set(i, t)
	return i
}
