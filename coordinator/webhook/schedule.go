package webhook

import (
	"container/heap"
	"net/url"

	"windlass/coordinator/state"
	"windlass/protocol"
)

// Bounds of what is under way at a time. A place is held for attemptTime by a
// receiver that does not answer, so each bound keeps places free for the others.
const (
	// maxLane is for one organisation at one receiver: a hundred a second where the
	// answer takes 150 ms, and no flood for a small server.
	maxLane = 16

	// maxOrg is for one organisation, whatever it names: sixteen of them may have
	// nothing but receivers that hang before anybody else waits.
	maxOrg = 64

	// maxAll is some 50 MiB of connections and bodies.
	maxAll = 1024
)

// schedule orders the deliveries that are pending: a heap of those that wait for
// their time, and of those that are due a fair queue. Organisations take turns,
// then the receivers of each, so that a receiver that hangs holds up its own
// deliveries alone. It has no lock and no clock, and costs some 150 bytes for each
// delivery.
type schedule struct {
	entries map[protocol.JobID]*entry
	waiting waiting
	orgs    map[string]*org
	turn    ring[*org] // organisations with a lane in turn
	flying  int
	ready   int // entries that are due and wait for a place
}

// entry is one pending delivery.
type entry struct {
	job     protocol.JobID
	run     uint32
	pos     int32 // in the heap; -1: not there
	dueMs   int64
	sinceMs int64
	lane    *lane
	where   place
}

type place uint8

const (
	inHeap  place = iota
	inLane        // due
	inAir         // an attempt is under way
	dropped       // nobody waits for it; a lane may still list it
)

// org is one organisation that has something pending.
type org struct {
	name   string
	lanes  map[string]*lane
	turn   ring[*lane]
	listed bool // in schedule.turn
	flying int
}

// lane is one organisation at one receiver.
type lane struct {
	org    *org
	host   string
	due    ring[*entry]
	listed bool // in org.turn
	flying int
	size   int // entries of the lane, wherever they are
}

func newSchedule() *schedule {
	return &schedule{entries: make(map[protocol.JobID]*entry), orgs: make(map[string]*org)}
}

// see takes in a row as it is now.
func (s *schedule) see(row *state.Job) {
	e := s.entries[row.ID]
	if !row.Owes() {
		if e != nil && e.where != inAir {
			s.drop(e)
		}
		return
	}
	if e != nil && e.where == inAir {
		return // land looks again
	}
	d := row.Webhook()
	if e != nil && (e.run != row.Run || e.dueMs != d.NextMs) {
		s.drop(e)
		e = nil
	}
	if e == nil {
		s.add(row, d.NextMs)
	}
}

// add puts a delivery in that is due at a time.
func (s *schedule) add(row *state.Job, dueMs int64) {
	d := row.Webhook()
	e := &entry{job: row.ID, run: row.Run, dueMs: dueMs, sinceMs: d.SinceMs, lane: s.lane(row.Org, receiver(row.Extra.CallbackURL))}
	e.lane.size++
	s.entries[e.job] = e
	heap.Push(&s.waiting, e)
}

// forget removes a delivery whose row is gone.
func (s *schedule) forget(job protocol.JobID) {
	if e := s.entries[job]; e != nil && e.where != inAir {
		s.drop(e)
	}
}

func (s *schedule) drop(e *entry) {
	switch e.where {
	case inHeap:
		heap.Remove(&s.waiting, int(e.pos))
	case inLane:
		s.ready--
	}
	e.where = dropped
	delete(s.entries, e.job)
	s.leave(e.lane)
}

// leave takes one entry from a lane's count and forgets what is empty.
func (s *schedule) leave(l *lane) {
	if l.size--; l.size > 0 {
		return
	}
	delete(l.org.lanes, l.host)
	if len(l.org.lanes) == 0 {
		delete(s.orgs, l.org.name)
	}
}

// promote moves what is due to its lane, and returns when the next is; false when
// nothing waits.
func (s *schedule) promote(nowMs int64) (nextMs int64, ok bool) {
	for len(s.waiting) > 0 {
		e := s.waiting[0]
		if e.dueMs > nowMs {
			return e.dueMs, true
		}
		heap.Pop(&s.waiting)
		e.where = inLane
		s.ready++
		e.lane.due.push(e)
		s.list(e.lane)
	}
	return 0, false
}

