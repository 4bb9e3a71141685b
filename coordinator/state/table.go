package state

import "github.com/hashicorp/go-memdb"

// table is what a Txn changed in one memdb table.
type table[K comparable, Row any] struct {
	name  string
	byKey map[K]int // place in edits; never ranged over
	edits []edit[Row]
}

// edit is one row before the transaction and as it is now; nil: it is not there.
type edit[Row any] struct {
	before, after *Row
	announced     bool
}

func (t *table[K, Row]) reset(name string) {
	t.name = name
	if t.byKey == nil {
		t.byKey = make(map[K]int)
	}
	clear(t.byKey)
	clear(t.edits)
	t.edits = t.edits[:0]
}

// edited returns the row as this transaction left it.
func (t *table[K, Row]) edited(key K) (*Row, bool) {
	at, ok := t.byKey[key]
	if !ok {
		return nil, false
	}
	return t.edits[at].after, true
}

// get reads through the edits; boxed is the key, converted once by the caller.
func (t *table[K, Row]) get(base *View, key K, boxed any) *Row {
	if row, ok := t.edited(key); ok {
		return row
	}
	return first[Row](base.tables, t.name, boxed)
}

// put records a row; before is what get returned. It returns the edit's place
// and whether the transaction touches the row for the first time.
func (t *table[K, Row]) put(key K, before, after *Row) (at int, fresh bool) {
	if at, ok := t.byKey[key]; ok {
		t.edits[at].after = after
		return at, false
	}
	t.byKey[key] = len(t.edits)
	t.edits = append(t.edits, edit[Row]{before: before, after: after})
	return len(t.edits) - 1, true
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
		case e.after != nil:
			must(db.Insert(t.name, e.after))
		case e.before != nil:
			must(db.Delete(t.name, e.before))
		}
	}
}
