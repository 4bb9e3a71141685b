// Package queue orders the jobs that wait: priority, then submission, with a
// weighted fair share between organisations. It is a pure data structure: no
// locks, no clock, no I/O; the same calls give the same answers. See DESIGN.md.
package queue

import "windlass/protocol"

// Endpoint is a small number that the caller gave to an endpoint. Numbers are
// dense: the queue keeps a row for each one up to the largest.
type Endpoint uint32

// Org is a small, dense number that the caller gave to an organisation.
type Org uint32

// Item is one waiting job.
type Item struct {
	Job         protocol.JobID
	Seq         uint64 // submission order; unique
	NotBeforeMs int64  // back-off: not eligible before; 0: at once
	ExpireMs    int64  // end of its ttl; 0: never
	Attempt     uint32 // carried for the caller
	Org         Org    // the same for all items of an endpoint
	Endpoint    Endpoint
	Priority    protocol.Priority // a valid one
	Held        bool              // paused: it keeps its place and its ttl, and is never served
}

// Queue holds the jobs that wait. The zero value is not usable; see New.
type Queue struct {
	index   map[protocol.JobID]uint32
	slab    slab
	lanes   []*[protocol.Priorities]lane // by endpoint
	active  [protocol.Priorities][]*lane
	share   share
	delayed heap // by NotBeforeMs; these are in no lane
	expiry  heap // by ExpireMs
}

// New returns an empty queue.
func New() *Queue {
	q := &Queue{}
	q.reset()
	return q
}

func (q *Queue) reset() {
	q.index = make(map[protocol.JobID]uint32)
	q.slab = slab{}
	q.delayed = heap{slab: &q.slab, which: posDelayed}
	q.expiry = heap{slab: &q.slab, which: posExpiry}
}

// Len is how many jobs wait, delayed and held ones included.
func (q *Queue) Len() int { return len(q.index) }

// Delayed is how many of them are backing off.
func (q *Queue) Delayed() int { return len(q.delayed.items) }

// Count is how many jobs of an endpoint and priority are ready.
func (q *Queue) Count(e Endpoint, p protocol.Priority) int {
	if int(e) >= len(q.lanes) || !p.Valid() {
		return 0
	}
	return q.lanes[e][p-1].len
}

// Oldest returns the ready job of an endpoint and priority that was submitted first.
func (q *Queue) Oldest(e Endpoint, p protocol.Priority) (Item, bool) {
	if q.Count(e, p) == 0 {
		return Item{}, false
	}
	_, slot := q.lanes[e][p-1].head()
	return q.slab.at(slot).Item, true
}

// Get returns a waiting job.
func (q *Queue) Get(job protocol.JobID) (Item, bool) {
	slot, ok := q.index[job]
	if !ok {
		return Item{}, false
	}
	return q.slab.at(slot).Item, true
}

// Push adds a job, or replaces it when it already waits. It is delayed when it
// has a NotBeforeMs; Ripe moves it to its place. A held one is in no lane until it
// is pushed again.
func (q *Queue) Push(it Item) {
	q.Remove(it.Job)
	slot := q.slab.take()
	e := q.slab.at(slot)
	e.Item = it
	q.index[it.Job] = slot
	if it.ExpireMs != 0 {
		q.expiry.push(it.ExpireMs, slot)
	}
	if it.Held {
		return
	}
	if it.NotBeforeMs != 0 {
		q.delayed.push(it.NotBeforeMs, slot)
		return
	}
	q.ready(slot)
}

func (q *Queue) ready(slot uint32) {
	it := &q.slab.at(slot).Item
	for int(it.Endpoint) >= len(q.lanes) {
		q.lanes = append(q.lanes, new([protocol.Priorities]lane))
	}
	l := &q.lanes[it.Endpoint][it.Priority-1]
	if l.len == 0 {
		l.endpoint, l.org = it.Endpoint, it.Org
		list := &q.active[it.Priority-1]
		l.active = len(*list)
		*list = append(*list, l)
		q.share.activate(it.Org, it.Priority)
	}
	l.insert(it.Seq, slot)
}