// list gives a lane its turn when it has something to do and a place for it.
func (s *schedule) list(l *lane) {
	if !l.listed && l.due.len() > 0 && l.flying < maxLane {
		l.listed = true
		l.org.turn.push(l)
	}
	if o := l.org; !o.listed && o.turn.len() > 0 && o.flying < maxOrg {
		o.listed = true
		s.turn.push(o)
	}
}

// take returns the next delivery to attempt, nil when there is none or no place. It
// is in the air until land.
func (s *schedule) take() *entry {
	for s.flying < maxAll && s.turn.len() > 0 {
		o := s.turn.pop()
		o.listed = false
		l := o.turn.pop()
		l.listed = false
		e := l.next()
		if e != nil {
			e.where = inAir
			s.ready--
			s.flying, o.flying, l.flying = s.flying+1, o.flying+1, l.flying+1
		}
		s.list(l)
		if e != nil {
			return e
		}
	}
	return nil
}

// next returns the lane's oldest entry that is still wanted.
func (l *lane) next() *entry {
	for l.due.len() > 0 {
		if e := l.due.pop(); e.where == inLane {
			return e
		}
	}
	return nil
}

// land ends an attempt. row is the job as it is now, nil when it is gone. notBefore
// keeps an attempt that could not be made from being made again at once.
func (s *schedule) land(e *entry, row *state.Job, notBeforeMs int64) {
	s.flying--
	e.lane.org.flying--
	e.lane.flying--
	e.where = dropped
	delete(s.entries, e.job)
	l := e.lane
	if row != nil && row.Owes() {
		s.add(row, max(row.Webhook().NextMs, notBeforeMs))
	}
	s.leave(l)
	s.list(l)
}

func (s *schedule) lane(name, host string) *lane {
	o := s.orgs[name]
	if o == nil {
		o = &org{name: name, lanes: make(map[string]*lane)}
		s.orgs[name] = o
	}
	l := o.lanes[host]
	if l == nil {
		l = &lane{org: o, host: host}
		o.lanes[host] = l
	}
	return l
}

// oldest returns since when the longest pending delivery is; 0 without any.
func (s *schedule) oldest() int64 {
	sinceMs := int64(0)
	for _, e := range s.entries {
		if sinceMs == 0 || e.sinceMs < sinceMs {
			sinceMs = e.sinceMs
		}
	}
	return sinceMs
}

// receiver is what a URL's lane is called: who answers it.
func receiver(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return raw
	}
	return u.Scheme + "://" + u.Host
}

// waiting is a heap by time.
type waiting []*entry

// Len implements sort.Interface.
func (w waiting) Len() int { return len(w) }

// Less implements sort.Interface.
func (w waiting) Less(i, j int) bool { return w[i].dueMs < w[j].dueMs }

// Swap implements sort.Interface.
func (w waiting) Swap(i, j int) {
	w[i], w[j] = w[j], w[i]
	w[i].pos, w[j].pos = int32(i), int32(j)
}

// Push implements heap.Interface.
func (w *waiting) Push(x any) {
	e := x.(*entry)
	e.pos, e.where = int32(len(*w)), inHeap
	*w = append(*w, e)
}

// Pop implements heap.Interface.
func (w *waiting) Pop() any {
	old := *w
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*w = old[:len(old)-1]
	e.pos = -1
	return e
}

// ring is a queue in one slice whose memory is used again.
type ring[T any] struct {
	list []T
	head int
}

func (r *ring[T]) len() int { return len(r.list) - r.head }

func (r *ring[T]) push(v T) {
	if r.head > 0 && len(r.list) == cap(r.list) && r.head >= len(r.list)/2 {
		n := copy(r.list, r.list[r.head:])
		clear(r.list[n:])
		r.list, r.head = r.list[:n], 0
	}
	r.list = append(r.list, v)
}

func (r *ring[T]) pop() T {
	var none T
	v := r.list[r.head]
	r.list[r.head] = none
	if r.head++; r.head == len(r.list) {
		r.list, r.head = nil, 0
	}
	return v
}
