package broker

import (
	"slices"
	"strconv"
	"strings"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// class is the agents that fit the same endpoints by what does not change while
// they live: organisation, pool, runtime kinds and GPUs. A fleet has few.
type class struct {
	key    string
	sample *state.Agent // any of them
	idle   idleHeap
}

func (t *term) classOf(row *state.Agent) *class {
	key := classKey(row)
	for _, c := range t.classes {
		if c.key == key {
			return c
		}
	}
	c := &class{key: key, sample: row}
	t.classes = append(t.classes, c)
	return c
}

func classKey(row *state.Agent) string {
	parts := []string{row.Org, row.Facts.Pool, strings.Join(row.Facts.Orgs, "\x01")}
	parts = append(parts, slices.Sorted(slices.Values(row.Facts.Kinds))...)
	for _, g := range row.Facts.GPUs {
		parts = append(parts, g.Name+"\x01"+strconv.FormatInt(g.Memory, 10))
	}
	return strings.Join(parts, "\x00")
}

// seat is one agent's place in one heap.
type seat struct {
	agent *agent
	heap  *idleHeap
	pos   int
	free  int // in a warm heap: jobs that the warm instances can take
}

// reseat brings an agent's places in line with its state: it is in its class
// heap, and in the heap of each endpoint that it is warm for, exactly while it
// has a parked sync and an open slot.
func (t *term) reseat(a *agent) {
	open := a.openSlots()
	if a.waiter == nil || a.draining || open <= 0 || a.class == nil {
		a.open = open
		t.unseat(a)
		return
	}
	if len(a.seats) > 0 {
		if open != a.open {
			a.open = open
			for _, s := range a.seats {
				s.heap.fix(s.pos)
			}
		}
		return
	}
	a.open = open
	t.idle++
	a.sit(&a.class.idle, 0)
	for _, w := range a.warm {
		org, id := protocol.SplitEndpointName(w.Endpoint)
		e := t.endpoints[endpointKey{org, id}]
		if w.Free > 0 && e != nil && e.row != nil && e.row.Revision == w.Revision {
			a.sit(&e.warm, w.Free)
		}
	}
}

// sit gives an agent its place in a heap. It has one in each: instances of the
// same endpoint, which it lists one by one, add up.
func (a *agent) sit(h *idleHeap, free int) {
	for _, s := range a.seats {
		if s.heap == h {
			s.free += free
			return
		}
	}
	s := &seat{agent: a, heap: h, free: free}
	a.seats = append(a.seats, s)
	h.push(s)
}

func (t *term) unseat(a *agent) {
	if len(a.seats) == 0 {
		return
	}
	t.idle--
	for _, s := range a.seats {
		s.heap.remove(s)
	}
	a.seats = a.seats[:0]
}

// useWarm notes that a warm instance got a job.
func (a *agent) useWarm(e *endpoint) {
	i := slices.IndexFunc(a.seats, func(s *seat) bool { return s.heap == &e.warm })
	if i < 0 {
		return
	}
	s := a.seats[i]
	if s.free--; s.free == 0 {
		s.heap.remove(s)
		a.seats = slices.Delete(a.seats, i, i+1)
	}
}

// openSlots is what the newest statement offers, less what was granted and
// which it does not know of.
func (a *agent) openSlots() int {
	if a.unheard != 0 {
		return 0
	}
	n := a.free - len(a.grants) - len(a.ghosts)
	for _, l := range a.leases {
		if !l.stated && !l.finishing {
			n--
		}
	}
	return n
}

func (a *agent) openGPUs() int {
	n := a.freeGPUs
	for _, g := range a.grants {
		n -= g.endpoint.gpus()
	}
	for _, g := range a.ghosts {
		n -= g.gpus
	}
	for _, l := range a.leases {
		if !l.stated && !l.finishing {
			n -= l.endpoint.gpus()
		}
	}
	return n
}

func (e *endpoint) gpus() int {
	if e.row == nil {
		return 0
	}
	return e.row.Doc.Resources.GPUs
}

// idleHeap orders idle agents: most open slots first, then longest waiting.
type idleHeap struct{ seats []*seat }

func ahead(a, b *agent) bool {
	if a.open != b.open {
		return a.open > b.open
	}
	return a.waiter.since < b.waiter.since
}

// best returns the first agent of the order that takes: mostly the top one.
func (h *idleHeap) best(takes func(*agent) bool) *agent {
	if len(h.seats) == 0 {
		return nil
	}
	if takes(h.seats[0].agent) {
		return h.seats[0].agent
	}
	var found *agent
	for _, s := range h.seats[1:] {
		if (found == nil || ahead(s.agent, found)) && takes(s.agent) {
			found = s.agent
		}
	}
	return found
}

func (h *idleHeap) push(s *seat) {
	s.pos = len(h.seats)
	h.seats = append(h.seats, s)
	h.up(s.pos)
}

func (h *idleHeap) remove(s *seat) {
	i, last := s.pos, len(h.seats)-1
	h.swap(i, last)
	h.seats[last] = nil
	h.seats = h.seats[:last]
	if i < last {
		h.fix(i)
	}
}

func (h *idleHeap) fix(i int) {
	h.up(h.down(i))
}

func (h *idleHeap) swap(i, j int) {
	h.seats[i], h.seats[j] = h.seats[j], h.seats[i]
	h.seats[i].pos, h.seats[j].pos = i, j
}

func (h *idleHeap) up(i int) {
	for i > 0 {
		parent := (i - 1) / 2
		if !ahead(h.seats[i].agent, h.seats[parent].agent) {
			return
		}
		h.swap(i, parent)
		i = parent
	}
}

func (h *idleHeap) down(i int) int {
	for {
		child := 2*i + 1
		if child >= len(h.seats) {
			return i
		}
		if child+1 < len(h.seats) && ahead(h.seats[child+1].agent, h.seats[child].agent) {
			child++
		}
		if !ahead(h.seats[child].agent, h.seats[i].agent) {
			return i
		}
		h.swap(i, child)
		i = child
	}
}