// Remove takes a job out, and reports whether it was there. Nothing of it
// remains in any list.
func (q *Queue) Remove(job protocol.JobID) bool {
	slot, ok := q.index[job]
	if !ok {
		return false
	}
	e := q.slab.at(slot)
	q.expiry.remove(slot)
	if !e.Held && !q.delayed.remove(slot) {
		q.unready(&e.Item)
	}
	delete(q.index, job)
	q.slab.give(slot)
	if len(q.index) == 0 && q.slab.size() > keptSlots {
		// A map never shrinks by itself: after a peak start with a new one.
		q.reset()
	}
	return true
}

func (q *Queue) unready(it *Item) {
	l := &q.lanes[it.Endpoint][it.Priority-1]
	l.remove(it.Seq)
	if l.len > 0 {
		return
	}
	list := q.active[it.Priority-1]
	last := len(list) - 1
	list[l.active] = list[last]
	list[l.active].active = l.active
	list[last] = nil
	q.active[it.Priority-1] = list[:last]
	q.share.deactivate(l.org, it.Priority)
}

// Best returns the job to serve next among the endpoints that fit, without
// taking it: the highest priority, in it the organisation that had the least of
// its share, of it the job submitted first. It looks only at the first job of
// each endpoint; fits is asked about an endpoint at most once per priority.
func (q *Queue) Best(fits func(Endpoint) bool) (Item, bool) {
	for p := range q.active {
		var best *lane
		var bestTag, bestSeq uint64
		for _, l := range q.active[p] {
			tag := q.share.tag(l.org, p)
			seq, _ := l.head()
			if best != nil && (tag > bestTag || tag == bestTag && seq > bestSeq) {
				continue
			}
			if fits(l.endpoint) {
				best, bestTag, bestSeq = l, tag, seq
			}
		}
		if best != nil {
			_, slot := best.head()
			return q.slab.at(slot).Item, true
		}
	}
	return Item{}, false
}

// Take removes a job that Best returned and charges its organisation for it.
func (q *Queue) Take(job protocol.JobID) (Item, bool) {
	it, ok := q.Get(job)
	if !ok {
		return Item{}, false
	}
	q.share.charge(it.Org, it.Priority)
	q.Remove(job)
	return it, true
}

// SetWeight sets an organisation's share; the default, and 0, is 1.
func (q *Queue) SetWeight(org Org, weight uint32) { q.share.setWeight(org, weight) }

// Ripe moves the delayed jobs whose time has come to their places and returns
// how many there were.
func (q *Queue) Ripe(nowMs int64) int {
	n := 0
	for {
		at, slot, ok := q.delayed.top()
		if !ok || at > nowMs {
			return n
		}
		q.delayed.remove(slot)
		q.slab.at(slot).NotBeforeMs = 0
		q.ready(slot)
		n++
	}
}

// Expired removes and returns jobs whose ttl has ended, at most limit.
func (q *Queue) Expired(nowMs int64, limit int) []Item {
	var out []Item
	for len(out) < limit {
		at, slot, ok := q.expiry.top()
		if !ok || at > nowMs {
			break
		}
		it := q.slab.at(slot).Item
		q.Remove(it.Job)
		out = append(out, it)
	}
	return out
}

// NextMs is when Ripe or Expired has something to do; false when nothing waits for a time.
func (q *Queue) NextMs() (int64, bool) {
	ripe, _, a := q.delayed.top()
	end, _, b := q.expiry.top()
	switch {
	case a && b:
		return min(ripe, end), true
	case a:
		return ripe, true
	default:
		return end, b
	}
}

// Position is a waiting job's place among the ready jobs of its endpoint; 1 is
// next. A delayed or held job is shown the place that it will return to.
func (q *Queue) Position(job protocol.JobID) (int, bool) {
	it, ok := q.Get(job)
	if !ok {
		return 0, false
	}
	if int(it.Endpoint) >= len(q.lanes) {
		return 1, true
	}
	ahead := 0
	for p := range int(it.Priority) - 1 {
		ahead += q.lanes[it.Endpoint][p].len
	}
	return ahead + q.lanes[it.Endpoint][it.Priority-1].rank(it.Seq) + 1, true
}
