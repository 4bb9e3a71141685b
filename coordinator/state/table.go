package state

import "github.com/hashicorp/go-memdb"

// table is what a Txn read and changed in one memdb table. Commands come back to
// the rows that they read, and each read of memdb costs several allocations.
type table[K comparable, Row any] struct {
	name  string
	byKey map[K]int // place in edits; never ranged over
	edits []edit[Row]
}

// keptEdits is how many rows a transaction may have touched for its map to be used
// again. Clearing a map costs what it once grew to: after a replay of thousands of
// entries at a time each small batch would pay for them.
const keptEdits = 1024

// edit is one row before the transaction and as it is now; nil: it is not there.
type edit[Row any] struct {
	before, after *Row
	written       bool // else it was only read
	announced     bool
}

func (t *table[K, Row]) reset(name string) {
	t.name = name
	if t.byKey == nil || len(t.byKey) > keptEdits {
		t.byKey = make(map[K]int)
	}
	clear(t.byKey)
	clear(t.edits)
	t.edits = t.edits[:0]
}

// edited returns the row as this transaction left it, if it wrote it.
func (t *table[K, Row]) edited(key K) (*Row, bool) {
	at, ok := t.byKey[key]
	if !ok || !t.edits[at].written {
		return nil, false
	}
	return t.edits[at].after, true
}

// get reads through the edits.
func (t *table[K, Row]) get(base *View, key K) *Row { return t.edits[t.place(base, key)].after }

// place returns where the row is in edits, after reading it if need be.
func (t *table[K, Row]) place(base *View, key K) int {
	at, ok := t.byKey[key]
	if !ok {
		own := key // only a key that is looked up goes to the heap
		row := first[Row](base.tables, t.name, &own)
		at = len(t.edits)
		t.byKey[key] = at
		t.edits = append(t.edits, edit[Row]{before: row, after: row})
	}
	return at
}

// put records a row. It returns the edit's place and whether the transaction
// writes the row for the first time.
func (t *table[K, Row]) put(base *View, key K, row *Row) (at int, fresh bool) {
	at = t.place(base, key)
	e := &t.edits[at]
	fresh = !e.written
	e.after, e.written = row, true
	return at, fresh
}

// announce marks an edit for subscribers and reports whether it was not yet.
func (t *table[K, Row]) announce(at int) bool {
	was := t.edits[at].announced
	t.edits[at].announced = true
	return !was
}

// write brings the edits into memdb.
func (t *table[K, Row]) write(db *memdb.Txn) {
	for _, e := range t.edits {
		switch {
		case !e.written:
		case e.after != nil:
			must(db.Insert(t.name, e.after))
		case e.before != nil:
			must(db.Delete(t.name, e.before))
		}
	}
}
