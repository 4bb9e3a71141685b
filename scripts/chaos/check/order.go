package check

import (
	"cmp"
	"slices"
	"time"

	"windlass/coordinator/command"
	"windlass/protocol"
	"windlass/scripts/chaos/record"
)

// A grant is decided by what its leader had applied, and enters the log behind
// what was under way then: at most two entries in flight, and eight full ones of
// commands that wait (consensus/proposer.go). Between the decision and the log
// there is a goroutine, which a machine may hold up. So a better job must have
// waited for longer than that, in entries and in time, and go on waiting: two
// grants that are decided one after the other may change places.
const (
	orderEntries = 16
	orderTime    = time.Second
)

// rank is a job's place: priority, then its first submission.
type rank struct {
	priority uint32
	index    uint64
	position int
}

func (a rank) compare(b rank) int {
	return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.index, b.index), cmp.Compare(a.position, b.position))
}

// waiter is a job that waits for a grant.
type waiter struct {
	task      string
	endpoint  string
	rank      rank
	again     bool  // it had a lease before
	notBefore int64 // on the log's clock
	entry     int   // since when it could have been granted: the number of entries then,
	at        int64 // and the time
	waits     bool
}

// order is I10: no job is granted while a better one of the same endpoint, which
// every agent that takes the one takes too, has been waiting.
type order struct {
	r       *Report
	h       *record.History
	agents  map[string]bool // by name; what is done to one disturbs no coordinator
	entry   int
	at      int64
	clock   int64
	waiting map[string][]*waiter // by endpoint, the best first
	delayed []*waiter
	doubts  []doubt
}

// doubt is a grant over a better job's head that becomes a violation when the
// better one is not granted either, some entries later.
type doubt struct {
	index   uint64
	granted *waiter
	better  *waiter
	waited  int64
	entry   int
}

func newOrder(r *Report, h *record.History) *order {
	o := &order{r: r, h: h, agents: make(map[string]bool), waiting: make(map[string][]*waiter)}
	for _, run := range h.Runs {
		o.agents[run.Agent] = true
	}
	return o
}

// begin begins an entry.
func (o *order) begin(at, clock int64) {
	o.entry++
	o.at, o.clock = max(o.at, at), max(o.clock, clock)
	o.delayed = slices.DeleteFunc(o.delayed, func(w *waiter) bool {
		if w.waits && w.notBefore <= o.clock {
			w.entry, w.at = o.entry, o.at
		}
		return !w.waits || w.notBefore <= o.clock
	})
	o.doubts = slices.DeleteFunc(o.doubts, func(d doubt) bool {
		if d.better.waits && d.better.entry <= d.entry && o.entry-d.entry >= orderEntries {
			o.r.add("I10", "entry %d granted %s although %s, which comes first, had been waiting for %s and was not granted after it either",
				d.index, d.granted.task, d.better.task, seconds(d.waited))
		}
		return !d.better.waits || d.better.entry > d.entry || o.entry-d.entry >= orderEntries
	})
}

func newWaiter(c *command.Submit, job protocol.JobID, at rank) *waiter {
	return &waiter{task: job.String(), endpoint: c.GetEndpoint(), rank: at}
}

// wait puts a job, new or returned, into its place.
func (o *order) wait(w *waiter, notBefore int64) {
	if w.waits {
		return
	}
	w.waits, w.notBefore, w.entry, w.at = true, notBefore, o.entry, o.at
	if notBefore > o.clock {
		o.delayed = append(o.delayed, w)
	}
	list := o.waiting[w.endpoint]
	i, _ := slices.BinarySearchFunc(list, w, func(a, b *waiter) int { return a.rank.compare(b.rank) })
	o.waiting[w.endpoint] = slices.Insert(list, i, w)
}

// leave takes a job that waits out of its queue: it was granted, or has ended.
func (o *order) leave(w *waiter) {
	if !w.waits {
		return
	}
	w.waits, w.again = false, true
	list := o.waiting[w.endpoint]
	if i, found := slices.BinarySearchFunc(list, w, func(a, b *waiter) int { return a.rank.compare(b.rank) }); found {
		o.waiting[w.endpoint] = slices.Delete(list, i, i+1)
	}
}

// grant is a lease that was chosen from the queue.
func (o *order) grant(w *waiter, index uint64) {
	if !w.waits {
		return
	}
	o.leave(w)
	for _, better := range o.waiting[w.endpoint] {
		if better.rank.compare(w.rank) > 0 {
			return
		}
		if o.couldHave(better) {
			o.doubts = append(o.doubts, doubt{index: index, granted: w, better: better, waited: o.at - better.at, entry: o.entry})
		}
	}
}

// couldHave reports whether a job waited for so long that every decision of now
// knew it.
func (o *order) couldHave(w *waiter) bool {
	if w.notBefore > o.clock || o.entry-w.entry < orderEntries {
		return false
	}
	from := w.at
	for _, f := range o.h.Faults {
		if f.At > o.at || o.onlyAgents(f) {
			continue
		}
		if f.Until == 0 || f.Until >= o.at {
			return false // a leader that is slow, or stopped, may say late what it decided
		}
		from = max(from, f.Until)
	}
	return o.at-from-o.h.Stolen(from, o.at) >= int64(orderTime)
}

func (o *order) onlyAgents(f record.Fault) bool {
	return len(f.Target) > 0 && !slices.ContainsFunc(f.Target, func(name string) bool { return !o.agents[name] })
}

// register: what a returned agent held may be kept for it until it has
// registered, so for that long it waits for nobody else.
func (o *order) register() {
	for _, list := range o.waiting {
		for _, w := range list {
			if w.again {
				w.entry, w.at = o.entry, o.at
			}
		}
	}
}
