package agent

import (
	"bytes"
	"slices"
	"sync"

	"windlass/protocol"
)

// maxDocuments bounds the endpoint documents that are kept; one that was
// dropped is simply sent again.
const maxDocuments = 1000

// table is what the agent has: its attempts, what it gives back, and the
// endpoint documents it knows. The held set of every request comes from here.
type table struct {
	slots int

	mu        sync.Mutex
	attempts  map[protocol.HeldAttempt]*attempt
	rejects   []protocol.Reject
	documents map[string]protocol.Endpoint
	draining  bool
	changed   chan struct{} // closed and replaced with every change
}

func newTable(slots int) *table {
	return &table{
		slots: slots, attempts: make(map[protocol.HeldAttempt]*attempt),
		documents: make(map[string]protocol.Endpoint), changed: make(chan struct{}),
	}
}

func (t *table) notify() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// add registers an attempt; false if it is known already.
func (t *table) add(a *attempt) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts[a.id] != nil {
		return false
	}
	t.attempts[a.id] = a
	t.notify()
	return true
}

// remove forgets an attempt that was answered, given back or dropped.
func (t *table) remove(a *attempt) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.attempts[a.id] == a {
		delete(t.attempts, a.id)
		t.notify()
	}
}

// reject gives an assignment back with the next sync.
func (t *table) reject(r protocol.Reject) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejects = append(t.rejects, r)
	t.notify()
}

// rejected forgets the first n rejections, which were delivered.
func (t *table) rejected(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rejects = slices.Delete(t.rejects, 0, n)
	t.notify()
}

func (t *table) get(k protocol.HeldAttempt) *attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.attempts[k]
}

// renumber moves an attempt to a new number (DESIGN 3.3, Adopt).
func (t *table) renumber(from protocol.HeldAttempt, to uint32) *attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	a := t.attempts[from]
	if a == nil {
		return nil
	}
	delete(t.attempts, from)
	a.id.Attempt = to
	t.attempts[a.id] = a
	t.notify()
	return a
}

// list returns the attempts in a stable order, so that replays go oldest first.
func (t *table) list() []*attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]*attempt, 0, len(t.attempts))
	for _, a := range t.attempts {
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b *attempt) int { return bytes.Compare(a.id.Job[:], b.id.Job[:]) })
	return out
}

// key is the attempt's present number; the table owns it.
func (t *table) key(a *attempt) protocol.HeldAttempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	return a.id
}

// held lists every attempt that is not in except.
func (t *table) held(except []protocol.Finish) []protocol.HeldAttempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make([]protocol.HeldAttempt, 0, len(t.attempts))
	for k := range t.attempts {
		if !slices.ContainsFunc(except, func(f protocol.Finish) bool { return f.Job == k.Job && f.Attempt == k.Attempt }) {
			out = append(out, k)
		}
	}
	slices.SortFunc(out, func(a, b protocol.HeldAttempt) int { return bytes.Compare(a.Job[:], b.Job[:]) })
	return out
}

// document returns the endpoint document of one revision, by its EndpointName.
func (t *table) document(name string, revision uint64) (protocol.Endpoint, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	d, ok := t.documents[name]
	return d, ok && d.Revision == revision
}

func (t *table) learn(docs []protocol.Endpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, d := range docs {
		t.documents[protocol.EndpointName(d.Org, d.ID)] = d
	}
	for name := range t.documents {
		if len(t.documents) <= maxDocuments {
			break
		}
		if !slices.ContainsFunc(docs, func(d protocol.Endpoint) bool { return protocol.EndpointName(d.Org, d.ID) == name }) {
			delete(t.documents, name)
		}
	}
}

func (t *table) revisions() map[string]uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	out := make(map[string]uint64, len(t.documents))
	for name, d := range t.documents {
		out[name] = d.Revision
	}
	return out
}

func (t *table) pendingRejects() []protocol.Reject {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.rejects)
}

func (t *table) drain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
	t.notify()
}

func (t *table) isDraining() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.draining
}

// empty reports whether nothing is held or waits to be given back; the channel
// closes with the next change.
func (t *table) empty() (bool, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.attempts) == 0 && len(t.rejects) == 0, t.changed
}
